-- Every reference with its gap since the previous reference to the same page.
--
-- A gap belongs to a pair of neighbouring references; here it stands at the later one, so a page's
-- first reference has none. On the clock ts two references may carry the same time, or, from two
-- CPUs, times that step back: a gap counts at least 1 ns, so that 1 / gap stays defined.
--
-- Columns:
--   capture_id text: the recording
--   object_id uint64: what backs the page
--   path text: its path; null: it has none
--   object_kind text: file, anon, heap, ..
--   page uint64: page index in the object
--   gap uint64: references from the previous reference to this one; null: first reference
--   gap_ns int64: the same in ns, at least 1
CREATE VIEW _gaps AS
SELECT capture_id, object_id, path, object_kind, page, gap,
       CASE WHEN gap_ns < 1 THEN 1 ELSE gap_ns END AS gap_ns
FROM (
    SELECT capture_id, object_id, path, object_kind, page,
           seq - lag(seq) OVER same_page AS gap,
           CAST(ts AS BIGINT) - lag(CAST(ts AS BIGINT)) OVER same_page AS gap_ns
    FROM page_references
    WINDOW same_page AS (PARTITION BY capture_id, object_id, page ORDER BY seq)
);
