"""ingest.py: ingest against DuckDB's COPY, what it takes in memory, and how its time grows.

  ingest.py [--quick] [--refs N] [--from RAW..] [--work FOLDER] [--only SECTION,..] [--big]

Makes a recording of N references (20 million; --quick: 2 million) out of a real one (what bench/record.sh recorded; testdata/demo where
there is none) with the example `scale`, and ingests it with the release build. Writes target/bench/ingest.json: a list of {metric, value, unit, peer, ratio}; ratio = value / the peer's. Each
line is explained in bench/README.md. --big is one ingest of more than 16 GB of raw trace, written to ingest-big.json; it takes some 20 GB of disk.

Where others use the machine, too, wall time says little: every time is taken a second way, as processor time of the process and its threads.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = pathlib.Path(os.environ.get("PGTRACE_RELEASE", ROOT / "target/release"))
INGEST = RELEASE / "pgtrace-ingest"
EXAMPLES = RELEASE / "examples"
MIB = 1 << 20
# What a run may take above --memory in MiB, and how much longer ten times the input may take.
ABOVE_CAP, LINEAR = 150, 11
SECTIONS = ["copy", "decode", "memory", "read"]


class Bench:
    def __init__(self, args):
        self.args = args
        self.work = pathlib.Path(args.work)
        # A small recording repeated by ever new processes has thousands of them, with few references each: another
        # question than how much memory or bytes a reference takes.
        small = sum(p.stat().st_size for r in args.raw for p in pathlib.Path(r).glob("*.pgt")) < 20 * MIB
        self.lives = ["--lives", "100"] if small else []
        self.lines = []
        self.failed = []

    def add(self, metric, value, unit, peer=None, ratio=None, at_most=None, at_least=None):
        """A line; with a limit it says, too, whether it is kept. The limit is for the ratio, where there is one."""
        line = {"metric": metric, "value": value, "unit": unit, "peer": peer, "ratio": ratio}
        judged = ratio if ratio is not None else value
        if at_most is not None or at_least is not None:
            line["limit"] = f"at most {at_most:g}" if at_most is not None else f"at least {at_least:g}"
            line["kept"] = judged <= at_most if at_most is not None else judged >= at_least
            if not line["kept"]:
                self.failed.append(metric)
        self.lines.append(line)
        text = f"{metric:74} {value:10.4g} {unit:11} {peer or ''}"
        text += f"  ratio {ratio:.3g}" if ratio is not None else ""
        text += f"  [{line['limit']}: {'kept' if line['kept'] else 'MISSED'}]" if "limit" in line else ""
        print(text, flush=True)

    def recording(self, name, refs, *options):
        """A recording of `refs` references, made once."""
        folder = self.work / name
        if not folder.exists():
            run([EXAMPLES / "scale", *self.args.raw, folder, "--refs", str(refs), *options])
        return folder

    def ingest(self, raw, name, *options, keep=False):
        """One whole command; gives what it took and the dataset (if kept)."""
        to = self.work / name
        shutil.rmtree(to, ignore_errors=True)
        took = run([INGEST, raw, "--to", to, *options])
        took["rows"] = int(re.search(r"refs: (\d+) rows", took["said"]).group(1))
        if "losses: none" not in took["said"]:
            sys.exit(f"{raw} has losses:\n{took['said']}")
        if not keep:
            shutil.rmtree(to)
        return took, to


def run(command):
    """Runs to the end; gives wall and processor seconds, the most memory it had, and what it said."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([str(c) for c in command], stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - started
        said.seek(0)
        text = said.read().decode()
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{text}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024, "said": text}


def refs_files(dataset):
    newest = max((dataset / "_pgtrace/manifest").glob("*.json"))
    files = json.loads(newest.read_text(encoding="utf-8"))["tables"]["refs"]
    return [(str(dataset / f["path"]), f["bytes"], f["rows"]) for f in files]


class Duck:
    """DuckDB with the rows of a dataset in a table of its own memory, in order of seq.

    In a process of its own: what this process holds, Linux would count as memory that its children once had.
    """

    def __init__(self, dataset, threads):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve_duck, args=(theirs, str(dataset), threads), daemon=True)
        self.process.start()
        theirs.close()
        self.version, self.rows = self.pipe.recv()

    def copy(self, to):
        self.pipe.send(str(to))
        return self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()


def serve_duck(pipe, dataset, threads):
    import duckdb
    connection = duckdb.connect()
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET enable_progress_bar = false")
    paths = [path for path, _, _ in refs_files(pathlib.Path(dataset))]
    connection.execute("CREATE TABLE refs AS SELECT * FROM read_parquet(?, hive_partitioning = false) ORDER BY seq", [paths])
    pipe.send((duckdb.__version__, connection.execute("SELECT count(*) FROM refs").fetchone()[0]))
    while to := pipe.recv():
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        connection.execute(f"COPY refs TO '{to}' (FORMAT parquet, COMPRESSION zstd)")
        wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        size = os.stat(to).st_size
        os.unlink(to)
        pipe.send({"wall": wall, "cpu": cpu, "bytes": size})


def best(runs, key):
    return min(run[key] for run in runs)


def against_copy(bench):
    """Raw chunk to committed dataset against COPY from memory, and what both weigh."""
    refs, rounds = bench.args.refs, bench.args.rounds
    cores = os.cpu_count() or 1
    raw = bench.recording("raw", refs)
    cases = [("uid,pid,slice", []), ("uid,slice", ["--partition-by", "uid,slice"])]
    for threads in [cores, 1] if cores > 1 else [1]:
        for what, layout in cases:
            options = [*layout, "--threads", str(threads)]
            ours, theirs = [], []
            first, dataset = bench.ingest(raw, "copied", *options, keep=True)
            duck = Duck(dataset, threads)
            assert duck.rows == first["rows"]
            for _ in range(rounds):
                ours.append(bench.ingest(raw, "timed", *options)[0])
                theirs.append(duck.copy(bench.work / "duck.parquet"))
            rows = duck.rows
            what = f"{what}, {threads} thread{'s' if threads > 1 else ''}"
            for kind, unit in [("wall", "M rows/s"), ("cpu", "M rows/s a core")]:
                speed = rows / best(ours, kind) / 1e6
                peer = rows / best(theirs, kind) / 1e6
                limit = 1 if kind == "wall" else None
                bench.add(f"raw to committed dataset, {what}, {kind}", speed, unit,
                          f"DuckDB {duck.version} COPY zstd from memory: {peer:.2f}", speed / peer, at_least=limit)
            if threads == cores:
                weigh(bench, what, raw, dataset, theirs[0]["bytes"], rows)
            duck.close()
            shutil.rmtree(dataset)


def weigh(bench, what, raw, dataset, peer, rows):
    raw_bytes = sum(p.stat().st_size for p in raw.glob("*.pgt"))
    ours = sum(size for _, size, _ in refs_files(dataset))
    bench.add(f"raw bytes a reference, {what}", raw_bytes / rows, "B")
    bench.add(f"Parquet bytes a reference, {what}", ours / rows, "B", f"DuckDB COPY zstd, one file in order of seq: {peer / rows:.2f}",
              ours / peer, at_most=1)
    bench.add(f"Parquet / raw, {what}", ours / raw_bytes, "", at_most=0.1)


def decode(bench):
    """Decoding and merging alone, a core, and what part of memory bandwidth that is."""
    raw = bench.recording("raw", bench.args.refs)
    out = subprocess.run([EXAMPLES / "decode_merge", raw, "--threads", "1", "--runs", str(bench.args.rounds)],
                         capture_output=True, text=True, check=True).stdout
    for line in json.loads(out):
        limit = 20 if line["metric"] == "decode and merge, a core" else None
        bench.add(line["metric"], line["value"], line["unit"], at_least=limit)


def memory(bench):
    """Most memory, and time, at 1, 10 and 100 times the input."""
    factors = [1, 10] if bench.args.quick else [1, 10, 100]
    one = bench.recording("x1", bench.args.refs // 20, *bench.lives)
    rows = bench.ingest(one, "memory")[0]["rows"]  # no less than the real recording has
    for cap in ["64MiB", "256MiB", "1GiB"]:
        limit = int(cap[:-3]) * (1 if cap.endswith("MiB") else 1024) + ABOVE_CAP
        times = {}
        for factor in factors:
            raw = one if factor == 1 else bench.recording(f"x{factor}", rows * factor, *bench.lives)
            took, _ = bench.ingest(raw, "memory", "--memory", cap)
            times[factor] = took["cpu"]
            bench.add(f"peak memory, --memory {cap}, {took['rows']} references", took["rss"] / MIB, "MiB", at_most=limit)
        for few, many in zip(factors, factors[1:]):
            bench.add(f"processor time at {many}x, --memory {cap}", times[many], "s", f"at {few}x: {times[few]:.2f} s",
                      times[many] / times[few], at_most=LINEAR)


def read(bench):
    """Bytes of files that a question has to read."""
    raw = bench.recording("read-raw", bench.args.refs, *bench.lives)
    _, dataset = bench.ingest(raw, "read", keep=True)
    out = subprocess.run([EXAMPLES / "bytes_read", dataset], capture_output=True, text=True, check=True).stdout
    for line in json.loads(out):
        bench.add(line["metric"], line["value"], line["unit"], line["peer"], line["ratio"])
    shutil.rmtree(dataset)


def big(bench):
    """One ingest of more than 16 GB of raw trace."""
    raw = bench.recording("big", bench.args.refs, *bench.lives)
    raw_bytes = sum(p.stat().st_size for p in raw.glob("*.pgt"))
    took, dataset = bench.ingest(raw, "big-dataset", keep=True)
    files = refs_files(dataset)
    bench.add("raw trace", raw_bytes / 1e9, "GB", at_least=16)
    bench.add("references", took["rows"] / 1e6, "M rows")
    bench.add("raw to committed dataset, wall", took["rows"] / took["wall"] / 1e6, "M rows/s", f"{took['wall']:.0f} s")
    bench.add("raw to committed dataset, raw bytes", raw_bytes / took["wall"] / 1e6, "MB/s")
    bench.add("raw to committed dataset, processor", took["rows"] / took["cpu"] / 1e6, "M rows/s a core", f"{took['cpu']:.0f} s")
    bench.add("peak memory, --memory 1GiB", took["rss"] / MIB, "MiB", at_most=1024 + ABOVE_CAP)
    bench.add("files of refs", len(files), "files")
    bench.add("bytes a reference", sum(size for _, size, _ in files) / took["rows"], "B")
    shutil.rmtree(dataset)
    shutil.rmtree(raw)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the references, one round: to see that all of it works")
    parser.add_argument("--refs", type=int, help="references (default 20 million; --big: 258 million)")
    parser.add_argument("--from", dest="raw", nargs="+", help="a real recording (default: what bench/record.sh made, or testdata/demo)")
    parser.add_argument("--work", help="where recordings and datasets go meanwhile (default: a temporary folder in target/)")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--big", action="store_true", help="the 16 GB run instead")
    args = parser.parse_args()
    recorded = ROOT / "target/bench/real"
    args.raw = args.raw or [str(recorded if any(recorded.glob("*.pgt")) else ROOT / "testdata/demo")]
    usual = 2_000_000 if args.quick else 20_000_000
    args.refs = args.refs or (int(16.5e9 / 64) if args.big else usual)
    args.rounds = 1 if args.quick else 3
    unknown = set(args.only.split(",")) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    out = ROOT / "target/bench"
    out.mkdir(parents=True, exist_ok=True)
    temporary = None
    if args.work is None:
        temporary = tempfile.TemporaryDirectory(dir=ROOT / "target", prefix="bench-")
        args.work = temporary.name
    pathlib.Path(args.work).mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    print(f"{args.refs} references out of {', '.join(args.raw)}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}")
    sections = {"copy": against_copy, "decode": decode, "memory": memory, "read": read}
    if args.big:
        big(bench)
    else:
        for name in args.only.split(","):
            sections[name](bench)
    name = "ingest-big.json" if args.big else "ingest.json"
    (out / name).write_text(json.dumps(bench.lines, indent=1), encoding="utf-8")
    if bench.failed:
        print(f"{len(bench.failed)} limits missed:", *bench.failed, sep="\n  ")
    sys.exit(1 if bench.failed else 0)


if __name__ == "__main__":
    main()
