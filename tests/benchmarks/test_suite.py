"""The benchmarks' machinery: asv runs and publishes, the gate decides, the report sorts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = ROOT / "benchmarks"
FAMILIES = {"warm", "cold", "disk", "size"}


def load(name: str):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(
            f"benchmarks_{name}", BENCHMARKS / f"{name}.py"
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


tables, report, regression = load("tables"), load("report"), load("regression")


def test_every_suite_is_of_one_family():
    suite = BENCHMARKS / "suite"
    assert not list(suite.glob("bench_*.py"))
    assert {p.parent.name for p in suite.rglob("bench_*.py")} == FAMILIES


# -- asv ------------------------------------------------------------------------------------------


def asv(folder: Path, *command) -> str:
    environment = {**os.environ, "HOME": str(folder), "ASV_PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-m", "asv", *command, "--config", str(folder / "asv.conf.json")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repository(folder: Path) -> str:
    """One of a single commit, as a checkout may come without its history; the commit's hash."""
    folder.mkdir()

    def git(*command) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
        done = subprocess.run(
            ["git", *author, *command], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "one")
    return git("rev-parse", "HEAD")


def test_asv_runs_in_this_environment_and_publishes_a_page_without_a_network(tmp_path):
    pytest.importorskip("asv")
    own = (ROOT / "asv.conf.json").read_text().splitlines()
    config = json.loads("\n".join(line for line in own if not line.strip().startswith("//")))
    config |= {name: str(tmp_path / name) for name in ("env_dir", "results_dir", "html_dir")}
    config |= {"repo": str(tmp_path / "repo"), "benchmark_dir": str(BENCHMARKS / "suite")}
    (tmp_path / "asv.conf.json").write_text(json.dumps(config))
    commit = repository(tmp_path / "repo")
    asv(tmp_path, "machine", "--yes")
    only = r"--bench=^warm\.bench_control\.Control\.time_call"
    asv(tmp_path, "run", "--python=same", "--quick", f"--set-commit-hash={commit}", only)
    (result,) = (tmp_path / "results_dir").glob(f"*/{commit[:8]}*.json")
    found = json.loads(result.read_text())["results"]
    assert found and all(name.startswith("warm.bench_control.") for name in found)

    asv(tmp_path, "publish")
    index = json.loads((tmp_path / "html_dir" / "index.json").read_text())
    assert set(found) <= set(index["benchmarks"])


# -- the gate -------------------------------------------------------------------------------------


def test_the_gate_wants_a_ratio_and_an_absolute_difference():
    before = {"same": 1e-3, "slower": 1e-3, "tiny": 1e-6, "little": 1e-2, "gone": 1.0}
    after = {"same": 1e-3, "slower": 1.2e-3, "tiny": 2e-6, "little": 1.1e-2, "new": 9.0}
    (line,) = regression.slower(before, after)
    assert line.startswith("slower: 1000.0 us, now 1200.0 us, 1.20 times")
    assert regression.slower(after, after) == []


def test_the_deliberate_slow_down_still_fits_the_code():
    file, text = regression.SLOWED
    assert text in (ROOT / file).read_text()


# -- the report -----------------------------------------------------------------------------------


def test_a_row_is_behind_a_peer_or_short_of_its_goal():
    near = tables.row("a", "p", 1.2, 1.0, target=1.3)
    assert tables.is_behind(near) and not tables.misses(near)
    assert tables.is_behind(tables.row("b", "p", 0.6, 1.0, target=0.5))
    assert tables.is_behind(tables.row("c", "p", 1.1, 1.0))
    assert not tables.is_behind(tables.row("d", "p", 1.0, 1.0))
    mean = tables.geometric_mean([tables.row("", "", 4, 1), tables.row("", "", 1, 1)])
    assert mean == pytest.approx(2.0)


def test_gradbench_and_peers_become_rows():
    case = {"workload": "lse", "size": "n=1"}
    times = {"flatgrad": 3.0, "flatgrad, filling": 2.0, "c": 8.0, "c-fast": 5.0, "torch": 30.0}
    of_c, of_fast, of_torch = report.of_gradbench({"rows": [case | {"us": times}]})
    assert (of_c["peer"], of_c["ratio"], of_c["target"]) == (8.0, 0.25, 0.5)
    assert (of_fast["peer"], of_fast["ratio"], of_fast["target"]) == (5.0, 0.4, None)
    assert (of_torch["peer_name"], of_torch["ratio"], of_torch["target"]) == ("PyTorch", 0.1, None)

    figures = {"flatgrad": 2e-6, "torch": 4e-6, "jax": 1e-6, "casadi": "too large"}
    (row,) = report.of_peers([{"case": "x", "unit": "s", "figures": figures}])
    assert row["peer_name"] == "jax" and row["ratio"] == pytest.approx(2.0)
    assert report.of_peers([{"case": "x", "unit": "s", "figures": {"flatgrad": 1.0}}]) == []


def test_the_page_begins_with_what_is_behind_the_furthest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "KEPT", tmp_path)
    rows = [tables.row("level", "PyTorch", 1, 2), tables.row("near", "PyTorch", 1.5, 1)]
    tables.write(str(tmp_path / "kernels.json"), rows)
    (tmp_path / "kernels.md").write_text("| the table |\n")
    goal = tables.row("far from its goal", "hand-written C", 1, 1, target=0.25)
    tables.write(str(tmp_path / "gradbench-run.json"), [goal])
    (tmp_path / "gradbench-run.md").write_text("| another |\n")
    text = report.page()
    assert text.startswith("# Performance")
    order = (
        "What is still behind",
        "far from its goal",
        "near",
        "All comparisons",
        "| the table |",
    )
    first = text.index(order[0])
    assert [text.index(part, first) for part in order] == sorted(
        text.index(part, first) for part in order
    )
    assert "2 of 3 comparisons" in text
    assert "| level" not in text
    assert "`python benchmarks/kernels.py`" in text


def test_a_script_that_fails_keeps_its_last_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "KEPT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "kernels.py").write_text("raise SystemExit('no such peer')")
    (tmp_path / "kernels.md").write_text("old")
    assert not report.run("kernels", report.SCRIPTS["kernels"], quick=True)
    assert "no such peer" in capsys.readouterr().err
    assert (tmp_path / "kernels.md").read_text() == "old"


def test_the_readme_gets_the_first_columns():
    before = "a\n<!-- figures: begin -->\nWords.\n\n| old |\n<!-- figures: end -->\nz\n"
    table = "x\n| c | t | b | f | p | j |\n|---|---|---|---|---|---|\n| x | 1 | 2 | 3 | 4 | 5 |\n\n| y |\n"
    after = report.readme(before, table)
    rows = "| c | t | b | f | p |\n|---|---|---|---|---|\n| x | 1 | 2 | 3 | 4 |\n"
    wanted = f"a\n<!-- figures: begin -->\nWords.\n\n{rows}<!-- figures: end -->\nz\n"
    assert after == wanted


def test_a_script_without_peers_gives_its_table_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(report, "KEPT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "memory.py").write_text("print('| a |')")
    assert report.run("memory", report.SCRIPTS["memory"], quick=False)
    assert (tmp_path / "memory.md").read_text() == "| a |\n"
    assert tables.read(tmp_path / "memory.json") == []
