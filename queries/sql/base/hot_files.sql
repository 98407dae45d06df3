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
WITH by_page AS ( -- two plain GROUP BYs spill to disk; count(DISTINCT ..) would keep its sets in memory
    SELECT capture_id, object_id, min(path) AS path, min(object_kind) AS object_kind, page,
           count(*) AS refs,
           count(*) FILTER (WHERE access = 'read') AS reads,
           count(*) FILTER (WHERE access = 'write') AS writes,
           count(*) FILTER (WHERE access = 'exec') AS execs
    FROM _references($condition) WHERE path IS NOT NULL GROUP BY capture_id, object_id, page
), by_object AS (
    SELECT capture_id, object_id, min(path) AS path, min(object_kind) AS object_kind,
           sum(refs) AS refs, count(*) AS pages, sum(reads) AS reads, sum(writes) AS writes, sum(execs) AS execs
    FROM by_page GROUP BY capture_id, object_id
), users AS (
    SELECT capture_id, object_id, count(*) AS processes
    FROM (SELECT DISTINCT capture_id, object_id, upid FROM _references($condition) WHERE path IS NOT NULL)
    GROUP BY capture_id, object_id
)
SELECT o.capture_id, o.object_id, o.path, o.object_kind, o.refs, o.pages, o.reads, o.writes, o.execs,
       u.processes, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM by_object o
JOIN users u ON u.capture_id = o.capture_id AND u.object_id = o.object_id
LEFT JOIN captures c ON c.capture_id = o.capture_id
ORDER BY o.refs DESC, o.capture_id, o.object_id;
