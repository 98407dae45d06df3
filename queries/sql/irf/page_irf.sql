-- Inter-reference frequency (IRF) of every page that was referenced at least twice.
--
-- n references to a page have n-1 gaps D = seq of the next reference to it - seq of this one.
-- irf_rate is re-references of the page per reference of the capture; it is 1 / gap_mean.
-- irf_mean_inverse gives short gaps more weight; irf_readme is the 2005 kit's formula as written.
-- On the clock ts a gap counts at least 1 ns (two CPUs' times may be equal or step back).
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: what backs the page
--   path text: its path; null: it has none
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
CREATE VIEW page_irf AS
SELECT capture_id, object_id, path, page, refs,
       gap_mean, irf_rate, irf_mean_inverse, irf_readme,
       gap_mean_ns, irf_rate_ns, irf_mean_inverse_ns, irf_readme_ns
FROM _page_irf($condition)
WHERE refs >= 2;
