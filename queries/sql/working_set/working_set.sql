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
SELECT capture_id, from_ts, to_ts, from_seq, to_seq, refs, pages, lost
FROM _windows($condition, $window)
ORDER BY capture_id, from_seq;
