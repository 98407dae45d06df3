-- Processes by number of references, the busiest first.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   upid uint64: process incarnation, see processes
--   pid uint32: its pid
--   comm text: its command name as first seen
--   refs int64: references it made
--   faults int64: of them, faults on pages not present before
--   majors int64: of these, with I/O
--   pages int64: distinct pages it referenced
--   objects int64: distinct objects they belong to
--   lost uint64: what the whole capture lost; any of it may have been this process's
CREATE VIEW hot_processes AS
SELECT p.capture_id, p.upid, p.pid, p.comm, p.refs, p.faults, p.majors, p.pages, p.objects,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM (
    SELECT capture_id, upid, min(pid) AS pid, min(comm) AS comm, sum(refs) AS refs, sum(faults) AS faults,
           sum(majors) AS majors, sum(pages) AS pages, count(*) AS objects
    FROM _tally($condition, 'process')
    GROUP BY capture_id, upid
) p
LEFT JOIN captures c ON c.capture_id = p.capture_id
ORDER BY p.refs DESC, p.capture_id, p.upid;
