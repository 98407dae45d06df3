-- How interleaved two objects are, whose references make so many switches: see relation.
CREATE OR REPLACE MACRO _interleaved(na, nb, switches) AS
    CASE WHEN least(na, nb) > 0 THEN least(switches / (2e0 * least(na, nb)), 1e0) END;
