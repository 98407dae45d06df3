-- What was recorded, one row a capture: processes, files, references, losses and time span.
--
-- Columns:
--   capture_id text: the recording
--   kernel text: release of the traced kernel
--   level text: what was recorded
--   start_ts timestamp: start of the recording, UTC
--   end_ts timestamp: its end
--   seconds double: from start to end
--   processes int64: process incarnations seen
--   files int64: files seen, deleted ones too
--   refs uint64: references; page-cache events are none
--   cache_events uint64: pages that entered or left the page cache
--   lost uint64: what was lost, see losses
CREATE VIEW summary AS
SELECT c.capture_id, c.kernel, c.level, c.start_ts, c.end_ts,
       CAST(CAST(c.end_ts AS BIGINT) - CAST(c.start_ts AS BIGINT) AS DOUBLE) / 1e9 AS seconds,
       coalesce(p.processes, 0) AS processes,
       coalesce(o.files, 0) AS files,
       c.refs - c.cache_events AS refs, c.cache_events, c.lost
FROM captures c
LEFT JOIN (SELECT capture_id, count(*) AS processes FROM processes GROUP BY capture_id) p
       ON p.capture_id = c.capture_id
LEFT JOIN (SELECT capture_id, count(*) AS files FROM objects WHERE object_kind = 'file' GROUP BY capture_id) o
       ON o.capture_id = c.capture_id
ORDER BY c.start_ts, c.capture_id;
