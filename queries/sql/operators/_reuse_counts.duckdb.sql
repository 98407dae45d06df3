-- References by reuse distance.
CREATE OR REPLACE MACRO _reuse_counts("condition" := 'true') AS TABLE
SELECT capture_id, reuse_distance, count(*) AS refs FROM _reuse_distances("condition") GROUP BY capture_id, reuse_distance;
