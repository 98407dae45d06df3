-- Pages by number of references, the hottest first.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: what backs the page
--   path text: its path; null: it has none
--   object_kind text: file, anon, heap, ..
--   page uint64: page index in the object
--   refs int64: references
--   first_ts timestamp: first reference, UTC
--   last_ts timestamp: last reference, UTC
--   refs_per_s double: references a second from the first to the last; null: one reference, or all at one time
--   lost uint64: what the whole capture lost; any of it may have been this page's
CREATE VIEW hot_pages AS
SELECT p.capture_id, p.object_id, p.path, p.object_kind, p.page, p.refs, p.first_ts, p.last_ts,
       (p.refs - 1) / nullif((CAST(p.last_ts AS BIGINT) - CAST(p.first_ts AS BIGINT)) / 1e9, 0) AS refs_per_s,
       coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _page_gaps($condition) p
LEFT JOIN captures c ON c.capture_id = p.capture_id
ORDER BY p.refs DESC, p.capture_id, p.object_id, p.page;
