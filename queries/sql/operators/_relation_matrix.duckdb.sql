-- Puts each pair's references in one string: takes as many rows as references times objects.
CREATE OR REPLACE MACRO _relation_matrix("condition", top) AS TABLE
WITH string AS (
    SELECT capture_id, seq, object_id, path FROM _references("condition")
), objects AS (
    SELECT capture_id, object_id, count(*) AS refs, arg_min(struct_pack(path), seq).path AS path
    FROM string GROUP BY capture_id, object_id
), chosen AS (
    SELECT *, row_number() OVER (PARTITION BY capture_id ORDER BY refs DESC, object_id) AS place FROM objects
    QUALIFY place <= CASE WHEN CAST(top AS BIGINT) BETWEEN 2 AND 1024 THEN CAST(top AS BIGINT)
                          ELSE error('a matrix has 2 to 1024 objects') END
), pairs AS (
    SELECT a.capture_id, a.object_id AS id_a, a.path AS path_a, a.refs AS na, b.object_id AS id_b, b.path AS path_b, b.refs AS nb
    FROM chosen a JOIN chosen b ON b.capture_id = a.capture_id AND b.place > a.place
), merged AS (
    SELECT p.capture_id, p.id_a, p.id_b, s.seq, s.object_id FROM pairs p
    JOIN string s ON s.capture_id = p.capture_id AND s.object_id = p.id_a
    UNION ALL
    SELECT p.capture_id, p.id_a, p.id_b, s.seq, s.object_id FROM pairs p
    JOIN string s ON s.capture_id = p.capture_id AND s.object_id = p.id_b
), switched AS (
    SELECT capture_id, id_a, id_b,
           object_id <> lag(object_id) OVER (PARTITION BY capture_id, id_a, id_b ORDER BY seq) AS switch
    FROM merged
), counted AS (
    SELECT capture_id, id_a, id_b, count(*) FILTER (WHERE switch) AS switches FROM switched GROUP BY capture_id, id_a, id_b
)
SELECT p.capture_id, p.id_a AS object_a, p.path_a, p.id_b AS object_b, p.path_b, p.na AS refs_a, p.nb AS refs_b, c.switches,
       _interleaved(p.na, p.nb, c.switches) AS interleave, _runs_z(p.na, p.nb, c.switches) AS runs_z
FROM pairs p JOIN counted c ON c.capture_id = p.capture_id AND c.id_a = p.id_a AND c.id_b = p.id_b;
