-- References that miss at each size at which their number falls: one page more than a distance that occurs.
CREATE OR REPLACE MACRO _misses("condition" := 'true') AS TABLE
WITH counts AS (
    SELECT capture_id, reuse_distance, refs, sum(refs) OVER (PARTITION BY capture_id) AS total,
           sum(refs) OVER (PARTITION BY capture_id ORDER BY reuse_distance NULLS LAST) AS hits
    FROM _reuse_counts("condition")
)
SELECT DISTINCT capture_id, 0 AS pages, total AS misses, total AS refs FROM counts
UNION ALL
SELECT capture_id, reuse_distance + 1, total - hits, total FROM counts WHERE reuse_distance IS NOT NULL;
