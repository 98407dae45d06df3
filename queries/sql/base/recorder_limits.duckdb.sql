-- Regular expressions are called otherwise.
CREATE OR REPLACE VIEW recorder_limits AS
SELECT capture_id,
       nullif(TRY_CAST(regexp_extract(settings, '"clean_ms":([0-9]+)', 1) AS BIGINT), 0) * 1000000 AS blind_gap_ns,
       nullif(TRY_CAST(regexp_extract(settings, '"fifo":([0-9]+)', 1) AS BIGINT), 0) AS blind_distance,
       lost
FROM captures;
