#!/usr/bin/env python3
"""The same nine rows as CSV, NDJSON and Parquet, by Python and pyarrow, not by our code: make.py, in this folder."""
import csv
import json
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = "ts cpu uid pid tid comm path object_kind event access major addr ip page page_order".split()
START = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
ROWS = [
    (0, 0, 1000, 10, 10, "db", "/data/table", "file", "fault", "read", True, 0x7F0000000000, 0x401000, 7, 0),
    (1, 1, 1000, 10, 11, "db", "/data/table", "file", "retouch", "write", False, 0x7F0000000000, 0x401004, 7, 0),
    (2, 0, 0, 20, 20, "logger", "/data/log", "file", "lookup", "read", None, None, None, 0, 0),
    (3, 0, 0, 20, 20, "logger", "/data/log", "file", "insert", None, None, None, None, 1, 0),
    (4, 3, 1000, 10, 10, "db", None, "heap", "fault", "write", False, 0x55D0_0020_0008, 0x401008, 0x55D000200, 9),
    (5, 0, 1000, 10, 10, "db", None, None, "fault", "exec", False, 0x55D000400000, None, None, 0),
    (6, 0, 1000, 10, 10, "db worker", "/data/ä, \"b\"", "file", "fault", None, False, None, None, 2**52 - 1, 0),
    (6, 0, 1000, 10, 10, "db worker", "/data/table", "file", "evict", None, None, None, None, 7, 0),
    (7, 65535, 1000, 10, 10, None, "/data/table", "file", "fault", "read", False, None, None, 8, 0),
]
times = [START + timedelta(microseconds=row[0]) for row in ROWS]
rows = [dict(zip(NAMES, (time, *row[1:]))) for time, row in zip(times, ROWS)]

with open("refs.csv", "w", newline="") as out:
    lines = csv.DictWriter(out, NAMES)
    lines.writeheader()
    for row in rows:
        hexadecimal = {name: hex(row[name]) for name in ("addr", "ip") if row[name] is not None}
        lines.writerow(row | hexadecimal | {"ts": row["ts"].isoformat()})

with open("refs.ndjson", "w") as out:
    for row in rows:
        told = {name: value for name, value in row.items() if value is not None}
        out.write(json.dumps(told | {"ts": row["ts"].isoformat()}) + "\n")

types = dict.fromkeys(NAMES, pa.int64()) | dict.fromkeys(("comm", "path"), pa.large_string())
types |= {"ts": pa.timestamp("us", "Europe/Berlin"), "major": pa.bool_(), "access": pa.string(), "page": pa.uint64()}
types |= dict.fromkeys(("object_kind", "event"), pa.dictionary(pa.int8(), pa.string())) | {"cpu": pa.float64()}
schema = pa.schema([(name, types[name]) for name in NAMES])
pq.write_table(pa.Table.from_pylist(rows, schema), "refs.parquet", compression="snappy", row_group_size=4)
