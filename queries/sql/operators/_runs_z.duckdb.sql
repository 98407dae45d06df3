-- The Wald-Wolfowitz z-score of switches + 1 runs; null: not defined.
CREATE OR REPLACE MACRO _runs_z(na, nb, switches) AS
    CASE WHEN na > 0 AND nb > 0 AND 2e0 * na * nb > na + nb
    THEN (switches - 2e0 * na * nb / (na + nb))
         / sqrt(2e0 * na * nb * (2e0 * na * nb - na - nb) / (CAST(na + nb AS DOUBLE) ** 2 * (na + nb - 1))) END;
