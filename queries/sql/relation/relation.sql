-- How interleaved the references to two objects are.
--
-- The references to both, in order of seq, are a string of a and b. Taking turns (abab) gives interleave near 1 and a high
-- runs_z (Wald-Wolfowitz), one after the other (aabb) near 0 and a low one, random order a runs_z near 0. An object is named
-- by object_id or by path; all objects with that path count as one.
--
-- Arguments:
--   object_a any: an object_id, or a path
--   object_b any: the other
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_a uint64: one object, see objects
--   path_a text: its path; null: it has none
--   object_b uint64: the other
--   path_b text: its path; null: it has none
--   refs_a uint64: references to the one
--   refs_b uint64: references to the other
--   switches uint64: times that a reference to one is followed by one to the other, others left out
--   interleave double: switches / (2 * the lesser of refs_a and refs_b), at most 1; 0: one after the other; null: one has none
--   runs_z double: deviations of the number of runs from random order: below 0 fewer switches, above 0 more; null: not defined
--   lost uint64: what the whole capture lost
CREATE VIEW relation AS
SELECT r.capture_id, r.object_a, r.path_a, r.object_b, r.path_b, r.refs_a, r.refs_b, r.switches, r.interleave, r.runs_z,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _relation($condition, $object_a, $object_b) r
LEFT JOIN captures c ON c.capture_id = r.capture_id;
