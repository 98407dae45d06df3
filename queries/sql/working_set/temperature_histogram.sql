-- How hot pages are: pages by references a second of the capture, in powers of two.
--
-- A page's temperature is its references over the length of the capture. Empty buckets have no row.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   temperature_low double: references a second: at least this
--   temperature_high double: and below this
--   pages int64: pages in the bucket
--   bytes int64: their size at 4 KiB a page
--   refs int64: references to them
--   lost uint64: what the whole capture lost: temperatures may be too low
CREATE VIEW temperature_histogram AS
SELECT h.capture_id, power(2e0, h.magnitude) AS temperature_low, power(2e0, h.magnitude + 1) AS temperature_high,
       h.pages, h.pages * 4096 AS bytes, h.refs, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM (
    SELECT capture_id, floor(log2(temperature)) AS magnitude, count(*) AS pages, sum(refs) AS refs
    FROM (
        SELECT p.capture_id, p.refs,
               p.refs / (greatest(CAST(c.end_ts AS BIGINT) - CAST(c.start_ts AS BIGINT), 1) / 1e9) AS temperature
        FROM _page_gaps($condition) p JOIN captures c ON c.capture_id = p.capture_id
    )
    GROUP BY capture_id, floor(log2(temperature))
) h
LEFT JOIN captures c ON c.capture_id = h.capture_id
ORDER BY h.capture_id, h.magnitude;
