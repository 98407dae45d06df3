-- The IRF figures of every page, null for a page referenced once. page_irf explains them.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
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
       CASE WHEN refs >= 2 THEN (last_seq - first_seq) / CAST(refs - 1 AS DOUBLE) END AS gap_mean,
       CASE WHEN refs >= 2 THEN (refs - 1) / CAST(last_seq - first_seq AS DOUBLE) END AS irf_rate,
       CASE WHEN refs >= 2 THEN inverse_sum / (refs - 1) END AS irf_mean_inverse,
       CASE WHEN refs >= 2 THEN inverse_sum / refs END AS irf_readme,
       CASE WHEN refs >= 2 THEN sum_ns / CAST(refs - 1 AS DOUBLE) END AS gap_mean_ns,
       CASE WHEN refs >= 2 THEN (refs - 1) / CAST(sum_ns AS DOUBLE) END AS irf_rate_ns,
       CASE WHEN refs >= 2 THEN inverse_sum_ns / (refs - 1) END AS irf_mean_inverse_ns,
       CASE WHEN refs >= 2 THEN inverse_sum_ns / refs END AS irf_readme_ns
FROM _page_gaps($condition);
