"""test_interop.py DATASET: other engines read our Parquet with the same rows and the same types.

Three readers, each with its own Parquet code: DuckDB, pyarrow, and pgtrace-sql (environment variable
PGTRACE_SQL, default target/debug/pgtrace-sql). Prints 'N passed, N failed' last.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet

import pgtrace
from checks import Checks

HERE = Path(__file__).resolve().parent
SQL = Path(os.environ.get("PGTRACE_SQL", HERE.parent / "target" / "debug" / "pgtrace-sql"))
TS, DICT, TEXT = "timestamp[ns, tz=UTC]", "dictionary<values=string, indices=int32, ordered=0>", "string"
# The contract, written down a second time on purpose: columns in order, with pyarrow's types; `?`: may be null.
# A change of ingest/src/schema.rs that is meant to be is made here too; one that is not meant is caught.
CONTRACT = {
    "refs": f"""
        capture_id {DICT}; seq uint64; ts {TS}; cpu uint16; uid uint32; pid uint32; tid uint32; upid uint64;
        comm {DICT}?; path {DICT}?; object_kind {DICT}?; event {DICT}; access {DICT}?; major bool?;
        addr uint64?; ip uint64?; object_id uint64; page uint64; page_order uint8""",
    "captures": f"""
        capture_id {DICT}; boot_id {DICT}; kernel {TEXT}; page_size uint32; cpus uint32; level {DICT}?; settings {TEXT};
        start_ts {TS}; end_ts {TS}; emitted uint64?; refs uint64; cache_events uint64; lost uint64; chunks uint32;
        raw_bytes uint64; clock_monotonic_ns uint64; clock_utc_ns uint64""",
    "processes": f"""
        capture_id {DICT}; upid uint64; pid uint32; ppid uint32; uid uint32; comm {DICT}; exe {DICT}?; cwd {DICT}?;
        cgroup {DICT}?; start_ts {TS}; end_ts {TS}?; exit_code uint32?""",
    "objects": f"""
        capture_id {DICT}; object_id uint64; object_kind {DICT}; dev {DICT}?; ino uint64?; generation uint32?;
        path {DICT}?; deleted bool; path_truncated bool; pid uint32; upid uint64""",
    "mappings": f"""
        capture_id {DICT}; upid uint64; pid uint32; object_id uint64; start_addr uint64; end_addr uint64; page uint64;
        read bool; write bool; exec bool; shared bool; ts {TS}""",
    "losses": f"""
        capture_id {DICT}; cpu uint16; from_ts {TS}?; to_ts {TS}?; count uint64?; cause {DICT}; channel {DICT};
        detail {TEXT}?""",
    "marks": f"""
        capture_id {DICT}; ts {TS}; cpu uint16; kind {DICT}; pid uint32?; tid uint32?; upid uint64?; comm {DICT}?;
        exit_code uint32?; level {DICT}?; policy {DICT}?; clean_ms uint32?; fifo uint32?; grain uint8?; overwrite bool?;
        pass uint32?; scanned uint64?; cleaned uint64?; duration_ns uint64?; monotonic_ns uint64?; utc_ns uint64?;
        object_id uint64?; start_addr uint64?; end_addr uint64?; old_start_addr uint64?; old_end_addr uint64?;
        read bool?; write bool?; exec bool?; shared bool?; addr uint64?; page uint64?; pages uint64?; page_order uint8?;
        since_ts {TS}?; dirtied bool?; rereferenced bool?; gone bool?""",
}
DUCKDB = {
    "bool": "BOOLEAN", "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    TEXT: "VARCHAR", DICT: "VARCHAR", TS: "TIMESTAMPTZ_NS",
}


def columns(table: str) -> list[tuple[str, str, bool]]:
    """Name, pyarrow type and nullability of the columns of a table, from CONTRACT."""
    pairs = (c.split(maxsplit=1) for c in CONTRACT[table].split(";"))
    return [(name, kind.strip().removesuffix("?"), kind.strip().endswith("?")) for name, kind in pairs]


class Digest:
    """Rows, and a checksum of each column and of whole rows that does not depend on their order."""

    def __init__(self, batches, blank_is_null: bool = False) -> None:
        """`batches`: record batches of text. `blank_is_null`: take empty text for null, as CSV cannot tell them apart."""
        self.rows, self.sums = 0, defaultdict(int)
        for batch in batches:
            if blank_is_null:
                arrays = [pyarrow.compute.if_else(pyarrow.compute.equal(a, ""), None, a) for a in batch.columns]
                batch = pyarrow.record_batch(arrays, names=batch.schema.names)
            self.rows += batch.num_rows
            for name, values in zip(batch.schema.names, batch.columns):
                self.sums[name] += self._sum(values)
            whole = pyarrow.compute.binary_join_element_wise(*batch.columns, "\x1f", null_handling="replace", null_replacement="\x00")
            self.sums["whole rows"] += self._sum(whole)

    @staticmethod
    def _sum(values: pyarrow.Array) -> int:
        counted = values.value_counts()
        total = 0
        for value, n in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()):
            word = b"null" if value is None else b"=" + value.encode()
            total += n * int.from_bytes(blake2b(word, digest_size=16).digest())
        return total

    def differs(self, other: Digest) -> list[str]:
        """Where two digests differ; empty if nowhere."""
        rows = [] if self.rows == other.rows else [f"rows {self.rows} and {other.rows}"]
        return rows + [name for name in sorted(self.sums.keys() | other.sums.keys()) if self.sums[name] != other.sums[name]]


def as_text(values: pyarrow.Array) -> pyarrow.Array:
    """Values as text; times as ns since 1970, so that nobody's way of writing them matters."""
    if pyarrow.types.is_timestamp(values.type):
        values = values.cast(pyarrow.int64())
    return values.cast(pyarrow.string())


def read_pyarrow(paths: list[str]):
    for path in paths:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
            yield pyarrow.record_batch([as_text(a) for a in batch.columns], names=batch.schema.names)


def read_duckdb(trace, table: str):
    texts = ", ".join(f"epoch_ns({n})::VARCHAR AS {n}" if k == TS else f"{n}::VARCHAR AS {n}" for n, k, _ in columns(table))
    return trace.sql(f"SELECT {texts} FROM {table}").to_arrow_table().to_batches()


def read_pgtrace_sql(dataset: Path, sql: str) -> pyarrow.Table:
    """The answer of pgtrace-sql as a table of text. Exit code 1 is a good one: the trace has losses."""
    with tempfile.TemporaryFile() as words:
        run = subprocess.Popen([SQL, dataset, "-c", sql, "--format", "csv"], stdout=subprocess.PIPE, stderr=words)
        try:
            table = pyarrow.csv.read_csv(
                run.stdout,
                parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=_AllText(), strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=True
                ),
            )
        except pyarrow.ArrowInvalid as e:
            table, trouble = None, str(e)
        else:
            trouble = ""
        run.stdout.close()
        code = run.wait()
        words.seek(0)
        if code not in (0, 1) or table is None:
            raise RuntimeError(f"pgtrace-sql: exit code {code}: {trouble} {words.read().decode(errors='replace')}")
    return table


class _AllText(dict):
    """Tells pyarrow's CSV reader to guess no types: every column that the contract knows is text."""

    def __init__(self) -> None:
        super().__init__({name: pyarrow.string() for table in CONTRACT for name, _, _ in columns(table)})


def same_rows(dataset: Path, trace, check: Checks) -> None:
    """Row counts and checksums of every column of every table, three readers."""
    for table in CONTRACT:
        paths = pgtrace.files(dataset, table)
        ours = Digest(read_pyarrow(paths))
        wrong = ours.differs(Digest(read_duckdb(trace, table)))
        check.that(not wrong, f"{table}: pyarrow and DuckDB differ in: {wrong}")
        try:
            answer = read_pgtrace_sql(dataset, f"SELECT * FROM {table}")
        except RuntimeError as e:
            check.that(False, f"{table}: {e}")
            continue
        check.equal(answer.schema.names, [name for name, _, _ in columns(table)], f"{table}: columns of pgtrace-sql")
        for at, (name, kind, _) in enumerate(columns(table)):
            if kind == TS and name in answer.schema.names:
                times = answer[name].cast(pyarrow.timestamp("ns", "UTC")).cast(pyarrow.int64()).cast(pyarrow.string())
                answer = answer.set_column(at, name, times)
        wrong = Digest(read_pyarrow(paths), blank_is_null=True).differs(Digest(answer.combine_chunks().to_batches()))
        check.that(not wrong, f"{table}: pyarrow and pgtrace-sql differ in: {wrong}")


def same_types(dataset: Path, trace, check: Checks) -> None:
    """Names, order and types of the columns of each file and view; dictionaries read as text."""
    for table in CONTRACT:
        expected = columns(table)
        for path in pgtrace.files(dataset, table):
            schema = pyarrow.parquet.ParquetFile(path).schema_arrow
            found = [(f.name, str(f.type), f.nullable) for f in schema]
            wrong = [pair for pair in zip_longest(found, expected) if pair[0] != pair[1]]
            check.that(not wrong, f"{path}: schema (found, expected): {wrong}")
            stored = pyarrow.parquet.ParquetFile(path).schema
            for at, (name, kind, _) in enumerate(expected):
                logical = json.loads(stored.column(at).logical_type.to_json())
                if kind == TS:
                    good = logical.get("isAdjustedToUTC") is True and logical.get("timeUnit") == "nanoseconds"
                    check.that(good, f"{path}: {name}: expected UTC nanoseconds, found {logical}")
                elif kind in (DICT, TEXT):
                    check.equal(logical["Type"], "String", f"{path}: {name}: text for readers that know no dictionaries")
        view = trace.sql(f"SELECT * FROM {table}")
        found = list(zip(view.columns, map(str, view.types)))
        check.equal(found, [(name, DUCKDB[kind]) for name, kind, _ in expected], f"{table}: types in DuckDB")
        declared = [tuple(c.split()) for c in pgtrace.TABLES[table].split(", ")]
        check.equal(declared, [(name, DUCKDB[kind]) for name, kind, _ in expected], f"pgtrace.TABLES[{table!r}]")


def refs_files(dataset: Path, _trace, check: Checks) -> None:
    """What the manifest and the folders say of the files of refs, against the rows inside."""
    manifest = pgtrace.manifest(dataset)
    for table, entries in manifest["tables"].items():
        check.that(table in CONTRACT, f"manifest: {table} is a table")
        for entry in entries:
            rows = pyarrow.parquet.ParquetFile(dataset / entry["path"]).metadata.num_rows
            check.equal(rows, entry["rows"], f"{entry['path']}: rows")
    numbers = defaultdict(list)
    for entry in manifest["tables"].get("refs", []):
        name = entry["path"]
        table = pyarrow.parquet.ParquetFile(dataset / name).read()
        seq = table["seq"].to_numpy()
        check.that((seq[1:] > seq[:-1]).all(), f"{name}: rows in the order of seq")
        numbers[entry["capture_id"]].extend(seq.tolist())
        check.equal(table["capture_id"].unique().to_pylist(), [entry["capture_id"]], f"{name}: capture")
        for column in ("seq", "ts", "uid", "pid"):
            values = table[column].cast(pyarrow.int64()) if column == "ts" else table[column]
            found = pyarrow.compute.min_max(values).as_py()
            check.equal(entry.get(column), found, f"{name}: range of {column} in the manifest")
        pages = table.group_by("object_id").aggregate([("page", "min"), ("page", "max")]).sort_by("object_id").to_pylist()
        pages = [{"object_id": p["object_id"], "min_page": p["page_min"], "max_page": p["page_max"]} for p in pages]
        if "objects" in entry:
            stated = sorted(entry["objects"], key=lambda o: o["object_id"])
            check.equal(stated, pages, f"{name}: pages of each object in the manifest")
        events = sorted(table["event"].cast(pyarrow.string()).unique().to_pylist())
        check.equal(entry.get("events"), events, f"{name}: events in the manifest")
        folders = [part.split("=", 1) for part in name.split("/")[1:-1]]
        check.equal([key for key, _ in folders], manifest["partition_by"], f"{name}: folders")
        for key, value in folders:
            if key == "slice":
                inside = {n // manifest["slice_rows"] for n in seq.tolist()}
            else:
                inside = set(table[key].unique().to_pylist())
            check.equal(inside, {int(value)}, f"{name}: {key} inside")
    stored = {c["capture_id"]: c["refs"] for c in manifest["captures"]}
    check.equal({k: len(v) for k, v in numbers.items()}, {k: n for k, n in stored.items() if n}, "rows of each capture")
    for capture, seqs in numbers.items():
        check.that(sorted(seqs) == list(range(len(seqs))), f"{capture}: seq dense from 0 over all files")


def folders_prune(dataset: Path, trace, check: Checks) -> None:
    """Readers that take keys from the folders' names get the same rows: DuckDB and pyarrow, told the types."""
    paths = pgtrace.files(dataset, "refs")
    keys = [k for k in pgtrace.manifest(dataset)["partition_by"] if k != "slice"]
    for key in keys:
        expected = dict(trace.sql(f"SELECT {key}, count(*) FROM refs GROUP BY ALL").fetchall())
        listed = ", ".join(f"'{p}'" for p in paths)
        by_folder = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {{'{key}': UINTEGER}})"
        found = dict(trace.sql(f"SELECT {key}, count(*) FROM {by_folder} GROUP BY ALL").fetchall())
        check.equal(found, expected, f"DuckDB by folders: rows by {key}")
        kinds = pyarrow.schema([(k, pyarrow.uint32()) for k in pgtrace.manifest(dataset)["partition_by"]])
        folders = pyarrow.dataset.partitioning(kinds, flavor="hive")
        refs = pyarrow.dataset.dataset(paths, partitioning=folders, partition_base_dir=str(dataset / "refs"))
        found = {value: refs.count_rows(filter=pyarrow.dataset.field(key) == value) for value in expected}
        check.equal(found, expected, f"pyarrow by folders: rows by {key}")


def same_irf(dataset: Path, trace, check: Checks) -> None:
    """The IRF of every page: DuckDB's lag() against pgtrace-sql's view."""
    names = "capture_id, object_id, page, refs, gap_mean, irf_rate, irf_mean_inverse"
    try:
        answer = read_pgtrace_sql(dataset, f"SELECT {names} FROM page_irf").to_pylist()
    except RuntimeError as e:
        check.that(False, f"page_irf: {e}")
        return
    keys, floats = ("object_id", "page", "refs"), ("gap_mean", "irf_rate", "irf_mean_inverse")
    theirs = {(r["capture_id"], *(int(r[k]) for k in keys)): [float(r[f]) for f in floats] for r in answer}
    mine = {tuple(r[:4]): r[4:] for r in trace.sql(f"SELECT {names} FROM page_irf").fetchall()}
    check.that(mine, "page_irf: there are pages that came back")
    check.equal(theirs.keys() ^ mine.keys(), set(), "page_irf: pages and their references")
    far = [k for k in theirs.keys() & mine.keys() if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(theirs[k], mine[k]))]
    check.equal(far, [], "page_irf: pages whose figures differ")


def bad_input(dataset: Path, _trace, check: Checks) -> None:
    """pgtrace.connect() on what is no good dataset: each a clear error."""
    error = pgtrace.DatasetError
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        check.raises(error, ["nowhere", "no such dataset"], lambda: pgtrace.connect(root / "nowhere"), "missing folder")
        check.raises(error, ["not a pgtrace dataset", "_pgtrace/manifest"], lambda: pgtrace.connect(root), "empty folder")
        folder = root / "_pgtrace" / "manifest"
        folder.mkdir(parents=True)
        whole = pgtrace.manifest(dataset)
        first = next(f["path"] for f in whole["tables"]["refs"])

        def newest(version: int, text: str):
            (folder / f"{version:020}.json").write_text(text)
            return lambda: pgtrace.connect(root)

        check.raises(error, ["format 7 is too new", "up to 1"], newest(1, '{"format": 7, "strange": []}'), "newer format")
        check.raises(error, ["schema version 99 is too new", "up to 1"], newest(1, '{"format": 1, "schema": 99, "tables": {}}'), "newer schema")
        for version, text in enumerate(["", "{", "[]", "{}", '{"format": "x"}', '{"format": 1}', '{"format": 1, "tables": 5}'], 2):
            check.raises(error, [f"{version}.json"], newest(version, text), f"damaged manifest {text!r}")
        away = json.dumps(whole).replace(json.dumps(first), '"../secret.parquet"')
        check.raises(error, ["../secret.parquet", "not a plain relative path"], newest(10, away), "a file outside of the dataset")
        check.raises(error, [".parquet", "missing"], newest(11, json.dumps(whole)), "a missing file")
        (root / first).parent.mkdir(parents=True)
        (root / first).write_bytes(b"PAR1")
        check.raises(error, ["4 bytes, expected"], newest(12, json.dumps(whole)), "a file cut off")
        # Only the newest manifest counts, by number; other files in its folder do not.
        none = json.dumps({**whole, "tables": {}})
        (folder / "README.json").write_text("no manifest")
        for table in CONTRACT:
            empty = newest(13, none)().sql(f"SELECT * FROM {table}")
            check.equal((empty.columns, len(empty.fetchall())), ([n for n, _, _ in columns(table)], 0), f"{table} without a file")
    with tempfile.TemporaryDirectory(prefix="it's [0-9]* {odd}?") as scratch:
        copy = Path(scratch) / "data"
        shutil.copytree(dataset, copy)
        extra = copy / Path(first).parent / "zz-uncommitted.parquet"
        shutil.copy(copy / first, extra)
        rows = pgtrace.connect(copy).sql("SELECT count(*) FROM refs").fetchall()[0][0]
        expected = sum(f["rows"] for f in whole["tables"]["refs"])
        check.equal(rows, expected, "a folder with an odd name, and a file in it that no manifest names")


def digests_notice(check: Checks) -> None:
    """The checksums see what they are there to see."""
    make = lambda a, b: Digest([pyarrow.record_batch([pyarrow.array(a, pyarrow.string()), pyarrow.array(b, pyarrow.string())], names=["a", "b"])])
    base = make(["1", "2"], ["x", None])
    check.equal(base.differs(make(["2", "1"], [None, "x"])), [], "digest: order does not matter")
    check.equal(base.differs(make(["1", "2"], [None, "x"])), ["whole rows"], "digest: values in the wrong rows")
    check.equal(base.differs(make(["1", "2"], ["x", ""])), ["b", "whole rows"], "digest: empty is not null")
    check.that("rows 2 and 4" in base.differs(make(["1", "2"] * 2, ["x", None] * 2)), "digest: rows twice")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: test_interop.py DATASET", file=sys.stderr)
        return 2
    dataset = Path(arguments[0]).resolve()
    if not SQL.is_file():
        print(f"error: {SQL}: no such program; build it, or set PGTRACE_SQL", file=sys.stderr)
        return 2
    try:
        trace = pgtrace.connect(dataset)
    except pgtrace.DatasetError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    check = Checks()
    digests_notice(check)
    for step in (same_types, refs_files, same_rows, folders_prune, same_irf, bad_input):
        try:
            step(dataset, trace, check)
        except Exception as e:  # one reader that gives up must not hide what the others find
            check.that(False, f"{step.__name__}: {type(e).__name__}: {e}")
    return check.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
