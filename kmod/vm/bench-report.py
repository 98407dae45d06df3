"""bench-report.py OUT KERNEL=FIGURES..: the table of `make bench-kernel`.

FIGURES is what bench-guest.sh printed: what, how, value, parted by tabs, one line a repetition. Prints the table, with
the median of the repetitions, and writes OUT/kernel.json, a list of {metric, value, unit, peer, ratio} and, where there
are any, {kernel, spread, limit}; ratio = value / the peer's; spread = largest less smallest repetition. Where matplotlib
is at hand, OUT/kernel-slowdown.svg is the chart of the slow-downs.
Exit code: 0; 1 where a limit is missed; 2 where figures are missing.
"""
import json
import pathlib
import statistics
import sys

LEVELS = ("light", "rich", "full")
POLICIES = ("first touches", "timer 1000", "timer 500", "timer 100", "timer 10", "timer 1", "fifo 8192", "fifo 1024", "fifo 256",
            "fifo 64")
FAULTS = ("fault, anonymous page", "fault, page of a file", "fault, page of a file on ext4")
WORKS = ("read(), 1 page a call", "read(), a page of 32", "mmap + munmap",
         "file page written + truncated", "fork + exit", "fork + exec + exit")


class Missing(Exception):
    """A figure that the run did not print."""


class Figures:
    """The repetitions of every figure of one kernel."""

    def __init__(self, path):
        self.values = {}
        for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
            fields = line.split("\t")
            if len(fields) == 3:
                what, how, value = fields
                try:
                    # Before and after the peers: the baseline is both.
                    self.values.setdefault((what, how.removesuffix(", again")), []).append(float(value))
                except ValueError:
                    self.values[what, how] = []  # "not in this module"

    def has(self, what, how):
        return bool(self.values.get((what, how)))

    def all(self, what, how):
        if not self.has(what, how):
            raise Missing(f"{what}, {how}")
        return self.values[what, how]

    def one(self, what, how):
        return statistics.median(self.all(what, how))

    def spread(self, what, how):
        return max(self.all(what, how)) - min(self.all(what, how))


class Report:
    """Rows of one kernel, as they are printed and stored."""

    def __init__(self, kernel, figures):
        self.kernel, self.figures, self.rows = kernel, figures, []

    def row(self, metric, value, unit, peer=None, ratio=None, spread=None, limit=None):
        self.rows.append({"metric": metric, "value": value, "unit": unit, "peer": peer, "ratio": ratio,
                          "kernel": self.kernel, "spread": spread, "limit": limit})

    def above(self, metric, what, how, base="nothing", limit=None, peer_how=None):
        """What `how` costs over `base`, beside what `peer_how` costs over nothing."""
        f = self.figures
        value = f.one(what, how) - f.one(what, base)
        peer = ratio = None
        if peer_how:
            other = f.one(what, peer_how) - f.one(what, "nothing")
            peer, ratio = f"{peer_how}: {other:.0f}", value / other
        self.row(metric, value, "instructions", peer, ratio, f.spread(what, how) + f.spread(what, base), limit)

    def plain(self, metric, what, how, unit="instructions"):
        self.row(metric, self.figures.one(what, how), unit, spread=self.figures.spread(what, how))


def faults(r):
    """Cost of an event: the fault, for who is not traced, who is, and for the kernel's own tracers."""
    f = r.figures
    for what in FAULTS:
        r.plain(f"{what}, nothing loaded", what, "nothing")
        r.above(f"{what}: module loaded, not recording", what, "module loaded", limit=0 + 10)
        for level in LEVELS:
            how = f"another process, {level}"
            r.above(f"{what}: another process recorded, {level}", what, how, limit=60,
                    peer_how="ftrace event, another process")
        for level in LEVELS:
            r.above(f"{what}: traced, {level}, over nothing loaded", what, f"traced, {level}", peer_how="ftrace event")
            r.above(f"{what}: traced, {level}, over the untraced fault", what, f"traced, {level}", f"another process, {level}",
                    limit=300 if level == "light" else None)
        light = f.one(what, "traced, light") - f.one(what, "nothing")
        for how in ("ftrace event", "ftrace event, no pid filter", "perf event"):
            peer = f.one(what, how) - f.one(what, "nothing")
            r.row(f"{what}: light against the {how}", light, "instructions", f"{how}: {peer:.0f}", light / peer, limit=peer)
        r.above(f"{what}: module stopped again", what, "module stopped", limit=10)


def hooks(r):
    """The other hooks, for who is not traced and who is."""
    f = r.figures
    for what in WORKS:
        r.plain(f"{what}, nothing loaded", what, "nothing")
        for how in [f"another process, {level}" for level in LEVELS] + [f"traced, {level}" for level in LEVELS]:
            r.above(f"{what}: {how}", what, how)
            if how.startswith("traced"):
                r.row(f"{what}: {how}: records", f.one(f"{what}: records", how), "records")


def policies(r):
    f = r.figures
    for what in ("cleaner, a PTE cleaned", "cleaner, a PTE found cleaned", "cleaner, a pass over 8192 pages"):
        r.plain(what, what, "traced, rich")
    for what in ("retouch, written", "retouch, read"):
        r.plain(f"{what}: mended by the kernel, not recorded", what, "not recorded")
        r.above(f"{what}: recorded, over that", what, "traced, rich", "not recorded")
    for n in (64, 256, 1024):
        if f.has("FIFO, a touch that evicts", f"fifo {n}"):
            r.plain(f"FIFO of {n}: a touch that faults and evicts", "FIFO, a touch that evicts", f"fifo {n}")
    if not f.has("FIFO, a touch that evicts", "fifo 64"):
        r.row("FIFO: not in this module", None, "instructions")


def drain(r):
    """Instructions a byte: two bursts, so that what a process costs however little it drains is not in it."""
    f = r.figures

    def slope(who):
        sizes = sorted({int(how) for what, how in f.values if what == f"drain, {who}: bytes"})
        if len(sizes) != 2:
            raise Missing(f"drain, {who}: two bursts")
        few, many = map(str, sizes)
        took = f.one(f"drain, {who}: instructions", many) - f.one(f"drain, {who}: instructions", few)
        wrong = f.spread(f"drain, {who}: instructions", many) + f.spread(f"drain, {who}: instructions", few)
        size = f.one(f"drain, {who}: bytes", many) - f.one(f"drain, {who}: bytes", few)
        return took / size, wrong / size

    cats = {who: slope(who) for who in ("busybox cat", "GNU cat")}
    for who, (value, spread) in cats.items():
        r.row(f"drain: {who}, a byte", value, "instructions", spread=spread)
    best = min(cats, key=lambda who: cats[who][0])
    value, spread = slope("pgtrace-capture")
    r.row("drain: pgtrace-capture, a byte", value, "instructions", f"{best}: {cats[best][0]:.2f}", value / cats[best][0], spread,
          1.5 * cats[best][0])
    r.plain("wire: a page reference", "wire: a page reference", "bytes", "bytes")
    r.rows[-1]["limit"] = 64


def slowdown(r):
    f = r.figures
    for name in ("database", "sort", "shell"):
        for how in POLICIES:
            run = name if f.has(f"slow-down, {name}", how) else f"{name}, longer"
            if not f.has(f"slow-down, {run}", how):
                if (f"slow-down, {run}", how) in f.values or how.startswith("fifo"):
                    r.row(f"slow-down, {name}: {how}: not in this module", None, "x")
                    continue
                raise Missing(f"slow-down, {name}, {how}")
            base = f.one(f"slow-down, {run}", "loaded")
            records = f.one(f"slow-down, {run}: records", how)
            lost = f.one(f"slow-down, {run}: lost", how)
            r.row(f"slow-down, {name}: {how}", f.one(f"slow-down, {run}", how) / base, "x",
                  f"{base / 1e6:.0f} M instructions untraced; {records:.0f} records" + (f", {lost:.0f} LOST" if lost else ""))


def flat(r):
    f = r.figures
    for what, how in list(f.values):
        if what == "flat out: faults":
            r.row(f"flat out, {how}: lost", f.one("flat out: lost", how), "records",
                  f"{f.one(what, how):.0f} faults, {f.one('flat out: emitted', how):.0f} records", limit=0)
            if f.one("flat out: emitted", how) < f.one(what, how) or not f.one("nobody drains: lost", how):
                raise Missing(f"flat out, {how}: every fault a record, and losses where nobody drains")


def show(number):
    if number is None:
        return ""
    return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def chart(reports, path):
    """One line a workload and kernel; policies from the mildest on."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, kind, title in ((axes[0], "timer ", "cleaner's period, ms"), (axes[1], "fifo ", "FIFO: active pages")):
        ticks = [p.removeprefix(kind) for p in POLICIES if p.startswith(kind)]
        for report in reports:
            for name in ("database", "sort", "shell"):
                points = {row["metric"]: row["value"] for row in report.rows if row["value"] is not None}
                line = [points.get(f"slow-down, {name}: {kind}{tick}") for tick in ticks]
                axis.plot(ticks, line, marker="o", label=f"{name}, {report.kernel}")
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("instructions / untraced")
    axes[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)


def main():
    out = pathlib.Path(sys.argv[1])
    reports, problems = [], []
    for argument in sys.argv[2:]:
        kernel, path = argument.split("=", 1)
        report = Report(kernel, Figures(path))
        for part in (faults, hooks, policies, drain, slowdown, flat):
            try:
                part(report)
            except Missing as e:
                problems.append(f"{kernel}: no figure for {e}")
        reports.append(report)
    out.mkdir(parents=True, exist_ok=True)
    (out / "kernel.json").write_text(json.dumps([row for r in reports for row in r.rows], indent=1), encoding="utf-8")
    missed = 0
    for report in reports:
        print(f"\nkernel {report.kernel}\n{'':68} {'value':>10} {'spread':>7} {'limit':>7} {'ratio':>6}")
        for row in report.rows:
            over = row["limit"] is not None and row["value"] > row["limit"]
            missed += over
            ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else ""
            print(f"{row['metric']:68} {show(row['value']):>10} {show(row['spread']):>7} {show(row['limit']):>7} {ratio:>6}"
                  f" {row['unit']}{'; ' + row['peer'] if row['peer'] else ''}{'  MISSED' if over else ''}")
    chart(reports, out / "kernel-slowdown.svg")
    for problem in problems:
        print(f"bench-report: {problem}", file=sys.stderr)
    return 2 if problems else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
