-- Working-set size in percentiles over the windows of a capture.
--
-- Windows as in working_set; those without references are not counted. A percentile is the least size that so many windows
-- do not exceed (nearest rank).
--
-- Arguments:
--   window any ['1s']: how long a window is: a time, or a number of references
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   percentile int64: 0, 25, 50, 75, 90, 95, 99 or 100
--   pages uint64: working-set size in pages
--   windows int64: windows with references
--   lost uint64: what the whole capture lost
CREATE VIEW wss_percentiles AS
WITH ranked AS (
    SELECT capture_id, pages, row_number() OVER (PARTITION BY capture_id ORDER BY pages) AS place,
           count(*) OVER (PARTITION BY capture_id) AS windows
    FROM _windows($condition, $window)
)
SELECT r.capture_id, CAST(p.percentile AS BIGINT) AS percentile, r.pages, r.windows,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM ranked r
JOIN (VALUES (0), (25), (50), (75), (90), (95), (99), (100)) AS p(percentile)
  ON r.place = greatest(1, ceil(r.windows * p.percentile / 100e0))
LEFT JOIN captures c ON c.capture_id = r.capture_id
ORDER BY r.capture_id, percentile;
