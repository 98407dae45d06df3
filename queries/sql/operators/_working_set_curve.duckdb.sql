-- s(T) = (1/N) * sum(min(T, span)).
CREATE OR REPLACE MACRO _working_set_curve("condition" := 'true') AS TABLE
SELECT capture_id, high AS window_refs, (within + CAST(high AS HUGEINT) * above) / CAST(refs AS DOUBLE) AS pages, refs
FROM _spans("condition", false);
