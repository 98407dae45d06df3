-- The distinct pages of one window after the other. A window of time is told by the latest time so far: a reference whose
-- clock stepped back counts to the window that is open. `lost`: what was lost in losses that overlap it.
CREATE OR REPLACE MACRO _windows("condition", "window") AS TABLE
WITH asked AS (
    SELECT CASE WHEN text SIMILAR TO '[0-9]+' THEN CAST(text AS BIGINT) END AS refs,
           CASE WHEN text NOT SIMILAR TO '[0-9]+' AND text SIMILAR TO '.*[a-z]' THEN _ns(text) END AS ns
    FROM (SELECT trim(CAST("window" AS VARCHAR)) AS text)
), length AS (
    SELECT CASE WHEN coalesce(refs, ns, 0) > 0 THEN refs
                ELSE error('a window is a time (''100ms'', ''1s'') or a number of references (1000)') END AS refs, ns
    FROM asked
), timed AS (
    SELECT r.capture_id, r.seq, r.ts, r.object_id, r.page,
           row_number() OVER (PARTITION BY r.capture_id ORDER BY r.seq) - 1 AS place,
           max(epoch_ns(r.ts)) OVER (PARTITION BY r.capture_id ORDER BY r.seq) AS latest
    FROM _references("condition") r
), numbered AS (
    SELECT t.*, l.ns,
           CASE WHEN l.refs IS NOT NULL THEN t.place // l.refs ELSE (t.latest - (t.latest % l.ns + l.ns) % l.ns) // l.ns END AS number
    FROM timed t, length l
), windows AS (
    SELECT capture_id,
           CASE WHEN any_value(ns) IS NULL THEN arg_min(ts, seq) ELSE make_timestamp_ns(number * any_value(ns)) AT TIME ZONE 'UTC' END AS from_ts,
           CASE WHEN any_value(ns) IS NULL THEN max(ts) ELSE make_timestamp_ns((number + 1) * any_value(ns)) AT TIME ZONE 'UTC' END AS to_ts,
           min(seq) AS from_seq, max(seq) AS to_seq, count(*) AS refs, count(DISTINCT (object_id, page)) AS pages
    FROM numbered GROUP BY capture_id, number
), overlapping AS (
    SELECT w.capture_id, w.from_seq, sum(l.count) AS lost
    FROM windows w JOIN losses l ON l.capture_id = w.capture_id AND l.count > 0 AND l.from_ts <= w.to_ts AND l.to_ts >= w.from_ts
    GROUP BY w.capture_id, w.from_seq
)
SELECT w.*, coalesce(o.lost, 0) AS lost
FROM windows w LEFT JOIN overlapping o ON o.capture_id = w.capture_id AND o.from_seq = w.from_seq;
