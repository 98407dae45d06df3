-- A moment in ns since 1970: a time after `start_ns`, or a timestamp (in UTC where it names no zone); null, and no text, are
-- an open end.
CREATE OR REPLACE MACRO _moment(moment, start_ns) AS
    CASE WHEN trim(CAST(moment AS VARCHAR)) = '' THEN NULL
         WHEN _ns(moment) IS NOT NULL THEN start_ns + _ns(moment)
         WHEN regexp_matches(CAST(moment AS VARCHAR), ':[0-9:.]+ *([+-][0-9:]+|[A-Za-z].*)$')
         THEN epoch_ns(CAST(CAST(moment AS VARCHAR) AS TIMESTAMPTZ_NS))
         ELSE epoch_ns(CAST(CAST(moment AS VARCHAR) AS TIMESTAMP_NS)) END;
