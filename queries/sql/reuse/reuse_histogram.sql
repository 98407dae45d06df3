-- How often which reuse distance occurred, in powers of two. Exact.
--
-- The first bucket holds distance 0, the next 1, then 2 to 3, 4 to 7 and so on. The row without a bucket counts first
-- references, which have no distance. Empty buckets have no row. Memory as reuse_distance.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   bucket_low uint64: distances of at least this; null: first references
--   bucket_high uint64: and below this
--   refs uint64: references with such a distance
--   share double: of all references
--   blind_gap_ns int64: gaps shorter than this are invisible in this capture, see recorder_limits; null: no such limit
--   blind_distance int64: distances below this are invisible; null: no such limit
--   lost uint64: what the whole capture lost: distances over it are too small
CREATE VIEW reuse_histogram AS
SELECT d.capture_id, d.bucket_low, d.bucket_high, d.refs,
       d.refs / CAST(sum(d.refs) OVER (PARTITION BY d.capture_id) AS DOUBLE) AS share,
       l.blind_gap_ns, l.blind_distance, coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM (
    SELECT capture_id, bucket_low,
           CASE WHEN bucket_low = 0 THEN CAST(1 AS BIGINT UNSIGNED) ELSE CAST(2 AS BIGINT UNSIGNED) * bucket_low END AS bucket_high,
           sum(refs) AS refs
    FROM (
        SELECT capture_id, refs,
               CASE WHEN reuse_distance = 0 THEN CAST(0 AS BIGINT UNSIGNED)
                    ELSE CAST(power(2e0, floor(log2(CAST(reuse_distance AS DOUBLE)))) AS BIGINT UNSIGNED) END AS bucket_low
        FROM _reuse_counts($condition)
    )
    GROUP BY capture_id, bucket_low
) d
LEFT JOIN recorder_limits l ON l.capture_id = d.capture_id
ORDER BY d.capture_id, d.bucket_low NULLS LAST;
