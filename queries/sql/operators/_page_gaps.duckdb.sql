-- What each page's references say of its gaps. An object's name is that of its first reference.
CREATE OR REPLACE MACRO _page_gaps("condition" := 'true') AS TABLE
WITH gaps AS (
    SELECT capture_id, object_id, page, seq, ts,
           greatest(seq - lag(seq) OVER references_to_page, 1) AS gap,
           greatest(epoch_ns(ts) - epoch_ns(lag(ts) OVER references_to_page), 1) AS gap_ns,
           lag(seq) OVER references_to_page IS NOT NULL AS comes_back
    FROM _references("condition")
    WINDOW references_to_page AS (PARTITION BY capture_id, object_id, page ORDER BY seq)
), pages AS (
    SELECT capture_id, object_id, page, count(*) AS refs,
           min(seq) AS first_seq, max(seq) AS last_seq, arg_min(ts, seq) AS first_ts, arg_max(ts, seq) AS last_ts,
           coalesce(sum(1e0 / gap) FILTER (WHERE comes_back), 0) AS inverse_sum,
           coalesce(sum(gap_ns) FILTER (WHERE comes_back), 0) AS sum_ns,
           coalesce(sum(1e0 / gap_ns) FILTER (WHERE comes_back), 0) AS inverse_sum_ns
    FROM gaps GROUP BY capture_id, object_id, page
), names AS (
    SELECT capture_id, object_id, arg_min(struct_pack(path, object_kind), seq) AS name
    FROM _references("condition") GROUP BY capture_id, object_id
)
SELECT p.capture_id, p.object_id, n.name.path AS path, n.name.object_kind AS object_kind, p.page, p.refs,
       p.first_seq, p.last_seq, p.first_ts, p.last_ts, p.inverse_sum, p.sum_ns, p.inverse_sum_ns
FROM pages p JOIN names n ON n.capture_id = p.capture_id AND n.object_id = p.object_id;
