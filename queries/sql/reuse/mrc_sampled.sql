-- Miss-ratio curve of LRU estimated from a share of the pages (SHARDS with its correction), in little memory.
--
-- Pages are sampled by a hash of their identity: all references to one are taken or none. Sizes below about 1 / rate pages are
-- not resolved. At a million pages and rate 0.01 the mean error of the ratio is below 0.005 (bench/README.md).
--
-- Arguments:
--   rate double: share of pages to sample, above 0 and at most 1
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
CREATE VIEW mrc_sampled AS
SELECT d.capture_id, d.pages, d.miss_ratio, d.refs, d.sampled_refs, d.sampled_pages,
       l.blind_gap_ns, l.blind_distance, coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _sampled_misses($condition, $rate, NULL) d
LEFT JOIN recorder_limits l ON l.capture_id = d.capture_id
ORDER BY d.capture_id, d.pages;
