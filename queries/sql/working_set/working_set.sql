-- Working set over time: distinct pages of each window, one after the other.
--
-- A window is a time ('100ms', '1s'), which begins at whole multiples of itself, or a number of references of the dataset.
-- Windows without references have no row. Where CPUs' clocks step back, a reference counts to the window that is open.
-- Memory is for the pages of one window.
--
-- Arguments:
--   window any ['1s']: how long a window is: a time, or a number of references
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   from_ts timestamp: begin of the window, UTC
--   to_ts timestamp: its end
--   from_seq uint64: first reference in it
--   to_seq uint64: last reference in it
--   refs uint64: references in it
--   pages uint64: distinct pages referenced in it
--   lost uint64: references lost in losses that overlap it
CREATE VIEW working_set AS
SELECT w.capture_id, w.from_ts, w.to_ts, w.from_seq, w.to_seq, w.refs, w.pages,
       coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _windows($condition, $window) w
LEFT JOIN (
    SELECT w.capture_id, w.from_seq, sum(l.count) AS lost
    FROM (SELECT capture_id, count, from_ts, to_ts FROM losses WHERE count > 0) l
    JOIN _windows($condition, $window) w ON w.capture_id = l.capture_id AND l.from_ts <= w.to_ts AND l.to_ts >= w.from_ts
    GROUP BY w.capture_id, w.from_seq
) l ON l.capture_id = w.capture_id AND l.from_seq = w.from_seq
ORDER BY w.capture_id, w.from_seq;
