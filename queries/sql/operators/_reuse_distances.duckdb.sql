-- Not quadratic: between a reference at place t and the last one to its page, at p, lie t - p - 1 references; of them those
-- count twice that are a second one to their page since p. They are the earlier ones whose own p is greater than this one's,
-- which a rank within the frame tells (DuckDB builds a merge sort tree for it).
CREATE OR REPLACE MACRO _reuse_distances("condition" := 'true') AS TABLE
WITH placed AS (
    SELECT capture_id, seq, object_id, page, row_number() OVER (PARTITION BY capture_id ORDER BY seq) AS place
    FROM _references("condition")
), linked AS (
    SELECT *, lag(place) OVER (PARTITION BY capture_id, object_id, page ORDER BY seq) AS last_place FROM placed
)
SELECT capture_id, seq, object_id, page,
       place - last_place - rank(ORDER BY last_place DESC)
           OVER (PARTITION BY capture_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS reuse_distance
FROM linked WHERE last_place IS NOT NULL
UNION ALL
SELECT capture_id, seq, object_id, page, NULL FROM linked WHERE last_place IS NULL;
