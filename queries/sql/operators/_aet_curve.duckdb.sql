-- Sizes are whole pages: of those that several T give, the last T counts.
CREATE OR REPLACE MACRO _aet_curve("condition" := 'true') AS TABLE
SELECT capture_id, 0 AS pages, 1e0 AS miss_ratio, count(*) AS refs FROM _references("condition") GROUP BY capture_id
UNION ALL
SELECT capture_id, pages, arg_max(above / CAST(refs AS DOUBLE), high), any_value(refs)
FROM (SELECT *, round((within + high * CAST(above AS DOUBLE)) / CAST(refs AS DOUBLE)) AS pages FROM _spans("condition", true))
WHERE pages > 0 GROUP BY capture_id, pages;
