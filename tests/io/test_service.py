"""The training service of examples/: it resumes, it stops when it is told to, its unit is a good one."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import flatgrad as fg

pytest.importorskip("safetensors")

EXAMPLES = Path(__file__).parents[2] / "examples"
UNIT = EXAMPLES / "systemd" / "flatgrad-train.service"


@pytest.fixture(scope="module")
def service():
    spec = importlib.util.spec_from_file_location("board_loop", EXAMPLES / "board_loop.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stop_after(count: int):
    left = iter(range(count))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("mode", ["never", pytest.param("always", marks=pytest.mark.slow)])
def test_interrupted_or_not_the_loss_is_the_same(service, tmp_path, capsys, mode):
    fg.set_compile(mode)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    options = service.arguments(["--state", str(whole), "--steps", "30", "--every", "0"])
    truth = service.train(options, lambda: False).item()
    options = service.arguments(["--state", str(parts), "--steps", "30"])
    capsys.readouterr()
    for count in (11, 1, 7, 100):
        loss = service.train(options, stop_after(count))
    shown = capsys.readouterr().out
    assert loss.item() == truth
    assert re.findall(r"starts at step (\d+)", shown) == ["0", "11", "12", "19"]
    assert (parts / "drift.safetensors").exists()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets of the file system")
def test_systemd_is_told(service, tmp_path, monkeypatch):
    fg.set_compile("never")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("notify")
        channel.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "notify")
        service.train(service.arguments(["--steps", "2"]), lambda: False)
        heard = [channel.recv(100).decode() for _ in range(3)]
    assert heard == ["READY=1", "WATCHDOG=1\nSTATUS=step 1", "STOPPING=1"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_it_saves_when_it_is_told_to_stop(tmp_path):
    command = [sys.executable, str(EXAMPLES / "board_loop.py"), "--report", "5"]
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "starts at step 0\n"
        assert running.stdout.readline().startswith("step 5: loss ")
        running.send_signal(signal.SIGTERM)
        *_, last = running.stdout.read().splitlines()
    assert running.returncode == 0
    step = int(re.fullmatch(r"stopped at step (\d+)", last)[1])
    assert step >= 5
    assert fg.load(tmp_path / "drift.safetensors")["values"] == {"step": step}


PROGRAM = """
import warnings; warnings.simplefilter("error")
import flatgrad as fg
fg.set_compile("always")
x = fg.tensor([1.0, 2.0], requires_grad=True)
y = (x**2 + 3 * x).sum()
y.backward()
print(x.grad.tolist(), fg.explain(y).from_disk)
"""


def test_a_filled_cache_on_a_read_only_file_system(tmp_path):
    """What docs/deploy.md promises, with a real one; the rules are tests/program/test_cache.py's."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"SKIPPED LOUDLY: no file system can be mounted here, so none was read-only ({error})"
        )
    try:
        environment = {**os.environ, "FLATGRAD_CACHE_DIR": str(tmp_path)}
        run = [sys.executable, "-c", PROGRAM]
        first = subprocess.check_output(run, env=environment, text=True)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        second = subprocess.check_output(run, env=environment, text=True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert (first, second) == ("[5.0, 7.0] False\n", "[5.0, 7.0] True\n")


# -- the unit -------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path):
    """The unit with commands that exist here."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip(
            "SKIPPED LOUDLY: there is no systemd-analyze (Debian: systemd), so the unit was not verified"
        )
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.M)
    file = tmp_path / UNIT.name
    file.write_text(text)
    return file


def analyzed(*arguments) -> str:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_accepts_the_unit(unit):
    assert analyzed("verify", str(unit)).strip() == ""


def test_the_unit_is_hardened(unit):
    try:
        said = analyzed("security", "--offline=yes", str(unit))
    except AssertionError as error:
        pytest.skip(
            f"SKIPPED LOUDLY: this systemd-analyze can't judge a unit that is not running: {error}"
        )
    exposure = float(re.search(r"exposure level .*: ([\d.]+)", said)[1])
    assert exposure <= 2.0  # of 10


def test_the_unit_lets_programs_compile():
    settings = [line for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert not [s for s in settings if s.startswith(("MemoryDenyWriteExecute", "ProcSubset"))]
    script = re.search(r"ExecStart=\S+ \S*/(\S+) (.*)", UNIT.read_text())
    assert (EXAMPLES / script[1]).exists()
    assert script[2] == "--every 600"
