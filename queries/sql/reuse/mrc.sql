-- Miss-ratio curve: share of references that miss in an LRU-managed memory, at every size. Exact.
--
-- A reference misses in a memory of c pages if its reuse distance is c or more, or if it is the first to its page. There is
-- a row for each size at which the ratio falls; between two rows it is that of the smaller size. Memory as reuse_distance.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   pages uint64: size of the memory in pages; 0 comes first
--   miss_ratio double: misses / references, from this size to the next
--   misses uint64: references that miss
--   refs uint64: references in all
--   blind_gap_ns int64: gaps shorter than this are invisible in this capture, see recorder_limits; null: no such limit
--   blind_distance int64: distances below this are invisible; null: no such limit
--   lost uint64: what the whole capture lost: distances over it are too small
CREATE VIEW mrc AS
SELECT d.capture_id, d.pages, d.misses / CAST(d.refs AS DOUBLE) AS miss_ratio, d.misses, d.refs,
       l.blind_gap_ns, l.blind_distance, coalesce(l.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _misses($condition) d
LEFT JOIN recorder_limits l ON l.capture_id = d.capture_id
ORDER BY d.capture_id, d.pages;
