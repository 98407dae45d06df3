-- How long pages are not referenced, counted in buckets (16 an octave, ending at `high`), each bucket up to the longest.
-- A page's last reference lasts to the end of the capture, or with `endless` for ever: then it is above all buckets.
-- At T = high: `above` are longer, and `within` is the sum of those that are not.
CREATE OR REPLACE MACRO _spans("condition", endless) AS TABLE
WITH placed AS (
    SELECT capture_id, object_id, page, seq, row_number() OVER (PARTITION BY capture_id ORDER BY seq) AS place,
           count(*) OVER (PARTITION BY capture_id) AS refs
    FROM _references("condition")
), spans AS (
    SELECT capture_id, refs,
           coalesce(lead(place) OVER (PARTITION BY capture_id, object_id, page ORDER BY seq),
                    CASE WHEN NOT endless THEN refs + 1 END) - place AS span
    FROM placed
), shifted AS (
    SELECT *, CASE WHEN span > 16 THEN CAST(floor(log2(span - 1)) AS INTEGER) - 4 END AS shift FROM spans
), bucketed AS (
    SELECT capture_id, refs, span, CASE WHEN span <= 16 THEN span - 1 ELSE 16 * shift + ((span - 1) >> shift) END AS bucket
    FROM shifted
), counted AS (
    SELECT capture_id, any_value(refs) AS refs, bucket, count(*) AS count, sum(span) AS sum
    FROM bucketed WHERE span IS NOT NULL GROUP BY capture_id, bucket
), grid AS (
    SELECT capture_id, any_value(refs) AS refs, unnest(generate_series(0, max(bucket))) AS bucket FROM counted GROUP BY capture_id
)
SELECT g.capture_id, g.refs,
       CASE WHEN g.bucket < 16 THEN g.bucket + 1 ELSE (17 + g.bucket % 16) << CAST(g.bucket // 16 - 1 AS INTEGER) END AS high,
       coalesce(sum(c.sum) OVER so_far, 0) AS within,
       g.refs - coalesce(sum(c.count) OVER so_far, 0) AS above
FROM grid g LEFT JOIN counted c ON c.capture_id = g.capture_id AND c.bucket = g.bucket
WINDOW so_far AS (PARTITION BY g.capture_id ORDER BY g.bucket);
