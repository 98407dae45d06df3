-- What the references to each object follow, over the whole capture.
--
-- sequential: page after page, up or down. strided: by a constant step of more than one. looping: the same pages again and again
-- in nearly the same order. clustered: recently referenced pages are referenced again. skewed: some pages are much more popular.
-- random: none of it. one-shot: each page once, in no order. unknown: the references do not decide. How it is decided, and how
-- well: ARCHITECTURE.md and bench/README.md.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: the object, see objects
--   path text: its path; null: it has none
--   from_seq uint64: first reference of the string, whatever its object
--   to_seq uint64: last reference of the string
--   refs uint64: references to the object in it
--   pages uint64: distinct pages of it; an estimate where refs is above 16384
--   pattern text: sequential, strided, looping, clustered, skewed, random, one-shot or unknown
--   confidence double: 0 to 1: about the share of verdicts as clear as this one that are right
--   stride int64: the step that explains most first references, in pages; negative: downwards; null: none
--   direction int64: 1: pages mostly ascend, -1: descend; null: neither
--   period_pages int64: pages in the loop; null: no loop
--   period_refs int64: references a round; null: no loop
--   streams int64: streams told apart by thread or instruction; 1: one string explains all
--   first_share double: share of references that are the first to their page (a page in a row counts once)
--   stride_share double: share of first references that the stride explains
--   follow_share double: share of re-references that go where they went after the same page last time; null: not looked at
--   mean_rank double: mean AMP rank R of re-references; null: not looked at
--   shuffled_rank double: mean R of the same references shuffled; null: not looked at
--   top_share double: share of references that the most referenced tenth of the pages holds
--   second_share double: share of references in the lesser of two groups of pages of different popularity; null: not looked at
--   popularity_ratio double: how many times as popular the upper group is; null: not looked at
--   read_pattern text: the verdict on reads (and execs) alone, where there are writes, too
--   read_confidence double: its confidence
--   write_pattern text: the verdict on writes alone, where there are reads, too
--   write_confidence double: its confidence
--   lost uint64: what the whole capture lost; any of it may have been this object's
CREATE VIEW object_patterns AS
SELECT p.*, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _patterns($condition, NULL) p
LEFT JOIN captures c ON c.capture_id = p.capture_id
ORDER BY p.capture_id, p.object_id;
