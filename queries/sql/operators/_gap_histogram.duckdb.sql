-- How many pages of each object have a mean gap of a magnitude, in 'refs' or 'ns'.
CREATE OR REPLACE MACRO _gap_histogram("condition", of_what) AS TABLE
SELECT capture_id, object_id, min(path) AS path,
       floor(log2(CASE WHEN of_what = 'ns' THEN sum_ns ELSE last_seq - first_seq END / CAST(refs - 1 AS DOUBLE))) AS magnitude,
       count(*) AS pages
FROM _page_gaps("condition") WHERE refs >= 2 GROUP BY capture_id, object_id, magnitude;
