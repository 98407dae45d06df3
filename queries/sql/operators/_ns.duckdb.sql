-- A time as people type it ('500ms', '1.5s', '2h'; a bare number is seconds) in ns; null: it is none.
CREATE OR REPLACE MACRO _ns(span) AS
    CASE WHEN regexp_full_match(trim(CAST(span AS VARCHAR)), '[0-9]+(\.[0-9]*)? *(us|ms|s|m|min|h|d)?')
    THEN CAST(round(CAST(regexp_extract(trim(CAST(span AS VARCHAR)), '^[0-9.]+') AS DOUBLE)
                    * CASE regexp_extract(trim(CAST(span AS VARCHAR)), '[a-z]*$')
                      WHEN 'us' THEN 1e3 WHEN 'ms' THEN 1e6 WHEN 'm' THEN 6e10 WHEN 'min' THEN 6e10
                      WHEN 'h' THEN 3.6e12 WHEN 'd' THEN 8.64e13 ELSE 1e9 END) AS BIGINT)
    END;
