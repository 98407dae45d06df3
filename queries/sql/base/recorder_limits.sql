-- What a capture cannot show, whatever is asked of it: one row a capture.
--
-- References are seen when a page faults. A page that was made to fault again by the cleaner shows at most one reference a
-- period; one that the FIFO keeps active shows none until N others have become active. Without either, only first touches
-- (and look-ups) are seen. A capture may have been switched while it ran: marks tells; this is how it began.
--
-- Columns:
--   capture_id text: the recording
--   blind_gap_ns int64: gaps shorter than this are invisible (the cleaner's period); null: no cleaner
--   blind_distance int64: reuse distances below this are invisible (the FIFO's N); null: no FIFO
--   lost uint64: references lost, see losses
CREATE VIEW recorder_limits AS
SELECT capture_id,
       nullif(CAST(regexp_match(settings, '"clean_ms":([0-9]+)')[1] AS BIGINT), 0) * 1000000 AS blind_gap_ns,
       nullif(CAST(regexp_match(settings, '"fifo":([0-9]+)')[1] AS BIGINT), 0) AS blind_distance,
       lost
FROM captures;
