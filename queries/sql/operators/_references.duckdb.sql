-- References that a condition admits. DuckDB's query() takes its text when the macro is called, so a condition stays a text.
CREATE OR REPLACE MACRO _references("condition" := 'true') AS TABLE
FROM query('SELECT * FROM page_references WHERE (' || "condition" || ')');
