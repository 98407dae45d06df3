"""Opens a pgtrace dataset in DuckDB, from its Parquet files alone.

    import pgtrace
    trace = pgtrace.connect("target/demo")
    pgtrace.query(trace, "SELECT path, count(*) AS refs FROM refs GROUP BY path ORDER BY refs DESC")

`trace` is a DuckDB connection; the dataset's tables are views in it. Nothing here
calls pgtrace's programs: what this file does, any tool that reads Parquet can do.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pandas
import pyarrow

FORMAT = 1
"""The newest manifest format that this module reads."""

SCHEMA = 1
"""The newest schema version (SCHEMA_VERSION in ingest/src/schema.rs) that this module reads."""

# The tables with DuckDB's types: what a table without a single row (no file) looks like. What the
# columns mean is written in ingest/src/schema.rs; test_interop.py compares the two with real files.
TABLES = {
    "refs": "capture_id VARCHAR, seq UBIGINT, ts TIMESTAMPTZ_NS, cpu USMALLINT, uid UINTEGER, pid UINTEGER, tid UINTEGER, "
    "upid UBIGINT, comm VARCHAR, path VARCHAR, object_kind VARCHAR, event VARCHAR, access VARCHAR, major BOOLEAN, "
    "addr UBIGINT, ip UBIGINT, object_id UBIGINT, page UBIGINT, page_order UTINYINT",
    "captures": "capture_id VARCHAR, boot_id VARCHAR, kernel VARCHAR, page_size UINTEGER, cpus UINTEGER, level VARCHAR, "
    "settings VARCHAR, start_ts TIMESTAMPTZ_NS, end_ts TIMESTAMPTZ_NS, emitted UBIGINT, refs UBIGINT, "
    "cache_events UBIGINT, lost UBIGINT, chunks UINTEGER, raw_bytes UBIGINT, clock_monotonic_ns UBIGINT, clock_utc_ns UBIGINT",
    "processes": "capture_id VARCHAR, upid UBIGINT, pid UINTEGER, ppid UINTEGER, uid UINTEGER, comm VARCHAR, exe VARCHAR, "
    "cwd VARCHAR, cgroup VARCHAR, start_ts TIMESTAMPTZ_NS, end_ts TIMESTAMPTZ_NS, exit_code UINTEGER",
    "objects": "capture_id VARCHAR, object_id UBIGINT, object_kind VARCHAR, dev VARCHAR, ino UBIGINT, generation UINTEGER, "
    "path VARCHAR, deleted BOOLEAN, path_truncated BOOLEAN, pid UINTEGER, upid UBIGINT",
    "mappings": "capture_id VARCHAR, upid UBIGINT, pid UINTEGER, object_id UBIGINT, start_addr UBIGINT, end_addr UBIGINT, "
    "page UBIGINT, read BOOLEAN, write BOOLEAN, exec BOOLEAN, shared BOOLEAN, ts TIMESTAMPTZ_NS",
    "losses": "capture_id VARCHAR, cpu USMALLINT, from_ts TIMESTAMPTZ_NS, to_ts TIMESTAMPTZ_NS, count UBIGINT, "
    "cause VARCHAR, channel VARCHAR, detail VARCHAR",
    "marks": "capture_id VARCHAR, ts TIMESTAMPTZ_NS, cpu USMALLINT, kind VARCHAR, pid UINTEGER, tid UINTEGER, upid UBIGINT, "
    "comm VARCHAR, exit_code UINTEGER, level VARCHAR, policy VARCHAR, clean_ms UINTEGER, fifo UINTEGER, "
    "grain UTINYINT, overwrite BOOLEAN, pass UINTEGER, scanned UBIGINT, cleaned UBIGINT, duration_ns UBIGINT, "
    "monotonic_ns UBIGINT, utc_ns UBIGINT, object_id UBIGINT, start_addr UBIGINT, end_addr UBIGINT, "
    "old_start_addr UBIGINT, old_end_addr UBIGINT, read BOOLEAN, write BOOLEAN, exec BOOLEAN, shared BOOLEAN, "
    "addr UBIGINT, page UBIGINT, pages UBIGINT, page_order UTINYINT, since_ts TIMESTAMPTZ_NS, dirtied BOOLEAN, "
    "rereferenced BOOLEAN, gone BOOLEAN",
}

# Views beside the tables; names and definitions are pgtrace-sql's.
VIEWS = """
-- Page references alone: a page entering or leaving the page cache is not a use of it.
CREATE VIEW page_references AS
SELECT * FROM refs WHERE event IN ('fault', 'retouch', 'lookup');

-- How often each page comes back. A gap is the number of references from one reference to a page to the next
-- one; a page referenced n times has n-1 gaps, and none (no row here) when it was referenced once.
CREATE VIEW page_irf AS
WITH gaps AS (
    SELECT capture_id, object_id, path, page, seq - lag(seq) OVER (PARTITION BY capture_id, object_id, page ORDER BY seq) AS gap
    FROM page_references
)
SELECT capture_id, object_id, min(path) AS path, page,
       count(*)::BIGINT AS refs,
       sum(gap)::DOUBLE / count(gap) AS gap_mean,
       count(gap) / sum(gap)::DOUBLE AS irf_rate,
       avg(1.0::DOUBLE / gap) AS irf_mean_inverse
FROM gaps GROUP BY capture_id, object_id, page HAVING count(*) >= 2;
"""


class DatasetError(Exception):
    """The dataset cannot be opened; the message says what is wrong, and where."""


def manifest(dataset: str | Path) -> dict:
    """The newest manifest of a dataset (a local folder): which files belong to it.

    Raises DatasetError if the folder is missing or not a dataset, if the manifest is of a newer
    format or damaged, or if a file it names is missing or not of the size it had when written.
    """
    root = Path(dataset)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such dataset")
    folder = root / "_pgtrace" / "manifest"
    names = sorted(p.name for p in folder.glob("*.json") if re.fullmatch(r"\d{20}\.json", p.name))
    if not names:
        raise DatasetError(f"{root}: not a pgtrace dataset: no manifest in _pgtrace/manifest/")
    newest = folder / names[-1]
    try:
        found = json.loads(newest.read_bytes())
        number = found["format"]
        if isinstance(number, int) and number > FORMAT:
            raise DatasetError(
                f"{newest}: manifest format {number} is too new: this program reads formats up to {FORMAT}; use a newer pgtrace"
            )
        if number != FORMAT:
            raise DatasetError(f"{newest}: manifest format is {number!r}, expected {FORMAT}")
        schema = found.get("schema", 1)
        if schema > SCHEMA:
            raise DatasetError(
                f"{newest}: schema version {schema} is too new: this program reads versions up to {SCHEMA}; use a newer pgtrace"
            )
        files = [(f["path"], f["bytes"], f["rows"]) for table in found["tables"].values() for f in table]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise DatasetError(f"{newest}: damaged manifest: {type(e).__name__}: {e}") from e
    for path, size, _ in files:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise DatasetError(f"{newest}: damaged manifest: file path {path!r} is not a plain relative path")
        if not (root / path).is_file():
            raise DatasetError(f"{root / path}: missing, but {newest.name} names it")
        if (root / path).stat().st_size != size:
            raise DatasetError(f"{root / path}: {(root / path).stat().st_size} bytes, expected {size} as {newest.name} says")
    return found


def files(dataset: str | Path, table: str) -> list[str]:
    """Paths of a table's Parquet files; empty if the table has no row. Raises as `manifest` does."""
    return [str(Path(dataset) / f["path"]) for f in manifest(dataset)["tables"].get(table, [])]


def connect(dataset: str | Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection in which the dataset's tables are views over exactly the files of its newest manifest.

    The views: refs, captures, processes, objects, mappings, losses, marks, and page_references and
    page_irf on top of them. Times are UTC. Raises as `manifest` does.
    """
    tables = manifest(dataset)["tables"]
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table, columns in TABLES.items():
        paths = [_literal(Path(dataset) / f["path"]) for f in tables.get(table, [])]
        if paths:
            # Every column is inside the files. The folders' names repeat some of them, as numbers of
            # DuckDB's choice, so they are not read.
            source = f"SELECT * FROM read_parquet([{', '.join(paths)}], hive_partitioning = false)"
        else:
            nulls = ", ".join(f"NULL::{kind} AS {name}" for name, kind in (c.split() for c in columns.split(", ")))
            source = f"SELECT {nulls} WHERE false"
        connection.execute(f"CREATE VIEW {table} AS {source}")
    connection.execute(VIEWS)
    return connection


def query(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None) -> pandas.DataFrame:
    """The answer as a pandas DataFrame, exact: a column with nulls stays whole numbers, where DuckDB's own
    df() would turn it into floats and lose the low bits of addresses. Raises duckdb.Error."""
    answer = connection.sql(sql, params=parameters).to_arrow_table()
    return answer.to_pandas(types_mapper=_PANDAS.get)


def object_labels(connection: duckdb.DuckDBPyConnection) -> pandas.DataFrame:
    """All referenced objects with a label for people (a path, or `heap of sort (412)`) and their counts.

    Columns: capture_id, object_id, object_kind, path, label, refs, pages, pages_again (referenced twice or
    more); the most referenced first.
    """
    return query(
        connection,
        """
        WITH by_page AS (
            SELECT capture_id, object_id, page, count(*) AS refs, min(path) AS path, min(object_kind) AS object_kind, min(comm) AS comm
            FROM page_references GROUP BY ALL
        )
        SELECT p.capture_id, p.object_id, min(p.object_kind) AS object_kind, min(p.path) AS path,
               coalesce(min(p.path) || CASE WHEN bool_or(o.deleted) THEN ' (deleted)' ELSE '' END,
                        coalesce(replace(min(p.object_kind), 'anon', 'anonymous memory'), 'object ' || p.object_id)
                        || ' of ' || coalesce(min(c.comm), min(p.comm), '?') || coalesce(' (' || min(o.pid) || ')', '')) AS label,
               sum(p.refs)::BIGINT AS refs, count(*) AS pages, count(*) FILTER (WHERE p.refs >= 2) AS pages_again
        FROM by_page p
        LEFT JOIN objects o USING (capture_id, object_id)
        LEFT JOIN processes c ON c.capture_id = o.capture_id AND c.upid = o.upid
        GROUP BY p.capture_id, p.object_id
        ORDER BY refs DESC, p.capture_id, p.object_id
        """,
    )


def irf_buckets(connection: duckdb.DuckDBPyConnection) -> pandas.DataFrame:
    """Pages of each object by how soon they come back: capture_id, object_id, power, pages.

    A page is in bucket `power` if its mean gap is at least 2**power and below 2**(power+1) references.
    """
    return query(
        connection,
        """
        SELECT capture_id, object_id, floor(log2(gap_mean))::BIGINT AS power, count(*) AS pages
        FROM page_irf GROUP BY ALL ORDER BY ALL
        """,
    )


def _literal(path: Path) -> str:
    """A path as an SQL string, in which DuckDB sees no pattern: [x] matches the x itself."""
    pattern = re.sub(r"[*?\[]", r"[\g<0>]", str(path))
    return "'" + pattern.replace("'", "''") + "'"


_PANDAS = {
    pyarrow.bool_(): pandas.BooleanDtype(),
    pyarrow.uint8(): pandas.UInt8Dtype(),
    pyarrow.uint16(): pandas.UInt16Dtype(),
    pyarrow.uint32(): pandas.UInt32Dtype(),
    pyarrow.uint64(): pandas.UInt64Dtype(),
    pyarrow.int32(): pandas.Int32Dtype(),
    pyarrow.int64(): pandas.Int64Dtype(),
}
