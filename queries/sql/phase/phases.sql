-- Phases of each process: stretches in which it does the same with nearly the same pages.
--
-- A process's references are cut in windows. Each has a set of pages and a dominant pattern (that of most of its references).
-- A phase is a maximal run of windows with the same pattern in which neighbours' sets A and B differ by
-- |symmetric difference| / |union| <= 0.5. It repeats an earlier one that has the same pattern and nearly the same pages.
--
-- Arguments:
--   window uint64 [1000]: references of the process in one window
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   upid uint64: the process incarnation, see processes
--   pid uint32: its pid
--   comm text: its command name
--   phase uint64: number of the phase in its process, from 1
--   from_seq uint64: first reference of the process in it
--   to_seq uint64: last reference of the process in it
--   windows uint64: windows in it
--   working_set_pages uint64: distinct pages referenced in it
--   exact boolean: whether they were counted; false: more than 4096, estimated to some 1.6 %
--   pattern text: dominant pattern, see patterns
--   repeats uint64: the first earlier phase of the process that it repeats; null: none
--   lost uint64: what the whole capture lost
CREATE VIEW phases AS
SELECT p.capture_id, p.upid, r.pid, r.comm, p.phase, p.from_seq, p.to_seq, p.windows, p.working_set_pages, p.exact, p.pattern,
       p.repeats, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _phases($condition, $window) p
LEFT JOIN processes r ON r.capture_id = p.capture_id AND r.upid = p.upid
LEFT JOIN captures c ON c.capture_id = p.capture_id
ORDER BY p.capture_id, p.upid, p.phase;
