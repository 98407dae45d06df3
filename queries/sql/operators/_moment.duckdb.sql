-- A moment in ns since 1970: a time after `start_ns`, or a timestamp; null, and no text, are an open end.
CREATE OR REPLACE MACRO _moment(moment, start_ns) AS
    CASE WHEN trim(CAST(moment AS VARCHAR)) = '' THEN NULL
         ELSE coalesce(start_ns + _ns(moment), epoch_ns(CAST(CAST(moment AS VARCHAR) AS TIMESTAMPTZ_NS))) END;
