-- Named objects by number of references, the hottest first.
--
-- References as in page_references. Every row has a path; anonymous memory is in object_irf.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: the file, see objects
--   path text: its path as captured
--   object_kind text: file, or shmem with a name
--   refs int64: references to its pages
--   pages int64: distinct pages referenced
--   reads int64: references known to read
--   writes int64: references known to write
--   execs int64: references known to execute
--   processes int64: distinct process incarnations that referenced it
--   lost uint64: what the whole capture lost; any of it may have been this file's
CREATE VIEW hot_files AS
SELECT o.capture_id, o.object_id, o.path, o.object_kind, o.refs, o.pages, o.reads, o.writes, o.execs,
       u.processes, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _tally($condition, 'object') o
JOIN (
    SELECT capture_id, object_id, count(*) AS processes
    FROM _tally($condition, 'process') WHERE path IS NOT NULL
    GROUP BY capture_id, object_id
) u ON u.capture_id = o.capture_id AND u.object_id = o.object_id
LEFT JOIN captures c ON c.capture_id = o.capture_id
WHERE o.path IS NOT NULL
ORDER BY o.refs DESC, o.capture_id, o.object_id;
