-- Miss-ratio curve of LRU modelled from reuse times alone (average eviction time), in one cheap pass.
--
-- With P(t) the share of references whose page comes back after more than t references or never, a memory of
-- P(0) + .. + P(T-1) pages has miss ratio P(T). Spills where pages are many. A model, not an exact figure: it assumes that
-- references to different pages are independent; mrc is exact.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   pages uint64: size of the memory in pages; 0 comes first
--   miss_ratio double: modelled misses / references, from this size to the next
--   refs uint64: references in all
--   blind_gap_ns int64: gaps shorter than this are invisible in this capture, see recorder_limits; null: no such limit
--   blind_distance int64: distances below this are invisible; null: no such limit
--   lost uint64: what the whole capture lost: distances over it are too small
CREATE VIEW mrc_aet AS
SELECT d.capture_id, d.pages, d.miss_ratio, d.refs,
       l.blind_gap_ns, l.blind_distance, coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _aet_curve($condition) d
LEFT JOIN recorder_limits l ON l.capture_id = d.capture_id
ORDER BY d.capture_id, d.pages;
