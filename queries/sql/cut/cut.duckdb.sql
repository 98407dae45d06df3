-- Rows of refs from a moment on and before another: times after the recording's start ('2s') or timestamps; null: open.
CREATE OR REPLACE MACRO cut(from_time, to_time) AS TABLE
SELECT r.*
FROM refs r
JOIN (
    SELECT capture_id,
           make_timestamp_ns(coalesce(_moment(from_time, epoch_ns(start_ts)), -9223372036854775000)) AT TIME ZONE 'UTC' AS from_ts,
           make_timestamp_ns(coalesce(_moment(to_time, epoch_ns(start_ts)), 9223372036854775000)) AT TIME ZONE 'UTC' AS to_ts
    FROM captures
) c ON c.capture_id = r.capture_id AND r.ts >= c.from_ts AND r.ts < c.to_ts;
