-- Miss-ratio curve of LRU estimated from a fixed number of pages (fixed-size SHARDS): memory that never grows.
--
-- Begins with every page; where there are more than asked for, those with the greatest hashes go and the rate falls. As good
-- as mrc_sampled at the rate it ends with.
--
-- Arguments:
--   pages uint64 [8192]: pages to sample at most
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   pages uint64: size of the memory in pages; 0 comes first
--   miss_ratio double: estimate of misses / references, from this size to the next
--   refs uint64: references in all
--   sampled_refs uint64: of them, to sampled pages
--   sampled_pages uint64: sampled pages
--   blind_gap_ns int64: gaps shorter than this are invisible in this capture, see recorder_limits; null: no such limit
--   blind_distance int64: distances below this are invisible; null: no such limit
--   lost uint64: what the whole capture lost: distances over it are too small
CREATE VIEW mrc_fixed AS
SELECT d.capture_id, d.pages, d.miss_ratio, d.refs, d.sampled_refs, d.sampled_pages,
       l.blind_gap_ns, l.blind_distance, coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _sampled_misses($condition, NULL, $pages) d
LEFT JOIN recorder_limits l ON l.capture_id = d.capture_id
ORDER BY d.capture_id, d.pages;
