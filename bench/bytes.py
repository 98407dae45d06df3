"""bytes.py DATASET RAW: bytes a reference, raw and in Parquet, beside DuckDB's own file of the same rows.

Writes target/bench/bytes.json: a list of {metric, value, unit, peer, ratio}; ratio = value / the peer's.
"""
import json
import pathlib
import sys
import tempfile

import duckdb

dataset, raw = map(pathlib.Path, sys.argv[1:3])
newest = max((dataset / "_pgtrace/manifest").glob("*.json"))
manifest = json.loads(newest.read_text(encoding="utf-8"))
files = manifest["tables"]["refs"]
rows = sum(f["rows"] for f in files)
ours = sum(f["bytes"] for f in files)
raw_bytes = sum(p.stat().st_size for p in raw.glob("*.pgt"))
paths = [str(dataset / f["path"]) for f in files]

with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "refs.parquet"
    con = duckdb.connect()
    con.execute("CREATE TABLE refs AS SELECT * FROM read_parquet(?, hive_partitioning=false) ORDER BY seq", [paths])
    con.execute(f"COPY refs TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
    peer = out.stat().st_size

result = [
    {"metric": "raw bytes a reference", "value": raw_bytes / rows, "unit": "B", "peer": None, "ratio": None},
    {"metric": "Parquet bytes a reference (refs)", "value": ours / rows, "unit": "B",
     "peer": f"DuckDB {duckdb.__version__} COPY zstd, one file: {peer / rows:.2f} B", "ratio": ours / peer},
    {"metric": "raw / Parquet", "value": raw_bytes / ours, "unit": "x", "peer": None, "ratio": None},
]
target = pathlib.Path("target/bench")
target.mkdir(parents=True, exist_ok=True)
(target / "bytes.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
for line in result:
    print(f"{line['metric']:36} {line['value']:8.2f} {line['unit']:3} {line['peer'] or ''}"
          + (f"  ratio {line['ratio']:.2f}" if line["ratio"] else ""))
