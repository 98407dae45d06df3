-- Page references alone: `refs` without the page-cache events `insert` and `evict`.
--
-- A reference is one observed use of a page: a fault, a retouch (a fault that the cleaner or the FIFO
-- forced) or a look-up in the page cache. Analyses start here, so that none counts an eviction as a use.
--
-- Columns:
--   capture_id text: the recording
--   seq uint64: position in the capture's reference string (virtual time)
--   ts timestamp: wall time, UTC
--   cpu uint16: CPU that recorded it
--   uid uint32: real user id
--   pid uint32: process (thread-group) id
--   tid uint32: thread id
--   upid uint64: process incarnation, see processes
--   comm text: command name
--   path text: path of the file as captured; null: the object has none
--   object_kind text: file, anon, heap, stack, shmem, hugetlb, vdso or other
--   event text: fault, retouch or lookup
--   access text: read, write or exec; null: unknown
--   major boolean: needed I/O; null: unknown
--   addr uint64: virtual address; null for look-ups
--   ip uint64: instruction pointer; null where there is none
--   object_id uint64: what backs the page, see objects
--   page uint64: page index in the object
--   page_order uint8: 0 is a base page, 9 is 2 MiB
CREATE VIEW page_references AS
SELECT capture_id, seq, ts, cpu, uid, pid, tid, upid, comm, path, object_kind, event, access, major,
       addr, ip, object_id, page, page_order
FROM refs
WHERE event IN ('fault', 'retouch', 'lookup');
