-- Reuse distance of every reference: distinct other pages referenced since the last reference to the same page. Exact.
--
-- Counts what the dataset holds (and the condition admits), in order of seq. A page's first reference has none. Takes memory
-- for each distinct page, some 24 bytes where pages lie together, some 150 where they are scattered; it says so when that is
-- more than there is (mrc_sampled and mrc_aet take less).
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   seq uint64: position of the reference
--   object_id uint64: what backs the page
--   page uint64: page index in the object
--   reuse_distance uint64: distinct other pages since; null: first reference
CREATE VIEW reuse_distance AS
SELECT capture_id, seq, object_id, page, reuse_distance FROM _reuse_distances($condition);
