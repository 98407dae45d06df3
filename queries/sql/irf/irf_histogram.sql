-- How many of an object's pages are re-referenced how often: pages by irf_rate, in powers of two.
--
-- The bucket (1/8, 1/4] holds pages that come back every 4 to 8 references: gap_mean in [4, 8).
-- Pages referenced once have no IRF and are not counted; empty buckets have no row.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: the object, see objects
--   path text: its path; null: it has none
--   bucket_low double: irf_rate is above this
--   bucket_high double: and at most this, a power of two
--   gap_low double: the same bucket as gap_mean, in references: at least this
--   gap_high double: and below this
--   pages int64: pages in the bucket
--   lost uint64: what the whole capture lost; any of it may have been this object's
CREATE VIEW irf_histogram AS
SELECT h.capture_id, h.object_id, h.path,
       power(2e0, -1 - h.magnitude) AS bucket_low,
       power(2e0, -h.magnitude) AS bucket_high,
       power(2e0, h.magnitude) AS gap_low,
       power(2e0, 1 + h.magnitude) AS gap_high,
       h.pages,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _gap_histogram($condition, 'refs') h
LEFT JOIN captures c ON c.capture_id = h.capture_id
ORDER BY h.capture_id, h.object_id, h.magnitude;
