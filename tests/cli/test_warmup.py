"""``flatgrad warmup``: a cache that is filled here is hit by another process, at another path."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest


def process(*words, cache=None):
    """The command line in a process of its own; what it printed as JSON, with its exit code."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if cache is not None:
        environment["FLATGRAD_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-m", "flatgrad", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """(a user's module, a cache that was filled for it)."""
    folder = tmp_path_factory.mktemp("warmup")
    file = folder / "board_functions.py"
    file.write_text(
        "import flatgrad as fg\n"
        "def f(x):\n    return (fg.sin(x) * x).sum()\n"
        "def step():\n"
        "    x = fg.tensor([1.0, 2.0], requires_grad=True)\n    f(x).backward()\n"
        "    return {'gradient': x.grad}\n"
    )
    code, report = process(
        *(
            "warmup",
            "--cache",
            folder / "cache",
            "--arg",
            "f8[5]",
            "--transform",
            "grad",
            f"{file}:f",
        )
    )
    assert (code, report["compiled"], report["hits"]) == (0, 1, 0)
    # Older Numbas compare times, which copies may lose: all are the same.
    assert {f.stat().st_mtime for f in (folder / "cache").glob("*.py")} == {1e9}
    code, report = process("warmup", "--cache", folder / "cache", f"{file}:step")
    assert code == 0 and report["compiled"] >= 1 and report["programs"] >= 2
    assert report["bytes"] == sum(
        f.stat().st_size for f in (folder / "cache").rglob("*") if f.is_file()
    )
    return file, folder / "cache"


def test_a_careless_copy_elsewhere_is_hit(filled, tmp_path):
    file, cache = filled
    copy = tmp_path / "elsewhere" / "copied"
    shutil.copytree(cache, copy, copy_function=shutil.copyfile)  # no times, no modes
    os.chmod(copy, 0o700)
    shutil.copyfile(file, tmp_path / "other_name.py")
    words = ("warmup", "--arg", "f8[5]", "--transform", "grad", f"{tmp_path / 'other_name.py'}:f")
    code, report = process(*words, cache=copy)
    assert (code, report["compiled"], report["hits"]) == (0, 0, 1)
    assert report["directory"] == str(copy)


def test_check(filled):
    file, cache = filled
    before = {f: f.stat().st_mtime_ns for f in cache.rglob("*")}
    code, report = process("warmup", "--check", "--cache", cache, f"{file}:step")
    assert (code, report["hit"], report["compiled"]) == (0, True, 0) and report["hits"] >= 1
    words = ("--arg", "f8[6]", "--transform", "grad", f"{file}:f")  # of another size
    code, report = process("warmup", "--check", "--cache", cache, *words)
    assert (code, report["hit"], report["compiled"]) == (1, False, 1)
    assert {f: f.stat().st_mtime_ns for f in cache.rglob("*")} == before


def test_scripts_get_their_words(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport flatgrad as fg\n"
        "if __name__ == '__main__':\n"
        "    print('words', sys.argv[1:], (fg.tensor([1.0, 4.25]) * 3).sum().item())\n"
    )
    code, out, _ = cli("warmup", script, "--", "--json", "-x")
    assert code == 0 and "words ['--json', '-x'] 15.75" in out and "1 compiled now" in out
    script.write_text("raise SystemExit('it could not')")
    code, _, err = cli("warmup", script)
    assert code == 1 and "it could not" in err


def test_nothing_to_keep_is_a_failure(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "idle.py").write_text("def f():\n    pass\n")
    code, out, _ = cli("warmup", f"{tmp_path / 'idle.py'}:f")
    assert code == 1 and "does it evaluate anything?" in out
    assert cli("warmup", tmp_path / "missing.py")[0] == 2


def test_functions_that_were_made_before(cli_json, tmp_path):
    (tmp_path / "made_here.py").write_text(
        "import flatgrad as fg\nimport numpy as np\nj = fg.jit(lambda x: (x * 1.375).sum())\n"
    )
    file, cache = tmp_path / "made_here.py", tmp_path / "cache"
    code, report = cli_json("warmup", "--cache", cache, "--arg", "f8[3]", f"{file}:j")
    assert code == 0 and report["compiled"] >= 1
    assert report["directory"] == str(cache)
    assert os.environ["FLATGRAD_CACHE_DIR"] != str(cache)


def test_what_was_compiled_at_import_counts(cli_json, tmp_path):
    (tmp_path / "made_there.py").write_text(
        "import flatgrad as fg\nimport numpy as np\n"
        "c = fg.compile(lambda x: (x * 1.625).sum(), np.zeros(3))\n"
    )
    code, report = cli_json(
        "warmup", "--cache", tmp_path / "cache", f"{tmp_path / 'made_there.py'}:c"
    )
    assert (code, report["compiled"], report["programs"]) == (0, 1, 1)
