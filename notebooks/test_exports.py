"""test_exports.py DATASET: what `pgtrace-sql export` makes says in other engines what pgtrace-sql says itself.

`export duckdb`: every view, asked in DuckDB and in pgtrace-sql, on the dataset, on the data of the views' worked examples
and on a damaged recording. `export delta`: the tables, read by the package deltalake. Programs: environment variables
PGTRACE_SQL and PGTRACE_INGEST, default target/debug/. Prints 'N passed, N failed' last.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from operator import eq, ge, le
from pathlib import Path

import deltalake
import duckdb
import pyarrow
import pyarrow.compute
import pyarrow.parquet

import pgtrace
from checks import Checks

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = REPOSITORY / "target" / "debug"
SQL = Path(os.environ.get("PGTRACE_SQL", PROGRAMS / "pgtrace-sql"))
INGEST = Path(os.environ.get("PGTRACE_INGEST", PROGRAMS / "pgtrace-ingest"))
VIEWS = REPOSITORY / "queries" / "sql"

# Asked besides every view by its bare name. `{a}`, `{b}`: two objects; `{path}`: a file.
CALLS = [
    "page_irf('page % 2 = 0')", "object_irf('access = ''read''')", "irf_histogram('page < 3')", "irf_histogram_ns('seq > 5')",
    "hot_files('access IS NULL OR access <> ''write''')", "hot_pages('path IS NOT NULL')", "hot_processes('event <> ''lookup''')",
    "relation({a}, {b})", "relation({b}, {a})", "relation('{path}', {a})", "relation({a}, 4294967295)", "relation({a}, {b}, 'page > 1')",
    "relation_matrix(3)", "relation_matrix(2, 'page < 100')",
    "reuse_distance('page % 3 > 0')", "reuse_histogram('seq % 2 = 0')", "mrc('page < 50')", "mrc_aet('page < 50')", "mrc('false')",
    "working_set(1)", "working_set(7)", "working_set('100')", "working_set('20ms')", "working_set('0.5s', 'page < 20')", "working_set('13us')",
    "wss_percentiles(3)", "wss_percentiles(' 50 ', 'page > 0')", "wss_percentiles('10ms')", "wss_curve('page < 30')", "wss_curve('false')",
    "cut('20us', '1.5s')", "cut(NULL, '3s')", "cut('2026-11-23T04:03:00Z', '')", "cut_seq(3, 400)", "cut_seq(NULL, 5)", "cut_seq(7, NULL)",
    "recency_histogram('page < 40')", "temperature_histogram('page > 1')",
]
# Cuts also in plain SQL for pgtrace-sql.
CUTS = {
    "cut_seq(3, 400)": "SELECT * FROM refs WHERE seq >= 3 AND seq < 400",
    "cut_seq(NULL, 5)": "SELECT * FROM refs WHERE seq < 5",
    "cut_seq(7, NULL)": "SELECT * FROM refs WHERE seq >= 7",
    "cut('20us', '1.5s')": "SELECT r.* FROM refs r JOIN captures c ON c.capture_id = r.capture_id "
    "AND CAST(r.ts AS BIGINT) >= CAST(c.start_ts AS BIGINT) + 20000 AND CAST(r.ts AS BIGINT) < CAST(c.start_ts AS BIGINT) + 1500000000",
    "cut('', '1970-01-01T00:00:00.000000050Z')": "SELECT * FROM refs WHERE CAST(ts AS BIGINT) < 50",
    "cut('2026-11-23 04:03:00', NULL)": "SELECT * FROM refs WHERE ts >= TIMESTAMP '2026-11-23T04:03:00Z'",
}


def run(*command, code: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess:
    """Runs a program that must end with one of these exit codes."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode not in code:
        raise RuntimeError(f"{' '.join(map(str, command))[:300]}: exit code {done.returncode}: {done.stderr.strip()}")
    return done


def ours(dataset: Path, questions: list[str]) -> list[list[dict]]:
    """Answers of pgtrace-sql, all in one run: a line that no answer has stands between two."""
    words = [word for sql in questions for word in ("-c", sql, "-c", "SELECT 0 AS end_of_answer")]
    answers = [[]]
    for line in run(SQL, dataset, "--format", "ndjson", *words).stdout.splitlines():
        row = json.loads(line)
        if "end_of_answer" in row:
            answers.append([])
        else:
            answers[-1].append(row)
    return answers[:-1]


def views() -> list[tuple[str, str]]:
    """Name and text of the public views of pgtrace-sql."""
    files = sorted(VIEWS.glob("*/*.sql"))
    return [(f.stem, f.read_text()) for f in files if "." not in f.stem and not f.stem.startswith("_")]


def far_apart(a: list[dict], b: list[dict], names: list[str]) -> str | None:
    """Where two answers differ, whatever the order of rows; floats may by 1e-9. None: nowhere."""
    if len(a) != len(b):
        return f"{len(a)} and {len(b)} rows"
    floats = [n for n in names if any(isinstance(row[n], float) for row in a + b)]
    keys = [n for n in names if n not in floats]
    both = defaultdict(lambda: ([], []))
    for side, rows in enumerate((a, b)):
        for row in rows:
            both[tuple(row[n] for n in keys)][side].append([row[n] for n in floats])
    for key, (left, right) in both.items():
        if len(left) != len(right):
            return f"{len(left)} and {len(right)} rows with {key}"
        order = lambda values: [(v is None, v or 0) for v in values]
        for x, y in zip(sorted(left, key=order), sorted(right, key=order)):
            same = lambda p, q: p is q if p is None or q is None else math.isclose(p, q, rel_tol=1e-9, abs_tol=1e-300)
            if not all(map(same, x, y)):
                return f"{key}: {x} and {y}"
    return None


def duckdb_views(dataset: Path, check: Checks, label: str) -> None:
    """Every view, and CALLS, in DuckDB after the script and in pgtrace-sql."""
    script = run(SQL, "export", "duckdb", dataset).stdout
    connection = duckdb.connect()
    connection.execute(script)
    connection.execute("SET TimeZone = 'Asia/Tokyo'")  # an answer is in UTC, whatever the reader's clock
    not_reached = set(re.findall(r"^--   (\w+): ", script, re.MULTILINE))
    listed = connection.execute("SELECT view_name FROM duckdb_views() UNION SELECT function_name FROM duckdb_functions()").fetchall()
    known, reached = {name for (name,) in listed}, []
    for name, text in views():
        check.that((name in known) != (name in not_reached), f"{label}: {name} is in DuckDB, or in the list of those that are not")
        if name in known and re.search(r"^--   \w+ \w+: ", text.split("-- Columns:")[0], re.MULTILINE) is None:
            reached.append(name)  # no argument that it cannot do without
    objects = "SELECT object_id, min(path) FROM page_references GROUP BY object_id ORDER BY count(*) DESC, object_id LIMIT 2"
    (a, path), (b, other) = connection.execute(objects).fetchall()
    calls = [call.format(a=a, b=b, path=(other or path or "").replace("'", "''")) for call in CALLS]
    questions = [(call, f"SELECT * FROM {call}") for call in reached + calls] + list(CUTS.items())
    # Times as ns; that costs pgtrace-sql the rows' order, so it answers as it is, too. The columns are those of pgtrace-sql, which is told by DuckDB's types only how to write them.
    mine, theirs, names = [], [], []
    for call, sql in questions:
        try:
            relation = connection.sql(f"FROM {call}")
        except duckdb.Error as e:
            check.that(False, f"{label}: {call} in DuckDB: {e}")
            continue
        names.append((call, relation.columns))
        times = {n for n, kind in zip(relation.columns, map(str, relation.types)) if kind == "TIMESTAMPTZ_NS"}
        wide = [n for n, kind in zip(relation.columns, map(str, relation.types)) if kind == "HUGEINT"]
        check.equal(wide, [], f"{label}: {call}: columns of a type that pgtrace-sql does not have")
        columns = ", ".join(f"CAST({n} AS BIGINT) AS {n}" if n in times else n for n in relation.columns)
        mine += [sql, f"SELECT {columns} FROM ({sql}) AS answer"]
        columns = ", ".join(f'epoch_ns("{n}") AS "{n}"' if n in times else f'"{n}"' for n in relation.columns)
        theirs.append(connection.sql(f"SELECT {columns} FROM {call}").to_arrow_table().to_pylist())
    answers = ours(dataset, mine)
    ordered = {name for name, text in views() if re.search(r"^ORDER BY", text, re.MULTILINE)}
    for (call, columns), plain, answer, other in zip(names, answers[::2], answers[1::2], theirs):
        if plain:
            check.equal(list(plain[0]), columns, f"{label}: {call}: columns")
        difference = far_apart(answer, other, columns)
        check.that(difference is None, f"{label}: {call}: pgtrace-sql and DuckDB: {difference}")
        if call.split("(")[0] in ordered:
            exact = [n for n in columns if not n.endswith("_ts") and not any(isinstance(row[n], float) for row in answer)]
            keys = [[[row[n] for n in exact] for row in rows] for rows in (plain, other)]
            check.that(keys[0] == keys[1], f"{label}: {call}: rows in the view's order")
    check.that(sum(map(len, theirs)) > 50, f"{label}: there is something to compare")
    for call, words in {
        "working_set('soon')": "a window is", "working_set(0)": "a window is", "working_set('1.5')": "a window is",
        f"relation({a}, {a})": "found one twice", "relation_matrix(1)": "2 to 1024",
    }.items():
        check.raises(duckdb.Error, [words], lambda: connection.execute(f"FROM {call}").fetchall(), f"{label}: {call}")
    connection.execute("CREATE OR REPLACE VIEW page_references AS SELECT * FROM refs WHERE event = 'fault' AND page < 9")
    changed = connection.execute("SELECT count(*) FROM mrc").fetchall()
    expected = ours(dataset, ["SELECT count(*) AS n FROM mrc('event = ''fault'' AND page < 9')"])
    check.equal(changed, [(expected[0][0]["n"],)], f"{label}: page_references redefined changes the other views")


def duckdb_empty(scratch: Path, check: Checks) -> None:
    """A dataset without a file: all tables are there, with their types, and all views answer."""
    folder = scratch / "empty's [1]*"
    (folder / "_pgtrace" / "manifest").mkdir(parents=True)
    manifest = {"format": 1, "version": 1, "partition_by": [], "slice_rows": 1, "captures": [], "tables": {}}
    (folder / "_pgtrace" / "manifest" / f"{1:020}.json").write_text(json.dumps(manifest))
    connection = duckdb.connect()
    connection.execute(run(SQL, "export", "duckdb", folder).stdout)
    for (name,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        check.equal(connection.execute(f"SELECT count(*) FROM {name}").fetchall(), [(0,)], f"{name} of nothing")
    for table, declared in pgtrace.TABLES.items():
        relation = connection.sql(f"FROM {table}")
        found = [f"{n} {k}" for n, k in zip(relation.columns, map(str, relation.types))]
        check.equal(found, declared.split(", "), f"types of {table} without a file")


def as_delta(table: pyarrow.Table) -> pyarrow.Table:
    """Rows with the types that Delta has: what its readers should give."""
    kinds = {
        pyarrow.uint8(): pyarrow.int16(), pyarrow.uint16(): pyarrow.int32(), pyarrow.uint32(): pyarrow.int64(),
        pyarrow.uint64(): pyarrow.decimal128(20, 0), pyarrow.timestamp("ns", "UTC"): pyarrow.int64(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()): pyarrow.string(),
    }
    return pyarrow.table([c.cast(kinds.get(c.type, c.type)) for c in table.columns], names=table.column_names)


def same_delta(dataset: Path, check: Checks, label: str) -> None:
    """Each table as Delta Lake reads it against the manifest's files as pyarrow reads them."""
    for table in pgtrace.TABLES:
        found = deltalake.DeltaTable(dataset / table).to_pyarrow_table()
        check.equal(found.column_names, [c.split()[0] for c in pgtrace.TABLES[table].split(", ")], f"{label}: columns of {table}")
        files = [as_delta(pyarrow.parquet.ParquetFile(path).read()) for path in pgtrace.files(dataset, table)]
        rows = lambda t: sorted(map(repr, t.to_pylist()))
        expected = rows(pyarrow.concat_tables(files)) if files else []
        check.that(rows(found) == expected, f"{label}: {table}: rows of deltalake and of the files")


def delta(dataset: Path, scratch: Path, check: Checks) -> None:
    """Logs, exported again after nothing, after a commit and after compact; who else looks at the dataset is not disturbed."""
    tables = scratch / "first.csv", scratch / "second.csv"
    for table, pages in zip(tables, (range(300), range(100, 900))):
        table.write_text("path,page\n" + "".join(f"/data/{p % 3},{p * p % 97}\n" for p in pages))
    grown = scratch / "grown"
    run(INGEST, tables[0], "--to", grown)
    versions = lambda: [deltalake.DeltaTable(grown / table).version() for table in pgtrace.TABLES]
    run(SQL, "export", "delta", grown)
    same_delta(grown, check, "first export")
    again = run(SQL, "export", "delta", grown).stderr
    check.equal((again.count("nothing has changed"), versions()), (len(pgtrace.TABLES), [0] * len(pgtrace.TABLES)), "exported twice")
    run(INGEST, tables[1], "--to", grown)
    old = deltalake.DeltaTable(grown / "refs").to_pyarrow_table().num_rows
    check.equal(old, 300, "the Delta table is what was exported, until the next export")
    run(SQL, "export", "delta", grown, "--table", "refs,captures")
    check.equal(versions(), [1, 1, 0, 0, 0, 0, 0], "versions after more was ingested, and two tables exported")
    run(SQL, "export", "delta", grown)
    same_delta(grown, check, "after more was ingested")
    check.equal(deltalake.DeltaTable(grown / "refs", version=0).to_pyarrow_table().num_rows, 300, "the version before")
    run(INGEST, "compact", grown, "--keep-old", "0s")
    run(SQL, "export", "delta", grown)
    same_delta(grown, check, "after compact")
    run(INGEST, "compact", grown, "--keep-old", "0s")
    check.that((grown / "refs" / "_delta_log" / f"{0:020}.json").is_file(), "a clean-up leaves the log")
    verified = run(INGEST, "verify", grown, code=(0, 1))
    check.equal(verified.returncode, 0, f"verify beside a log: {verified.stdout}")
    rows = ours(grown, ["SELECT count(*) AS n FROM refs"])[0][0]["n"]
    check.equal(rows, 1100, "pgtrace-sql beside a log")

    copy = scratch / "copy"
    shutil.copytree(dataset, copy)
    run(SQL, "export", "delta", copy)
    same_delta(copy, check, "the demo")
    for name in pgtrace.TABLES:  # readers leave files out by the statistics: nothing must be missing for it
        table = deltalake.DeltaTable(copy / name)
        whole, field = table.to_pyarrow_table(), pyarrow.compute.field
        for column in whole.column_names:
            # pyarrow reads times as numbers, but has an error for a filter that a row group's statistics of them decide.
            first = whole[column].drop_null()[: 0 if column.endswith("ts") else 1]
            tests = [field(column).is_valid(), field(column).is_null(), *(op(field(column), v) for v in first for op in (eq, ge, le))]
            for test in tests:
                found = table.to_pyarrow_dataset().count_rows(filter=test)
                check.equal(found, whole.filter(test).num_rows, f"Delta table {name} where {test}")
    table = deltalake.DeltaTable(copy / "refs")
    pids = [f["pid"] for f in pgtrace.manifest(dataset)["tables"]["refs"]]
    pid, seq = max(p["max"] for p in pids), 20000
    expected = ours(dataset, [f"SELECT count(*) AS n FROM refs WHERE pid = {pid} AND seq < {seq}"])[0][0]["n"]
    asked = deltalake.QueryBuilder().register("refs", table).execute(f"SELECT count(*) AS n FROM refs WHERE pid = {pid} AND seq < {seq}")
    check.equal(pyarrow.table(asked.read_all())["n"].to_pylist(), [expected], "a filter in deltalake's own engine")
    times = sorted(table.to_pyarrow_table()["ts"].to_pylist())
    middle = times[len(times) // 2]
    asked = deltalake.QueryBuilder().register("refs", table).execute(f"SELECT count(*) AS n FROM refs WHERE ts < {middle}")
    expected = sum(ts < middle for ts in times)
    check.equal(pyarrow.table(asked.read_all())["n"].to_pylist(), [expected], "a filter by time in deltalake's own engine")


def bad_input(scratch: Path, check: Checks) -> None:
    """Clear errors."""
    error = lambda *words: run(SQL, "export", *words, code=(2,)).stderr
    check.that("no such dataset" in error("duckdb", scratch / "nowhere"), "no such dataset")
    check.that("not a pgtrace dataset" in error("delta", scratch), "not a dataset")
    check.that("expected one of refs, captures" in error("delta", scratch / "grown", "--table", "nonsense"), "no such table")
    check.that("possible values: duckdb, delta" in error("spark", scratch / "grown"), "no such program")
    check.that("--table is for export delta" in error("duckdb", scratch / "grown", "--table", "refs"), "--table of a script")
    log = scratch / "grown" / "marks" / "_delta_log"
    (log / f"{9:020}.json").write_text("{}")
    check.that("expected 0000" in error("delta", scratch / "grown", "--table", "marks"), "a log with a hole")
    (log / f"{9:020}.json").rename(log / f"{len(list(log.iterdir())) - 1:020}.json")
    message = error("delta", scratch / "grown", "--table", "marks")
    check.that("another program wrote it" in message and "_delta_log" in message, "somebody else's version")


def damaged(scratch: Path) -> Path:
    """The demo's recording with a chunk cut off and one whose middle is broken: a dataset with losses."""
    raw, made = scratch / "raw", scratch / "damaged"
    shutil.copytree(REPOSITORY / "testdata" / "demo", raw)
    chunks = sorted(raw.glob("*.pgt"))
    broken = bytearray(chunks[0].read_bytes())
    for at in range(len(broken) // 3, len(broken) // 2, 4096):
        broken[at] ^= 0xFF
    chunks[0].write_bytes(broken)
    chunks[-1].write_bytes(chunks[-1].read_bytes()[: chunks[-1].stat().st_size * 4 // 5])
    run(INGEST, raw, "--to", made, code=(1,))
    return made


def examples(scratch: Path) -> Path:
    """The data of all worked examples as one dataset: a capture each."""
    made = scratch / "examples"
    for table in sorted(VIEWS.glob("*/*.csv")):
        run(INGEST, table, "--to", made)
    return made


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: test_exports.py DATASET", file=sys.stderr)
        return 2
    dataset = Path(arguments[0]).resolve()
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="pgtrace-exports-") as folder:
        scratch = Path(folder)
        steps = {
            "the demo": lambda: duckdb_views(dataset, check, "the demo"),
            "examples": lambda: duckdb_views(examples(scratch), check, "examples"),
            "damaged": lambda: duckdb_views(damaged(scratch), check, "damaged"),
            "empty": lambda: duckdb_empty(scratch, check),
            "delta": lambda: delta(dataset, scratch, check),
            "bad input": lambda: bad_input(scratch, check),
        }
        for name, step in steps.items():
            try:
                step()
            except Exception as e:  # one that gives up must not hide what the others find
                check.that(False, f"{name}: {type(e).__name__}: {e}")
    return check.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
