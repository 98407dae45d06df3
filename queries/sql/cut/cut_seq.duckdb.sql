-- Rows of refs from a number on and below another; null: open.
CREATE OR REPLACE MACRO cut_seq(from_seq, to_seq) AS TABLE
SELECT * FROM refs
WHERE seq >= coalesce(CAST(from_seq AS UBIGINT), 0) AND (to_seq IS NULL OR seq < CAST(to_seq AS UBIGINT));
