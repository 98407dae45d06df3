"""Pictures of a trace, by matplotlib. Each function takes a connection of pgtrace.connect() and returns the figure.

Colours are those of Okabe and Ito, told apart by colour-blind people too; kinds differ in shape as well.
"""

from __future__ import annotations

import math

import duckdb
import matplotlib.pyplot as plt
import numpy
import pandas
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

import pgtrace

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
# Value -> (colour, marker, words of the legend). Reads are drawn first, so that the rarer kinds stay visible.
ACCESS = {
    "read": (BLUE, "o", "read"),
    "write": (ORANGE, "^", "write"),
    "exec": (GREEN, "s", "execute"),
    None: (GREY, "x", "not known (look-up by read())"),
}
EVENT = {
    "fault": (ORANGE, "^", "fault: page was not mapped"),
    "retouch": (BLUE, "o", "re-touch: page was used again"),
    "lookup": (GREEN, "s", "look-up by read()"),
}
# Set for all figures, not within a context: leaving the context that starts a notebook's backend would switch its display off.
plt.rcParams.update({
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
})
TIME_BINS = 1200  # points across: about the pixels of a panel
PAGE_BLOCKS = 4096  # points upwards, at most


def shorten(label: str, width: int = 60) -> str:
    """The label with its middle left out, so that both ends of a path can be read."""
    return label if len(label) <= width else label[: width // 3] + "…" + label[-(width - width // 3 - 1) :]


def hot_files(table: pandas.DataFrame) -> Figure:
    """Bars of references per file, split by access. Columns: path, refs, reads, writes, execs."""
    figure, ax = plt.subplots(figsize=(9, 1.2 + 0.34 * len(table)), layout="constrained")
    ys, left = numpy.arange(len(table)), numpy.zeros(len(table))
    rest = table.refs - table.reads - table.writes - table.execs
    for kind, counts in zip(ACCESS, (table.reads, table.writes, table.execs, rest)):
        counts = counts.to_numpy(dtype=float)
        if counts.any():
            ax.barh(ys, counts, left=left, height=0.7, color=ACCESS[kind][0], label=ACCESS[kind][2])
            left += counts
    for y, refs in zip(ys, left):
        ax.annotate(f"{int(refs):,}", (refs, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(ys, [shorten(p, 46) for p in table.path])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, left.max() * 1.09)  # room for the counts
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.set_xlabel("page references")
    ax.grid(axis="x")
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=4)
    return figure


def irf_histogram(connection: duckdb.DuckDBPyConnection, objects: pandas.DataFrame) -> Figure:
    """How soon pages come back: for each object, its pages by their mean gap, in powers of two.

    `objects`: rows of pgtrace.object_labels(), one panel each. Pages referenced once have no gap: the title counts them.
    """
    buckets = pgtrace.irf_buckets(connection)
    buckets = buckets.merge(objects[["capture_id", "object_id"]])
    # Where no page came back (a trace of first touches only), the panels are empty and their titles say so.
    low, high = (0, 1) if buckets.empty else (int(buckets.power.min()), int(buckets.power.max()) + 1)
    figure, axes = plt.subplots(len(objects), 1, figsize=(9, 0.6 + 1.5 * len(objects)), sharex=True, squeeze=False, layout="constrained")
    for ax, one in zip(axes[:, 0], objects.itertuples()):
        mine = buckets[(buckets.capture_id == one.capture_id) & (buckets.object_id == one.object_id)]
        powers, pages = mine.power.to_numpy(dtype=float), mine.pages.to_numpy(dtype=float)
        ax.bar(powers, pages, width=0.92, align="edge", color=BLUE)
        for x, count in zip(powers, pages):
            ax.annotate(f"{int(count):,}", (x + 0.46, count), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8)
        ax.set_title(f"{shorten(one.label)}: {one.pages_again:,} pages came back, {one.pages - one.pages_again:,} were used once")
        ax.set_ylabel("pages")
        ax.margins(y=0.18)
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.grid(axis="y")
    step = max(1, math.ceil((high - low) / 14))
    ticks = range(low, high + 1, step)
    axes[-1, 0].set_xticks([t - 0.04 for t in ticks], [f"{2**t:,}" for t in ticks], fontsize=9)
    axes[-1, 0].set_xlim(low - 0.3, high + 0.3)
    axes[-1, 0].set_xlabel("mean gap: references until the page is used again (each bar doubles; left comes back soon, right late)")
    return figure


def collapse(pages: numpy.ndarray, share: float = 0.15, most: int = 7) -> list[tuple[int, int, float]]:
    """Stretches of address space worth drawing: (first page, last page, height at which it starts).

    `pages`: distinct page indices, ascending. The widest hole is cut out if it would take more than `share` of
    the picture, then the next one of what is left, `most` times at most. A cut leaves a small step.
    """
    drawn = int(pages[-1]) - int(pages[0]) + 1
    holes = numpy.diff(pages.astype(numpy.uint64))
    cuts = []
    for at in numpy.argsort(holes, kind="stable")[::-1][:most]:
        hole = int(holes[at]) - 1
        if hole <= max(1, share * drawn):
            break
        cuts.append(at)
        drawn -= hole
    cuts.sort()
    stretches, height, first = [], 0.0, 0
    for last in [*cuts, len(pages) - 1]:
        stretches.append((int(pages[first]), int(pages[last]), height))
        height += int(pages[last]) - int(pages[first]) + 1 + max(1.0, 0.05 * drawn)
        first = last + 1
    return stretches


def address_time(connection: duckdb.DuckDBPyConnection, objects: pandas.DataFrame, colour: str = "access") -> Figure:
    """Which page was used when: one panel an object, time to the right, page index upwards.

    `objects`: rows of pgtrace.object_labels(). `colour`: "access" or "event". Stretches that were never touched
    are cut out (a dotted line): the labels on the left tell where in the object each stretch lies.
    """
    kinds = {"access": ACCESS, "event": EVENT}[colour]
    figure, axes = plt.subplots(len(objects), 1, figsize=(9, 0.8 + 2.1 * len(objects)), sharex=True, squeeze=False, layout="constrained")
    sizes = dict(connection.sql("SELECT capture_id, page_size FROM captures").fetchall())
    drawn = {}
    for ax, one in zip(axes[:, 0], objects.itertuples()):
        points = address_points(connection, one, colour)
        stretches = collapse(numpy.unique(points.page.to_numpy(dtype=numpy.uint64)))
        firsts = numpy.array([s[0] for s in stretches], dtype=numpy.uint64)
        heights = numpy.array([s[2] for s in stretches])
        for kind, (tint, marker, words) in kinds.items():
            some = points[points.kind.isna()] if kind is None else points[points.kind == kind]
            if some.empty:
                continue
            pages = some.page.to_numpy(dtype=numpy.uint64)
            at = numpy.searchsorted(firsts, pages, side="right") - 1
            ys = heights[at] + (pages - firsts[at]).astype(float)
            size = (2 if len(points) > 3000 else 7) * (1 if marker == "o" else 1.6)  # a circle looks larger than the rest
            stroke = 0.6 if marker == "x" else 0
            mark = ax.scatter(some.seconds.to_numpy(dtype=float), ys, s=size, marker=marker, color=tint, linewidths=stroke)
            drawn.setdefault(words, mark)
        virtual = one.object_kind not in ("file", "shmem", "hugetlb")  # the others are numbered by address
        _page_axis(ax, stretches, virtual)
        ax.set_ylabel(f"{'virtual page' if virtual else 'page in the file'}\n({sizes[one.capture_id] / 1024:g} KiB each)")
        ax.set_title(f"{shorten(one.label)}: {one.refs:,} references to {one.pages:,} pages")
    axes[-1, 0].set_xlabel("seconds since the start of the recording")
    figure.align_ylabels()
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper right", ncols=len(drawn), frameon=False, markerscale=3)
    return figure


def address_points(connection: duckdb.DuckDBPyConnection, one, colour: str) -> pandas.DataFrame:
    """Points of a panel: seconds, page, kind. At most TIME_BINS across, so a long trace draws as fast as a short one."""
    return pgtrace.query(
        connection,
        f"""
        WITH mine AS (
            SELECT (epoch_ns(r.ts) - epoch_ns(c.start_ts)) / 1e9 AS seconds, r.page, r.{colour} AS kind
            FROM page_references r JOIN captures c USING (capture_id)
            WHERE capture_id = ? AND object_id = ?
        ), scale AS (
            SELECT greatest((max(seconds) - min(seconds)) / {TIME_BINS}, 1e-9) AS step,
                   greatest(1, count(DISTINCT page) // {PAGE_BLOCKS})::UBIGINT AS block
            FROM mine
        )
        SELECT DISTINCT round(seconds / step) * step AS seconds, page // block * block AS page, kind FROM mine, scale
        """,
        [one.capture_id, int(one.object_id)],
    )


def _page_axis(ax: plt.Axes, stretches: list[tuple[int, int, float]], virtual: bool) -> None:
    """Labels of the page axis: where each stretch begins and the last one ends; a dotted line in each cut."""
    top = stretches[-1][2] + stretches[-1][1] - stretches[-1][0] + 1
    ticks, labels = [], []
    name = (lambda page: f"{page:#x}") if virtual else (lambda page: f"{page:,}")
    for n, (first, last, height) in enumerate(stretches):
        if not ticks or height - ticks[-1] > 0.09 * top:  # labels must not touch
            ticks.append(height)
            labels.append(name(first))
        end = height + last - first
        upper = stretches[n + 1][2] if n + 1 < len(stretches) else math.inf
        if end - ticks[-1] > 0.12 * top and upper - end > 0.09 * top:
            ticks.append(end)
            labels.append(name(last))
        if upper < math.inf:
            ax.axhline((end + upper) / 2, color=GREY, linewidth=0.8, linestyle=(0, (1, 3)))
    ax.set_yticks(ticks, labels, fontsize=8)
    ax.set_ylim(-0.04 * top, 1.04 * top)
