-- How long ago pages were referenced last when the capture ended: pages by idle time, in powers of two of ms.
--
-- Pages idle for less than 1 ms are in the first bucket. Empty buckets have no row.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   idle_low_ms double: idle for at least this
--   idle_high_ms double: and below this
--   pages int64: pages in the bucket
--   bytes int64: their size at 4 KiB a page
--   lost uint64: what the whole capture lost: idle times may be too long
CREATE VIEW recency_histogram AS
SELECT h.capture_id, h.idle_low_ms, CASE WHEN h.idle_low_ms = 0 THEN 1e0 ELSE 2 * h.idle_low_ms END AS idle_high_ms,
       h.pages, h.pages * 4096 AS bytes, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM (
    SELECT capture_id, CASE WHEN idle_ms < 1 THEN 0e0 ELSE power(2e0, floor(log2(idle_ms))) END AS idle_low_ms, count(*) AS pages
    FROM (
        SELECT p.capture_id, (CAST(c.end_ts AS BIGINT) - CAST(p.last_ts AS BIGINT)) / 1e6 AS idle_ms
        FROM _page_gaps($condition) p JOIN captures c ON c.capture_id = p.capture_id
    )
    GROUP BY capture_id, CASE WHEN idle_ms < 1 THEN 0e0 ELSE power(2e0, floor(log2(idle_ms))) END
) h
LEFT JOIN captures c ON c.capture_id = h.capture_id
ORDER BY h.capture_id, h.idle_low_ms;
