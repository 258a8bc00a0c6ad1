"""The command line as a whole: help, exit codes, errors, colours, start-up."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flatgrad.cli
from flatgrad.cli.main import COMMANDS
from flatgrad.cli.screen import Screen, UsageError, duration, size, time_text, written_size

ERRORS = {
    "no command": ((), "required"),
    "unknown command": (("exprot",), "invalid choice"),
    "unknown option": (("bench", "--fast"), "a function is required|unrecognized"),
    "no function": (("bench",), "bench module.py:f"),
    "no colon": (("bench", "thing"), "module.py:f"),
    "no file": (("bench", "nowhere.py:f"), "no file 'nowhere.py'"),
    "no module": (("bench", "no.such:f"), "no module 'no.such'"),
    "code as a name": (("bench", "os:system('x')"), "module.py:f"),
    "bad time": (("bench", "--deadline", "1", "os:getcwd"), "1ms"),
    "words after dashes": (("doctor", "--", "x"), "nothing can follow"),
    "half an option": (("doctor", "--js"), "unrecognized"),
    "nothing to warm up": (("warmup",), "warmup module.py:f"),
    "no such cache": (("warmup", "--check", "--cache", "nowhere", "x.py"), "no cache"),
}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_screen(cli, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = cli(*command.split(), "--help")
    monkeypatch.setenv("COLUMNS", "many")
    assert cli(*command.split(), "--help") == (code, out, err)
    lines = out.rstrip("\n").split("\n")
    assert (code, err) == (0, "")
    assert len(lines) < 24 and max(map(len, lines)) < 80  # a line is left for the prompt
    assert "usage: flatgrad" in lines[0]


@pytest.mark.parametrize("words, message", ERRORS.values(), ids=ERRORS)
def test_wrong_use_is_one_line_and_exit_code_2(cli, words, message):
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("flatgrad: ")
    assert any(part in err for part in message.split("|"))


def test_a_failure_is_one_line_and_exit_code_1(cli, module):
    code, _, err = cli("bench", f"{module}:broken", "--arg", "float64[3]")
    assert code == 1 and err.count("\n") == 1
    assert err.startswith("flatgrad: KeyError: 'lost'") and "--traceback" in err
    code, _, err = cli("bench", f"{module}:broken", "--arg", "float64[3]", "--traceback")
    assert code == 1 and 'raise KeyError("lost")' in err


def test_an_error_of_flatgrad_is_its_message(cli, module):
    code, _, err = cli("bench", f"{module}:scaled", "--arg", "float64[3]", "--arg", "float64[4]")
    assert code == 1 and err.count("\n") == 1 and "(3,)" in err and "(4,)" in err
    assert "Error" not in err


def test_errors_as_json(cli, module):
    code, out, err = cli("bench", f"{module}:rosenbrok", "--json")
    assert code == 2
    found = json.loads(out)
    assert found["kind"] == "UsageError" and "did you mean rosenbrock?" in found["error"]
    assert err.count("\n") == 1


def test_what_the_user_prints_stays_out_of_json(cli, module):
    code, out, err = cli("warmup", f"{module}:run", "--json")
    assert code == 0
    assert json.loads(out)["compiled"] >= 1
    assert "the user's print" in err


def test_version(cli):
    assert cli("--version") == (0, f"flatgrad {flatgrad.__version__}\n", "")


def test_the_installed_command_is_this_one():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["scripts"]["flatgrad"].partition(":")
    assert getattr(importlib.import_module(module), name) is flatgrad.cli.main


def test_interrupted(cli, monkeypatch):
    def stopped(options, screen):
        raise KeyboardInterrupt

    monkeypatch.setattr("flatgrad.cli.doctor.run", stopped)
    assert cli("doctor") == (130, "", "flatgrad: interrupted\n")


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_colours_only_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Screen().coloured("x", "fail") == "x"
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert Screen().coloured("x", "fail") == "\033[31mx\033[0m"
    assert Screen(json=True).coloured("x", "fail") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen().coloured("x", "fail") == "x"


def test_json_has_no_nan(capsys):
    Screen(json=True).result({"a": float("nan"), "b": [float("inf"), 1.5], "c": None})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": None}


def _process(*words, **more):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **more,
    )


def test_help_and_errors_import_no_heavy_library():
    program = (
        "import sys; from flatgrad.cli import main; main(['--help']); main(['bench', '--help']);"
        "main(['bench', 'x']); print([m for m in ('numba', 'llvmlite', 'scipy') if m in sys.modules],"
        "'flatgrad.func' in sys.modules)"
    )
    assert _process("-c", program).stdout.rstrip().endswith("[] False")


def test_as_a_module_and_into_a_closed_pipe():
    done = _process("-m", "flatgrad", "bench")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    program = (
        "import os, sys; os.close(1); from flatgrad.cli import main; sys.exit(main(['--version']))"
    )
    assert "Traceback" not in _process("-c", program).stderr


@pytest.mark.parametrize(
    "text, seconds",
    [("1ms", 1e-3), ("250us", 250e-6), ("250 µs", 250e-6), ("2s", 2.0), ("1e3ns", 1e-6)],
)
def test_durations(text, seconds):
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "ms", "-1ms", "0s", "1.2.3s", "nan s", "1 hour", "1e999s"]
)
def test_bad_durations(text):
    with pytest.raises(UsageError):
        duration(text)


@pytest.mark.parametrize(
    "text, count",
    [("64K", 65536), ("1.5M", 1572864), ("4096", 4096), ("64KB", 65536), ("1kib", 1024)],
)
def test_sizes(text, count):
    assert written_size(text) == count


@pytest.mark.parametrize("text", ["", "K", "-1K", "64 kilo", "1e3", "0x10"])
def test_bad_sizes(text):
    with pytest.raises(UsageError):
        written_size(text)


def test_people_read_them():
    assert [size(n) for n in (0, 1023, 1024, 5 * 2**20)] == ["0 B", "1023 B", "1.0 KB", "5.0 MB"]
    times = [time_text(t) for t in (12e-9, 1.5e-6, 2.25e-3, 3.0, 4000.0)]
    assert times == ["12 ns", "1.5 us", "2.25 ms", "3 s", "4000 s"]
