-- The IRF figures of every page, null for a page referenced once. page_irf explains them.
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: what backs the page
--   path text: its path; null: it has none
--   object_kind text: file, anon, heap, ..
--   page uint64: page index in the object
--   refs int64: references to the page, n
--   gap_mean double: sum(D) / (n-1), in references
--   irf_rate double: (n-1) / sum(D)
--   irf_mean_inverse double: mean of 1/D
--   irf_readme double: sum(1/D) / n
--   gap_mean_ns double: gap_mean on the clock, in ns
--   irf_rate_ns double: irf_rate on the clock, in 1/ns
--   irf_mean_inverse_ns double: irf_mean_inverse on the clock, in 1/ns
--   irf_readme_ns double: irf_readme on the clock, in 1/ns
CREATE VIEW _page_irf AS
SELECT capture_id, object_id, path, object_kind, page, refs,
       CAST(gap_sum AS DOUBLE) / (refs - 1) AS gap_mean,
       (refs - 1) / CAST(gap_sum AS DOUBLE) AS irf_rate,
       inverse_sum / (refs - 1) AS irf_mean_inverse,
       inverse_sum / refs AS irf_readme,
       CAST(gap_sum_ns AS DOUBLE) / (refs - 1) AS gap_mean_ns,
       (refs - 1) / CAST(gap_sum_ns AS DOUBLE) AS irf_rate_ns,
       inverse_sum_ns / (refs - 1) AS irf_mean_inverse_ns,
       inverse_sum_ns / refs AS irf_readme_ns
FROM (
    SELECT capture_id, object_id, min(path) AS path, min(object_kind) AS object_kind, page,
           count(*) AS refs,
           sum(gap) AS gap_sum,
           sum(1e0 / gap) AS inverse_sum,
           sum(gap_ns) AS gap_sum_ns,
           sum(1e0 / gap_ns) AS inverse_sum_ns
    FROM _gaps
    GROUP BY capture_id, object_id, page
);
