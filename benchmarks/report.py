"""Write ``docs/performance.md``: run the comparison scripts, put what is behind a peer first.

    python benchmarks/report.py                 everything (an hour), then the page
    python benchmarks/report.py --only kernels  these scripts; the others' tables are those of their last run
    python benchmarks/report.py --quick         does everything run? The page goes to .asv/report instead

What a script printed, and its rows in the form of ``tables.py``, are kept in ``.asv/report``. A script that
fails is named on standard error, keeps its last run's table, and makes the exit status 1. The README's
figures are the first columns of the same table of peers.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import libraries
import tables

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".asv" / "report"
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
PACKAGES = ("numpy", "numba", "scipy", "torch", "jax", "casadi", "autograd")
SHOWN = 40  # of what is behind


def of_gradbench(found: dict) -> list[dict]:
    """GradBench's rows; C fills arrays that are given, and so does what is compared with it."""
    halved = ("gmm", "lstm", "lse", "kmeans", "llsq")  # the project aims for half of the C's time
    rows = []
    for case in found["rows"]:
        times, name = case["us"], f"{case['workload']}, {case['size']}"
        filling = times.get("flatgrad, filling", times["flatgrad"])
        if "c" in times:
            target = 0.5 if case["workload"] in halved else 1.3
            rows.append(tables.row(name, "hand-written C", filling, times["c"], target))
        if "c-fast" in times:
            rows.append(tables.row(name, "C, -ffast-math", filling, times["c-fast"]))
        for key, peer in (("torch", "PyTorch"), ("jax", "JAX")):
            if key in times:
                rows.append(tables.row(name, peer, times["flatgrad"], times[key]))
    return rows


def of_peers(found: list[dict]) -> list[dict]:
    """The rows of peers.py, each beside the best of the other libraries."""
    rows = []
    for case in found:
        figures = {k: v for k, v in case["figures"].items() if isinstance(v, float)}
        own = figures.pop("flatgrad", None)
        if figures and own is not None:
            peer = min(figures, key=figures.get)
            scale, unit = (1e6, "us") if case["unit"] == "s" else (1.0, case["unit"])
            own, other = scale * own, scale * figures[peer]
            rows.append(tables.row(case["case"], peer, own, other, unit=unit))
    return rows


@dataclass(frozen=True)
class Script:
    """One comparison: its title, what the table shows, and how its JSON becomes rows."""

    title: str
    note: str
    convert: object = list
    arguments: tuple = ()


# By the script's path below benchmarks/. One that does not exist (yet) is left out.
SCRIPTS = {
    "peers": Script(
        "Beside PyTorch, JAX, CasADi and autograd",
        "Eager style, recorded anew in every call, unless the row says otherwise: in a small call recording, "
        "and finding the program, take most of the time. `fg.compile` does neither.",
        of_peers,
    ),
    "functions": Script("Scalar functions", "Into given memory, beside PyTorch's vectorised ones."),
    "fusion": Script("Losses, norms, attention, cells", "Beside C that is fused by hand."),
    "gradbench/run": Script(
        "GradBench",
        "Its twelve workloads. Ratios in this table are another column's time over ours: above 1, "
        "flatgrad is ahead.",
        of_gradbench,
        ("--seconds", "0.25"),
    ),
    "steps": Script("Whole training steps", "Forward, backward and the optimiser's update."),
    "kernels": Script("Contractions and windows", "A layer forward and both gradients."),
    "waiting": Script("Waiting", "Importing, compiling, starting from disk."),
    "memory": Script("Memory", "Arenas, budgets, and many signatures in one process."),
    "linalg": Script(
        "Small linear algebra",
        "Ratios in this table are LAPACK's time over ours: above 1, flatgrad is ahead.",
    ),
    "robotics": Script("Estimation and control", "From a Numba loop, beside CasADi."),
    "export": Script(
        "Exported C",
        "Compiled with `gcc -O3 -march=native`, called from a Numba loop. CasADi's C has no loops: all is "
        "written out.",
    ),
    "export_counts": Script(
        "Exported C: instructions and bytes", "Of one call, by callgrind; code as gcc makes it."
    ),
}


# -- running --------------------------------------------------------------------------------------


def stem(name: str) -> Path:
    return KEPT / name.replace("/", "-")


def run(name: str, script: Script, quick: bool) -> bool:
    """Run one script and keep what it printed; whether it succeeded."""
    file, kept = ROOT / "benchmarks" / f"{name}.py", stem(name)
    figures = kept.with_suffix(".new")
    command = [sys.executable, str(file), *script.arguments]
    text = file.read_text()
    if "tables.add_option" in text or '"--json"' in text:
        command += ["--json", str(figures)]
    else:  # it compares with no peer: a table alone
        figures.write_text("[]")
    command += ["--quick"] if quick else []
    source = os.pathsep.join((str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
    )
    if done.returncode or not figures.exists():
        print(f"!! {name}.py failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return False
    rows = script.convert(json.loads(figures.read_text()))
    tables.write(str(kept.with_suffix(".json")), rows)
    kept.with_suffix(".md").write_text(done.stdout.strip() + "\n")
    figures.unlink()
    return True


# -- the page -------------------------------------------------------------------------------------


def machine() -> str:
    """Processor, cores, system, versions."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    system = f"{platform.machine()}, {libraries.processor()}, {os.cpu_count()} processors"
    text = (
        f"{system}, {platform.system()}; Python {platform.python_version()}, {', '.join(versions)}."
    )
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else 0.0
    if load > 1.5:
        text += (
            f" Load {load:.1f} in the last quarter of an hour: other programs ran beside these. "
        )
        text += "Trust ratios, and only large ones."
    return text


def amount(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{digits} {'' if unit == 'ratio' else unit}".replace("us", "µs").strip()


def behind(found: dict[str, list[dict]]) -> list[str]:
    """A table of what is behind its peer or short of its goal; the furthest first."""
    rows = [(r, name) for name, group in found.items() for r in group if tables.is_behind(r)]
    rows.sort(key=lambda pair: -pair[0]["ratio"] / min(1.0, pair[0]["target"] or 1.0))
    total = sum(map(len, found.values()))
    if not rows:
        return [f"None of {total} comparisons."]
    lines = [
        f"{len(rows)} of {total} comparisons. The ratio is flatgrad's figure over the peer's: a row "
        "stands here if it is above 1, or above a goal that the project has set itself.",
        "",
        "| comparison | peer | flatgrad | peer's | ratio | goal | table |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, name in rows[:SHOWN]:
        goal = "-" if row["target"] is None else f"{row['target']:.2f}"
        ours, peer = (amount(row[key], row["unit"]) for key in ("ours", "peer"))
        cells = row["name"], row["peer_name"], ours, peer, f"{row['ratio']:.2f}", goal
        lines.append(f"| {' | '.join(cells)} | {SCRIPTS[name].title} |")
    if len(rows) > SHOWN:
        lines.append(f"\n... and {len(rows) - SHOWN} more, less far behind.")
    return lines


def summary(found: dict[str, list[dict]]) -> list[str]:
    """For each table and peer: how many rows, the geometric mean."""
    lines = ["| table | peer | rows | geometric mean of the ratios |", "|---|---|---|---|"]
    for name, rows in found.items():
        for peer in dict.fromkeys(r["peer_name"] for r in rows):
            group = [r for r in rows if r["peer_name"] == peer]
            mean = f"{tables.geometric_mean(group):.2f}"
            lines.append(f"| {SCRIPTS[name].title} | {peer} | {len(group)} | {mean} |")
    return lines


def page(quick: bool = False) -> str:
    """The whole page, of what is kept."""
    kept = [name for name in SCRIPTS if stem(name).with_suffix(".json").exists()]
    found = {name: tables.read(stem(name).with_suffix(".json")) for name in kept}
    lines = [
        "# Performance",
        "",
        "`python benchmarks/report.py` writes this page; no line of it is written by hand. Each table is one "
        "command's, in one run on one machine, the libraries in turns and results compared before they are "
        "timed. A Raspberry Pi has another balance of memory and arithmetic: "
        "[run it there](../benchmarks/README.md).",
        "",
        *([] if not quick else ["Quick form: single samples of small sizes, noise.", ""]),
        machine(),
        "",
        "## What is still behind a peer",
        "",
        *behind(found),
        "",
        "## All comparisons",
        "",
        *summary(found),
    ]
    for name in kept:
        script = SCRIPTS[name]
        command = " ".join(["python", f"benchmarks/{name}.py", *script.arguments])
        text = stem(name).with_suffix(".md").read_text().strip()
        lines += ["", f"## {script.title}", "", f"`{command}`. {script.note}", "", text]
    return "\n".join(lines) + "\n"


def readme(text: str, table: str) -> str:
    """The README with the first five columns of a table of peers.py between its marks."""
    head, mark, rest = text.partition("<!-- figures: begin -->")
    figures, end, tail = rest.partition("<!-- figures: end -->")
    words = [line for line in figures.splitlines() if not line.startswith("|")]
    lines = dropwhile(lambda line: not line.startswith("|"), table.splitlines())
    rows = takewhile(lambda line: line.startswith("|"), lines)  # the first table
    cells = ["|".join(line.split("|")[:6]) + "|" for line in rows]
    return "".join(
        (head, mark, "\n".join(words).rstrip(), "\n\n", "\n".join(cells), "\n", end, tail)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="scripts, separated by commas; none: 'page'")
    parser.add_argument("--quick", action="store_true", help="small sizes, a page that is not kept")
    options = parser.parse_args()
    if options.quick:
        globals()["KEPT"] = KEPT / "quick"
    KEPT.mkdir(parents=True, exist_ok=True)
    names = options.only.split(",") if options.only else list(SCRIPTS)
    unknown = set(names) - set(SCRIPTS) - {"page"}
    if unknown:
        raise SystemExit(f"report.py: no script {', '.join(unknown)}; {', '.join(SCRIPTS)}")
    good = True
    for name in names:
        if (ROOT / "benchmarks" / f"{name}.py").exists():
            print(f".. {name}", file=sys.stderr, flush=True)
            good = run(name, SCRIPTS[name], options.quick) and good
    target = KEPT / "performance.md" if options.quick else PAGE
    target.write_text(page(options.quick))
    table = stem("peers").with_suffix(".md")
    if table.exists() and not options.quick:
        text = README.read_text()
        README.write_text(readme(text, table.read_text()))
    print(f"wrote {target.relative_to(ROOT)}", file=sys.stderr)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
