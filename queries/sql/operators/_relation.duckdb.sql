-- A text names all objects with that path, a number one object. Object and path shown are those of its first reference.
CREATE OR REPLACE MACRO _relation("condition", first_object, second_object) AS TABLE
WITH sided AS (
    SELECT capture_id, seq, object_id, path,
           CASE WHEN CASE WHEN typeof(first_object) = 'VARCHAR' THEN path = CAST(first_object AS VARCHAR)
                          ELSE object_id = TRY_CAST(first_object AS UBIGINT) END THEN 'a'
                WHEN CASE WHEN typeof(second_object) = 'VARCHAR' THEN path = CAST(second_object AS VARCHAR)
                          ELSE object_id = TRY_CAST(second_object AS UBIGINT) END THEN 'b' END AS side
    FROM _references(CASE WHEN CAST(first_object AS VARCHAR) = CAST(second_object AS VARCHAR)
                          THEN error('a relation is between two objects, found one twice') ELSE "condition" END)
), string AS (
    SELECT *, lag(side) OVER (PARTITION BY capture_id ORDER BY seq) AS side_before FROM sided WHERE side IS NOT NULL
), counted AS (
    SELECT capture_id, arg_min(object_id, seq) FILTER (WHERE side = 'a') AS id_a, arg_min(path, seq) FILTER (WHERE side = 'a') AS path_a,
           arg_min(object_id, seq) FILTER (WHERE side = 'b') AS id_b, arg_min(path, seq) FILTER (WHERE side = 'b') AS path_b,
           count(*) FILTER (WHERE side = 'a') AS na, count(*) FILTER (WHERE side = 'b') AS nb,
           count(*) FILTER (WHERE side <> side_before) AS switches
    FROM string GROUP BY capture_id
)
SELECT capture_id, id_a AS object_a, path_a, id_b AS object_b, path_b, na AS refs_a, nb AS refs_b, switches,
       _interleaved(na, nb, switches) AS interleave, _runs_z(na, nb, switches) AS runs_z
FROM counted;
