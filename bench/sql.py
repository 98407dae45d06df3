"""sql.py: questions of pgtrace-sql against DuckDB on the same Parquet files, in the same run.

  sql.py [--quick] [--refs N] [--pages N,..] [--mix scans|thirds] [--work FOLDER] [--only NAME;..] [--threads N] [--memory SIZE]

Makes datasets of N references (50 million; --quick: 5 million) to each number of distinct pages (5,000,000 and 200,000), in order of seq,
through the ordinary ingest. Both engines answer each question some times in an open session, in turns; the best time of each counts, and
what a session of ours takes to open is a line of its own. Answers are compared before times are.
Writes target/bench/sql.json: a list of {metric, value, unit, peer, ratio}; for times, ratio = DuckDB's / ours: how many times faster ours is.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import duckdb

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("PGTRACE_RELEASE", ROOT / "target/release"))
ROUNDS = 3

# Eight files. Two thirds of the references are scans, each of 8 of them going through a part of the pages; a sixth falls off with rank, a sixth
# is uniform: --mix thirds makes a third of each, which no capture of ours comes near, and compresses half as well.
MIX = {"scans": (66, 83), "thirds": (33, 66)}
REFERENCES = """
COPY (
    SELECT '/data/f' || (page * 8 // {pages}) AS path, page % ({pages} // 8 + 1) AS page FROM (
        SELECT CASE WHEN r < {scans} THEN ((i // 3) % ({pages} // 8) + (i // 1000 % 8) * ({pages} // 8)) % {pages}
                    WHEN r < {ranked} THEN CAST(floor({pages} * pow(u, 4)) AS BIGINT) * 7919 % {pages}
                    ELSE hash(i * 7 + 3) % {pages} END AS page
        FROM (SELECT i, hash(i) % 100 AS r, (hash(i + 1000000007) % 1000000) / 1e6 AS u FROM range({refs}) t(i))
    )
) TO '{to}' (FORMAT parquet, COMPRESSION zstd)
"""

LAG = """
SELECT object_id, page, count(*) AS refs, sum(gap) AS gap_sum, sum(1e0 / gap) AS inverse,
       sum(gap_ns) AS gap_sum_ns, sum(1e0 / gap_ns) AS inverse_ns
FROM (
    SELECT object_id, page, seq - lag(seq) OVER w AS gap, epoch_ns(ts) - lag(epoch_ns(ts)) OVER w AS gap_ns
    FROM refs WHERE event IN ('fault', 'retouch', 'lookup') WINDOW w AS (PARTITION BY object_id, page ORDER BY seq)
) GROUP BY object_id, page HAVING count(*) >= 2
"""
LAG_SEQ = """
SELECT object_id, page, count(*) AS refs, sum(gap) AS gap_sum
FROM (
    SELECT object_id, page, seq - lag(seq) OVER (PARTITION BY object_id, page ORDER BY seq) AS gap
    FROM refs WHERE event IN ('fault', 'retouch', 'lookup')
) GROUP BY object_id, page HAVING count(*) >= 2
"""

# name: (ours, DuckDB's, least ratio). Both give the same small table of numbers.
QUESTIONS = {
    "page_irf": (
        "SELECT count(*), sum(refs), round(sum(gap_mean), 0), round(sum(irf_mean_inverse), 3), round(sum(irf_rate_ns) * 1e9, 0) FROM page_irf",
        f"SELECT count(*), sum(refs), round(sum(gap_sum / (refs - 1)), 0), round(sum(inverse / (refs - 1)), 3), round(sum((refs - 1) / gap_sum_ns) * 1e9, 0) FROM ({LAG})",
        {5_000_000: 12, 200_000: 20}),
    "irf_histogram": (
        "SELECT object_id, gap_low, pages FROM irf_histogram ORDER BY object_id, gap_low",
        f"SELECT object_id, pow(2, floor(log2(gap_sum / (refs - 1)))) AS gap_low, count(*) FROM ({LAG_SEQ}) GROUP BY ALL ORDER BY 1, 2",
        {5_000_000: 12, 200_000: 20}),
    "working_set, 1 s": (
        "SELECT count(*), sum(pages), max(pages) FROM working_set('1s')",
        """SELECT count(*), sum(pages), max(pages) FROM (
               SELECT epoch_ns(ts) // 1000000000 AS w, count(DISTINCT (object_id, page)) AS pages FROM refs
               WHERE event IN ('fault', 'retouch', 'lookup') GROUP BY w)""",
        8),
    "group by path": (
        "SELECT path, count(*) AS refs FROM refs GROUP BY path ORDER BY path",
        "SELECT path, count(*) AS refs FROM refs GROUP BY path ORDER BY path", 1),
    "group by page, top 10": (
        "SELECT object_id, page, count(*) AS refs FROM refs GROUP BY object_id, page ORDER BY refs DESC, object_id, page LIMIT 10",
        "SELECT object_id, page, count(*) AS refs FROM refs GROUP BY object_id, page ORDER BY refs DESC, object_id, page LIMIT 10", 1),
    "hot_pages, top 10": (
        "SELECT object_id, page, refs FROM hot_pages ORDER BY refs DESC, object_id, page LIMIT 10",
        "SELECT object_id, page, count(*) AS refs FROM refs WHERE event IN ('fault', 'retouch', 'lookup') GROUP BY object_id, page ORDER BY refs DESC, object_id, page LIMIT 10", 1),
    "cut of 1 % by seq": (
        "SELECT count(*), sum(page) FROM refs WHERE seq >= {cut} AND seq < {cut_end}",
        "SELECT count(*), sum(page) FROM refs WHERE seq >= {cut} AND seq < {cut_end}", 1),
    "one path": (
        "SELECT count(*), min(seq), sum(page) FROM refs WHERE path = '/data/f3'",
        "SELECT count(*), min(seq), sum(page) FROM refs WHERE path = '/data/f3'", 1),
}
# The same as plain plans of the engine that ours is built on, in our own session: windows, sorts and aggregates that spill.
PLAIN_LAG = """
SELECT object_id, page, count(*) AS refs, sum(gap) AS gap_sum, sum(1e0 / gap) AS inverse, sum(gap_ns) AS gap_sum_ns
FROM (
    SELECT object_id, page, seq - lag(seq) OVER w AS gap, CAST(ts AS BIGINT) - lag(CAST(ts AS BIGINT)) OVER w AS gap_ns
    FROM refs WHERE event IN ('fault', 'retouch', 'lookup') WINDOW w AS (PARTITION BY object_id, page ORDER BY seq)
) GROUP BY object_id, page HAVING count(*) >= 2
"""
PLAIN = {
    "page_irf": f"SELECT count(*), sum(refs), round(sum(gap_sum / CAST(refs - 1 AS DOUBLE)), 0), round(sum(inverse / (refs - 1)), 3) FROM ({PLAIN_LAG})",
    "irf_histogram": f"SELECT object_id, power(2, floor(log2(gap_sum / CAST(refs - 1 AS DOUBLE)))) AS gap_low, count(*) FROM ({PLAIN_LAG}) GROUP BY 1, 2",
    "working_set, 1 s": """
        SELECT count(*), sum(pages), max(pages) FROM (
            SELECT w, count(*) AS pages FROM (
                SELECT DISTINCT CAST(ts AS BIGINT) / 1000000000 AS w, object_id, page FROM refs WHERE event IN ('fault', 'retouch', 'lookup'))
            GROUP BY w)""",
}
# References a second that curves have to reach, by threads.
CURVES = {
    "mrc": ("SELECT count(*), min(misses) FROM mrc", {1: 25e6, 2: 45e6}),
    "mrc_sampled(0.01)": ("SELECT count(*), min(miss_ratio) FROM mrc_sampled(0.01)", {2: 200e6}),
    "mrc_aet": ("SELECT count(*) FROM mrc_aet", {}),
    "wss_curve": ("SELECT count(*) FROM wss_curve", {}),
}


class Bench:
    def __init__(self, args):
        self.args, self.lines, self.failed = args, [], []

    def add(self, metric, value, unit, peer=None, ratio=None, at_least=None, at_most=None):
        line = {"metric": metric, "value": value, "unit": unit, "peer": peer, "ratio": ratio}
        text = f"{metric:64} {value:10.4g} {unit:8} {peer or ''}" + (f"  ratio {ratio:.3g}" if ratio is not None else "")
        if at_least is not None:
            kept = (ratio if ratio is not None else value) >= at_least
            line |= {"limit": f"at least {at_least:g}", "kept": kept}
            text += f"  [at least {at_least:g}: {'kept' if kept else 'MISSED'}]"
            self.failed += [] if kept else [metric]
        if at_most is not None:
            kept = value <= at_most
            line |= {"limit": f"at most {at_most:g}", "kept": kept}
            text += f"  [at most {at_most:g}: {'kept' if kept else 'MISSED'}]"
            self.failed += [] if kept else [metric]
        self.lines.append(line)
        print(text, flush=True)

    def dataset(self, pages):
        folder = pathlib.Path(self.args.work) / f"{self.args.mix}-p{pages}-r{self.args.refs}"
        if not folder.exists():
            table = folder.with_suffix(".parquet")
            scans, ranked = MIX[self.args.mix]
            duckdb.sql(REFERENCES.format(pages=pages, refs=self.args.refs, to=table, scans=scans, ranked=ranked))
            subprocess.run([RELEASE / "pgtrace-ingest", table, "--to", folder, "--from", "parquet", "--partition-by", "uid,slice"],
                           check=True, stderr=subprocess.DEVNULL)
            table.unlink()
        return folder

    def session(self, dataset, threads, *more):
        command = [RELEASE / "pgtrace-sql", dataset, "--format", "json", "--memory", self.args.memory, "--threads", str(threads or self.args.threads), *more]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{more}\n{done.stderr}")
        return done

    def peer(self):
        """DuckDB, with what ours may use."""
        con = duckdb.connect()
        con.execute(f"SET threads = {self.args.threads}; SET memory_limit = '{self.args.memory}'; SET temp_directory = '{self.args.work}/spill'")
        return con

    def rows(self, dataset, sql):
        return [tuple(row.values()) for row in json.loads(self.session(dataset, None, "-c", sql).stdout)]

    def times(self, dataset, sql, threads=None):
        """Seconds of each of some runs in one session."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write("\\timing on\n" + f"{sql};\n" * (self.args.rounds + 1))
            script.flush()
            said = self.session(dataset, threads, "-f", script.name).stderr
        return [float(line.split()[-2]) for line in said.splitlines() if line.endswith(" s") and " rows in " in line]


def refs(dataset):
    """A dataset's references, as DuckDB reads them."""
    return f"read_parquet('{dataset}/refs/**/*.parquet', hive_partitioning = false)"


def same(ours, theirs):
    def number(value):
        return float(value) if isinstance(value, (int, float)) or (isinstance(value, str) and value.replace(".", "", 1).isdigit()) else value
    close = lambda a, b: a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 1e-6 * max(abs(a), abs(b), 1))
    return len(ours) == len(theirs) and all(
        close(number(a), number(b)) for mine, other in zip(ours, theirs) for a, b in zip(mine, map(lambda v: v if isinstance(v, (int, float, str)) else float(v), other)))


def questions(bench, dataset, pages):
    con = bench.peer()
    con.execute(f"CREATE VIEW refs AS SELECT * FROM {refs(dataset)}")
    cut = bench.args.refs * 2 // 5
    fill = {"cut": cut, "cut_end": cut + bench.args.refs // 100}
    for name, (ours, theirs, least) in QUESTIONS.items():
        if bench.args.only and name not in bench.args.only:
            continue
        ours, theirs = (sql.replace("{cut_end}", str(fill["cut_end"])).replace("{cut}", str(fill["cut"])) for sql in (ours, theirs))
        mine, other, rows = [], [], bench.rows(dataset, ours)
        for _ in range(bench.args.rounds):
            mine += bench.times(dataset, ours)
            start = time.perf_counter()
            expected = con.execute(theirs).fetchall()
            other.append(time.perf_counter() - start)
            if not same(rows, expected):
                sys.exit(f"{name}: ours {rows[:3]}, DuckDB's {expected[:3]}")
        least = least.get(pages, 1) if isinstance(least, dict) else least
        bench.add(f"{name}, {pages} pages", min(mine), "s", f"DuckDB {duckdb.__version__}: {min(other):.3g}", min(other) / min(mine), at_least=least)


def plain(bench, dataset, pages):
    """Ours against plain plans of the engine underneath."""
    if bench.args.only and "plain" not in bench.args.only:
        return
    for name, sql in PLAIN.items():
        mine = min(bench.times(dataset, QUESTIONS[name][0]))
        start = time.perf_counter()
        bench.session(dataset, None, "-c", sql)
        took = time.perf_counter() - start
        bench.add(f"{name}, {pages} pages, against a plain plan", mine, "s", f"DataFusion: {took:.3g}", took / mine)


def libcachesim(bench, dataset, pages):
    """The whole curve against a simulated cache of one size, which also says whether the curve is right there."""
    if bench.args.only and "libcachesim" not in bench.args.only:
        return
    try:
        import libcachesim as lcs
        import numpy as np
    except ImportError:
        print("  libcachesim is not installed (pip install libcachesim==0.3.5): left out", flush=True)
        return
    # Its oracleGeneral format: 24 bytes a request.
    request = np.dtype([("time", "<u4"), ("object", "<u8"), ("size", "<u4"), ("next", "<i8")])
    trace = pathlib.Path(bench.args.work) / "trace.oracleGeneral"
    sql = f"SELECT object_id * 1000000000000 + page AS object FROM {refs(dataset)} ORDER BY seq"
    objects = duckdb.sql(sql).fetchnumpy()["object"]
    requests = np.zeros(len(objects), dtype=request)
    requests["time"], requests["object"], requests["size"], requests["next"] = np.arange(len(objects)) // 1000, objects, 1, -1
    requests.tofile(trace)
    del objects, requests
    curve = dict(bench.rows(dataset, "SELECT pages, miss_ratio FROM mrc"))
    mine = {threads: min(bench.times(dataset, CURVES["mrc"][0], threads)) for threads in (1, bench.args.threads)}
    for size in (pages // 100, pages // 10):
        reader = lcs.TraceReader(trace=str(trace), trace_type=lcs.TraceType.ORACLE_GENERAL_TRACE, reader_init_params=lcs.ReaderInitParam(ignore_obj_size=True))
        cache = lcs.LRU(cache_size=size)
        start = time.perf_counter()
        misses = cache.process_trace(reader)[0]
        took = time.perf_counter() - start
        ours = curve[max(s for s in curve if s <= size)]
        if abs(misses - ours) > 1e-6:
            sys.exit(f"mrc at {size} pages: ours {ours}, libCacheSim's {misses}")
        for threads, time_ in mine.items():
            bench.add(f"mrc, {pages} pages, {threads} threads, against one cache of {size} pages", time_, "s",
                      f"libCacheSim {lcs.__version__}: {took:.3g}", took / time_)
    trace.unlink()


def split(bench, dataset, pages, parts=1000):
    """A split into parts against a sorted copy of the same rows by DuckDB, both to the same disk."""
    if bench.args.only and "split" not in bench.args.only:
        return
    to = pathlib.Path(bench.args.work) / "parts"
    shutil.rmtree(to, ignore_errors=True)
    start = time.perf_counter()
    command = [RELEASE / "pgtrace-sql", "split", dataset, "--by", f"page % {parts}", "--to", to, "--memory", bench.args.memory, "--threads", str(bench.args.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"split: {done.stderr}")
    mine, made = time.perf_counter() - start, len(list(to.iterdir()))
    shutil.rmtree(to)
    copy = pathlib.Path(bench.args.work) / "sorted.parquet"
    con = bench.peer()
    start = time.perf_counter()
    con.execute(f"COPY (SELECT * FROM {refs(dataset)} ORDER BY page % {parts}, seq) "
                f"TO '{copy}' (FORMAT parquet, COMPRESSION zstd)")
    took = time.perf_counter() - start
    copy.unlink()
    bench.add(f"split into {made} parts, {pages} pages", mine, "s", f"a sorted copy by DuckDB {duckdb.__version__}: {took:.3g}", took / mine, at_least=0.5)


def curves(bench, dataset, pages):
    for name, (sql, least) in CURVES.items():
        if bench.args.only and name not in bench.args.only:
            continue
        for threads in (1, 2):
            took = min(bench.times(dataset, sql, threads))
            bench.add(f"{name}, {pages} pages, {threads} threads", bench.args.refs / took / 1e6, "M refs/s",
                      at_least=least[threads] / 1e6 if threads in least and pages == bench.args.curve_pages else None)


def error(bench, dataset, pages):
    """Mean error of the sampled curve, over a thousand sizes."""
    if bench.args.only and "error" not in bench.args.only:
        return
    curves = {}
    for view in ("mrc", "mrc_sampled(0.01)", "mrc_aet", "mrc_fixed(10000)"):
        curves[view] = bench.rows(dataset, f"SELECT pages, miss_ratio FROM {view} ORDER BY pages")
    import bisect
    def at(curve, size):
        return curve[max(bisect.bisect_right(curve, (size, 2.0)) - 1, 0)][1]
    most = curves["mrc"][-1][0]
    sizes = [max(1, i * most // 1000) for i in range(1, 1001)]
    for view in list(curves)[1:]:
        mean = sum(abs(at(curves[view], s) - at(curves["mrc"], s)) for s in sizes) / len(sizes)
        bench.add(f"{view}, {pages} pages, mean error of the miss ratio", mean, "")


# Every view, all of its rows and columns.
VIEWS = ["page_irf", "irf_histogram", "irf_histogram_ns", "object_irf", "reuse_histogram", "mrc", "mrc_sampled(0.01)", "mrc_fixed(10000)", "mrc_aet", "wss_curve",
         "working_set", "wss_percentiles", "hot_files", "hot_processes", "hot_pages", "recency_histogram", "temperature_histogram", "relation_matrix",
         "patterns", "object_patterns", "phases", "summary", "recorder_limits", "reuse_distance"]
ABOVE = 200_000_000


def memory(bench, dataset, pages, cap="256MiB"):
    """Peak memory of the whole program, for every view."""
    if bench.args.only and "memory" not in bench.args.only:
        return
    for view in VIEWS:
        command = [RELEASE / "pgtrace-sql", dataset, "--format", "csv", "--memory", cap, "--threads", str(bench.args.threads), "-c", f"SELECT * FROM {view}"]
        start = time.perf_counter()
        child = subprocess.Popen(["/usr/bin/env", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        took = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status):
            print(f"  {view}: {said.strip()}", flush=True)
        bench.add(f"peak memory of {view}, --memory {cap}, {pages} pages", usage.ru_maxrss * 1024 / 1e6, "MB", f"{took:.1f} s", at_most=(256 * 1024 * 1024 + ABOVE) / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--refs", type=int)
    parser.add_argument("--pages", default="5000000,200000,1000000")
    parser.add_argument("--curve-pages", type=int, default=1_000_000)
    parser.add_argument("--mix", choices=MIX, default="scans")
    parser.add_argument("--work")
    parser.add_argument("--only", type=lambda text: text.split(";"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--memory", default="1GiB")
    args = parser.parse_args()
    args.refs = args.refs or (5_000_000 if args.quick else 50_000_000)
    args.rounds = args.rounds or (1 if args.quick else ROUNDS)
    kept = bool(args.work)
    args.work = args.work or tempfile.mkdtemp(prefix="pgtrace-bench-")
    pathlib.Path(args.work).mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    print(f"{args.refs} references, {args.threads} threads, {args.memory}; load {os.getloadavg()[0]:.1f}")
    try:
        for pages in map(int, args.pages.split(",")):
            dataset = bench.dataset(pages)
            start = time.perf_counter()
            bench.session(dataset, None, "-c", "SELECT 1")
            bench.add(f"opening a session, {pages} pages", time.perf_counter() - start, "s")
            if pages != args.curve_pages:
                questions(bench, dataset, pages)
            if pages == max(map(int, args.pages.split(","))):
                memory(bench, dataset, pages)
            curves(bench, dataset, pages)
            if pages == args.curve_pages:
                error(bench, dataset, pages)
                libcachesim(bench, dataset, pages)
            if pages == min(map(int, args.pages.split(","))):
                plain(bench, dataset, pages)
                split(bench, dataset, pages)
    finally:
        if not kept:
            shutil.rmtree(args.work, ignore_errors=True)
    to = ROOT / "target/bench/sql.json"
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(bench.lines, indent=1))
    if bench.failed:
        print(f"{len(bench.failed)} limits missed:\n  " + "\n  ".join(bench.failed))
        sys.exit(1)


main()
