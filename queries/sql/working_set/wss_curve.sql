-- Average working-set size against the length of the window.
--
-- W(t,T) is the number of distinct pages in the T references up to t; this is its mean over all t. There is a row for each T up
-- to 16, then 16 an octave, up to the first at which nothing changes any more. Spills where pages are many.
--
-- Arguments:
--   condition text ['true']: which references count, as a condition on page_references: 'pid = 42', 'path LIKE ''%.db'''
--
-- Columns:
--   capture_id text: the recording
--   window_refs uint64: T, in references
--   pages double: average working-set size
--   refs uint64: references in all
--   lost uint64: what the whole capture lost
CREATE VIEW wss_curve AS
SELECT d.capture_id, d.window_refs, d.pages, d.refs, coalesce(c.lost, CAST(0 AS BIGINT UNSIGNED)) AS lost
FROM _working_set_curve($condition) d
LEFT JOIN captures c ON c.capture_id = d.capture_id
ORDER BY d.capture_id, d.window_refs;
