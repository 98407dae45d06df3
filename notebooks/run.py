"""run.py DATASET: executes every notebook here on the dataset and checks what comes out.

Executed copies and pictures go to target/notebooks/. Figures are compared with counts made in plain Python
over the rows that pyarrow reads: no SQL, and nothing of pgtrace.py. Prints 'N passed, N failed' last.
"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.colors
import matplotlib.image
import nbformat
import numpy
import pyarrow.parquet
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import charts
import pgtrace
from checks import Checks

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "target" / "notebooks"
REFERENCES = {"fault", "retouch", "lookup"}
# What a notebook found, by the names of its variables; asked for after its last cell.
RESULTS = {"01-first-look": ["recorded", "hot", "objects", "irf", "histogram", "buckets", "shown"]}


def execute(source: Path, dataset: Path, check: Checks) -> dict[str, list[dict]]:
    """Executes a notebook, saves its copy and its pictures, and returns its results as lists of rows."""
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    bare = all(not cell.outputs and cell.execution_count is None for cell in code)
    check.that(bare, f"{source.name}: stored without outputs")
    names = RESULTS.get(source.stem, [])
    frames = ", ".join(f"{name!r}: {name}.to_dict('records')" for name in names)
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json; print(json.dumps({{{frames}}}, default=str))"))
    os.environ["PGTRACE_DATASET"] = str(dataset)
    where = {"metadata": {"path": str(HERE)}}
    # Quiet: the kernel warns that it talks over TCP; it does so on this machine only, and signed.
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where, extra_arguments=["--log-level=ERROR"])
    try:
        with tempfile.TemporaryDirectory() as scratch:
            # Leave no history and no connection files in the user's home.
            os.environ |= {"IPYTHONDIR": scratch, "JUPYTER_RUNTIME_DIR": scratch}
            client.execute()
        check.that(True, f"{source.name}: executes")
    except CellExecutionError as e:
        check.that(False, f"{source.name}: {e}")
        return {}
    finally:
        last = notebook.cells.pop()
        nbformat.write(notebook, OUT / source.name)
    pictures(source, notebook, check)
    return json.loads("".join(o.text for o in last.outputs if o.output_type == "stream" and o.name == "stdout"))


def pictures(source: Path, notebook: nbformat.NotebookNode, check: Checks) -> None:
    """Saves each picture as NOTEBOOK-CELL.png and checks that something is drawn on it."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        words = [o for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
        check.that(not words, f"{source.name}, cell {cell.id}: warns: {words}")
        if "charts." not in cell.source:
            continue
        images = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
        if not check.equal(len(images), 1, f"{source.name}, cell {cell.id}: pictures"):
            continue
        path = OUT / f"{source.stem}-{cell.id}.png"
        path.write_bytes(base64.b64decode(images[0]))
        pixels = (matplotlib.image.imread(path)[:, :, :3] * 255).round().astype(numpy.uint8).reshape(-1, 3)
        colours, counts = numpy.unique(pixels, axis=0, return_counts=True)
        white = counts[(colours == 255).all(axis=1)].sum() / len(pixels)
        tints = [c for c in (charts.BLUE, charts.ORANGE, charts.GREEN, charts.GREY) if _has(colours, c)]
        check.that(len(colours) > 16 and 0.3 < white < 0.995, f"{path.name}: blank: {len(colours)} colours, {white:.1%} white")
        check.that(tints, f"{path.name}: none of the charts' colours is in it: no data drawn")


def _has(colours: numpy.ndarray, name: str) -> bool:
    want = numpy.array(matplotlib.colors.to_rgb(name)) * 255
    return bool((numpy.abs(colours - want).max(axis=1) < 2).any())


def rows_of(dataset: Path, table: str) -> list[dict]:
    """All rows of a table, in plain Python."""
    newest = max((dataset / "_pgtrace" / "manifest").glob("*.json"))
    named = json.loads(newest.read_text())["tables"].get(table, [])
    return [row for f in named for row in pyarrow.parquet.ParquetFile(dataset / f["path"]).read().to_pylist()]


def count(dataset: Path) -> dict:
    """The figures of 01-first-look, counted one reference at a time."""
    rows = rows_of(dataset, "refs")
    rows.sort(key=lambda r: (r["capture_id"], r["seq"]))
    files = defaultdict(Counter)
    distinct = defaultdict(set)
    seen: dict[tuple, list[int]] = defaultdict(list)
    for r in rows:
        if r["event"] not in REFERENCES:
            continue
        page = (r["capture_id"], r["object_id"], r["page"])
        seen[page].append(r["seq"])
        if r["path"] is not None:
            files[r["path"]]["refs"] += 1
            files[r["path"]][r["access"]] += 1
            distinct[r["path"]].add(page)
            distinct[r["path"], "processes"].add((r["capture_id"], r["upid"]))
    gaps = defaultdict(dict)
    pages = defaultdict(Counter)
    for (capture, thing, page), seqs in seen.items():
        pages[capture, thing].update(refs=len(seqs), pages=1, pages_again=len(seqs) > 1)
        if len(seqs) > 1:
            gaps[capture, thing][page] = (seqs[-1] - seqs[0]) / (len(seqs) - 1)
    hot = [
        {"path": path, "refs": n["refs"], "pages": len(distinct[path]), "reads": n["read"], "writes": n["write"],
         "execs": n["exec"], "processes": len(distinct[path, "processes"])}
        for path, n in files.items()
    ]
    return {"rows": rows, "hot": hot, "gaps": gaps, "pages": pages}


def compare(found: dict[str, list[dict]], dataset: Path, check: Checks) -> None:
    """Holds the results of 01-first-look against count()."""
    truth = count(dataset)
    objects = rows_of(dataset, "objects")
    total = {k: sum(r[k] for r in found["recorded"]) for k in ("refs", "lost", "processes", "files", "deleted_files")}
    lost = sum(r["count"] or 0 for r in rows_of(dataset, "losses") if r["channel"] == "refs" and r["cause"] != "overwritten")
    check.equal(total, {
        "refs": len(truth["rows"]),
        "lost": lost,
        "processes": len(rows_of(dataset, "processes")),
        "files": sum(o["object_kind"] == "file" for o in objects),
        "deleted_files": sum(o["object_kind"] == "file" and o["deleted"] for o in objects),
    }, "01-first-look: what was recorded")
    best = sorted(truth["hot"], key=lambda r: (-r["refs"], r["path"].encode()))[:12]
    check.equal(found["hot"], best, "01-first-look: hottest files")
    labelled = {(o["capture_id"], o["object_id"]): {k: o[k] for k in ("refs", "pages", "pages_again")} for o in found["objects"]}
    check.equal(labelled, {key: dict(n) for key, n in truth["pages"].items()}, "01-first-look: references and pages of each object")
    mean = {(o["capture_id"], o["object_id"]): o["gap_mean"] for o in found["irf"]}
    expected = {key: sum(gap.values()) / len(gap) for key, gap in truth["gaps"].items()}
    close = mean.keys() == expected.keys() and all(math.isclose(mean[k], expected[k], rel_tol=1e-9) for k in mean)
    check.that(close, f"01-first-look: mean gap of each object: expected {expected}, found {mean}")
    bars = {(b["capture_id"], b["object_id"], b["power"]): b["pages"] for b in found["buckets"]}
    # 2**power <= gap < 2**(power+1), found by doubling, not by a logarithm.
    expected = Counter((*key, int(gap).bit_length() - 1) for key, gaps in truth["gaps"].items() for gap in gaps.values())
    check.equal(bars, dict(expected), "01-first-look: pages in each bucket of the IRF histogram")
    check.that(found["histogram"] and found["shown"], "01-first-look: there are objects to draw")
    trace = pgtrace.connect(dataset)
    labels = pgtrace.object_labels(trace)
    for one in found["shown"]:
        row = labels[(labels.capture_id == one["capture_id"]) & (labels.object_id == one["object_id"])]
        points = charts.address_points(trace, next(row.itertuples()), "access")
        drawn = set(zip(points.page.tolist(), points.kind.astype(object).where(points.kind.notna(), None)))
        mine = [r for r in truth["rows"] if (r["capture_id"], r["object_id"]) == (one["capture_id"], one["object_id"])]
        used = {(r["page"], r["access"]) for r in mine if r["event"] in REFERENCES}
        if one["pages"] < 2 * charts.PAGE_BLOCKS:  # above that, neighbouring pages share a point
            check.that(drawn == used, f"01-first-look: pages drawn for {one['label']}: {len(drawn)} of {len(used)}")


def holes(check: Checks) -> None:
    """The cutting of untouched address space, on strings small enough to check by hand."""
    cut = lambda pages: charts.collapse(numpy.array(pages, dtype=numpy.uint64))
    check.equal(cut([7]), [(7, 7, 0.0)], "collapse: one page")
    check.equal(cut([0, 1, 2, 3]), [(0, 3, 0.0)], "collapse: no hole")
    check.equal(cut([0, 1, 2**63, 2**63 + 1]), [(0, 1, 0.0), (2**63, 2**63 + 1, 3.0)], "collapse: one wide hole")
    many = cut(range(0, 2000, 100))
    check.equal(many, [(0, 1900, 0.0)], "collapse: evenly spread pages are not torn apart")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: run.py DATASET", file=sys.stderr)
        return 2
    dataset = Path(arguments[0]).resolve()
    try:
        pgtrace.manifest(dataset)
    except pgtrace.DatasetError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    check = Checks()
    holes(check)
    notebooks = sorted(HERE.glob("[0-9][0-9]-*.ipynb"))
    check.that(notebooks, "there are notebooks")
    for source in notebooks:
        found = execute(source, dataset, check)
        if source.stem == "01-first-look" and found:
            compare(found, dataset, check)
    return check.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
