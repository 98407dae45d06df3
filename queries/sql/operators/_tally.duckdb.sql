-- References and distinct pages of each object, or by 'process' of each object as each process referenced it. Process and names
-- are those of the first reference.
CREATE OR REPLACE MACRO _tally("condition", kind_of_key) AS TABLE
SELECT capture_id, f.upid AS upid, f.pid AS pid, f.comm AS comm, object_id, f.path AS path, f.object_kind AS object_kind,
       refs, pages, reads, writes, execs, faults, majors
FROM (
    SELECT capture_id, object_id, CASE WHEN kind_of_key = 'process' THEN upid END AS process,
           arg_min(struct_pack(upid, pid, comm, path, object_kind), seq) AS f,
           count(*) AS refs, count(DISTINCT page) AS pages,
           count(*) FILTER (WHERE access = 'read') AS reads, count(*) FILTER (WHERE access = 'write') AS writes,
           count(*) FILTER (WHERE access = 'exec') AS execs,
           count(*) FILTER (WHERE event = 'fault') AS faults, count(*) FILTER (WHERE major) AS majors
    FROM _references("condition") GROUP BY capture_id, object_id, process
);
