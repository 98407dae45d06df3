-- How many of an object's pages are re-referenced how often on the clock: pages by mean gap, in powers of two of ns.
--
-- As irf_histogram, by gap_mean_ns. Pages referenced once have no gap and are not counted; empty buckets have no row.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: the object, see objects
--   path text: its path; null: it has none
--   gap_low_ns double: mean gap in ns: at least this, a power of two
--   gap_high_ns double: and below this
--   pages int64: pages in the bucket
--   lost uint64: what the whole capture lost; any of it may have been this object's
CREATE VIEW irf_histogram_ns AS
SELECT h.capture_id, h.object_id, h.path,
       power(2e0, h.magnitude) AS gap_low_ns,
       power(2e0, 1 + h.magnitude) AS gap_high_ns,
       h.pages,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _gap_histogram($condition, 'ns') h
LEFT JOIN captures c ON c.capture_id = h.capture_id
ORDER BY h.capture_id, h.object_id, h.magnitude;
