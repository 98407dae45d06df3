-- IRF of each object (a file, or one process's anonymous memory): averages over its pages.
--
-- Only pages referenced at least twice have an IRF and enter the averages; without any they are null.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: the object, see objects
--   path text: its path; null: it has none
--   object_kind text: file, anon, heap, ..
--   pages int64: distinct pages referenced
--   pages_once int64: of them, referenced exactly once
--   refs int64: references to all its pages
--   gap_mean double: mean of page_irf.gap_mean over those pages, in references
--   gap_mean_weighted double: the same, each page weighing its references
--   irf_rate double: mean of page_irf.irf_rate over those pages, in 1/references
--   irf_rate_weighted double: the same, each page weighing its references
--   irf_mean_inverse double: mean of page_irf.irf_mean_inverse over those pages, in 1/references
--   irf_mean_inverse_weighted double: the same, each page weighing its references
--   irf_readme double: mean of page_irf.irf_readme over those pages, in 1/references
--   irf_readme_weighted double: the same, each page weighing its references
--   gap_mean_ns double: mean of page_irf.gap_mean_ns over those pages, in ns
--   gap_mean_ns_weighted double: the same, each page weighing its references
--   irf_rate_ns double: mean of page_irf.irf_rate_ns over those pages, in 1/ns
--   irf_rate_ns_weighted double: the same, each page weighing its references
--   irf_mean_inverse_ns double: mean of page_irf.irf_mean_inverse_ns over those pages, in 1/ns
--   irf_mean_inverse_ns_weighted double: the same, each page weighing its references
--   irf_readme_ns double: mean of page_irf.irf_readme_ns over those pages, in 1/ns
--   irf_readme_ns_weighted double: the same, each page weighing its references
--   lost uint64: what the whole capture lost; any of it may have been this object's
CREATE VIEW object_irf AS
SELECT o.*, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM (
    SELECT capture_id, object_id, min(path) AS path, min(object_kind) AS object_kind,
           count(*) AS pages,
           count(*) FILTER (WHERE refs = 1) AS pages_once,
           sum(refs) AS refs,
           avg(gap_mean) AS gap_mean, sum(gap_mean * weight) / sum(weight) AS gap_mean_weighted,
           avg(irf_rate) AS irf_rate, sum(irf_rate * weight) / sum(weight) AS irf_rate_weighted,
           avg(irf_mean_inverse) AS irf_mean_inverse, sum(irf_mean_inverse * weight) / sum(weight) AS irf_mean_inverse_weighted,
           avg(irf_readme) AS irf_readme, sum(irf_readme * weight) / sum(weight) AS irf_readme_weighted,
           avg(gap_mean_ns) AS gap_mean_ns, sum(gap_mean_ns * weight) / sum(weight) AS gap_mean_ns_weighted,
           avg(irf_rate_ns) AS irf_rate_ns, sum(irf_rate_ns * weight) / sum(weight) AS irf_rate_ns_weighted,
           avg(irf_mean_inverse_ns) AS irf_mean_inverse_ns, sum(irf_mean_inverse_ns * weight) / sum(weight) AS irf_mean_inverse_ns_weighted,
           avg(irf_readme_ns) AS irf_readme_ns, sum(irf_readme_ns * weight) / sum(weight) AS irf_readme_ns_weighted
    FROM (SELECT *, CASE WHEN refs >= 2 THEN refs END AS weight FROM _page_irf($condition))
    GROUP BY capture_id, object_id
) o
LEFT JOIN captures c ON c.capture_id = o.capture_id;
