"""``flatgrad doctor``: this machine, and boards of which only the files are here."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from flatgrad.cli import doctor
from flatgrad.cli.machine import Machine

PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n",
    "proc/meminfo": "MemTotal:   945364 kB\nMemAvailable:   131072 kB\nSwapTotal:    102396 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/temp": "83150\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
}


def machine(tmp_path, files, architecture="aarch64"):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Machine(tmp_path, architecture)


def named(checks, name):
    found = [c for c in checks if c.name == name]
    assert len(found) == 1, [c.name for c in checks]
    return found[0]


def test_a_raspberry_pi_in_trouble(tmp_path):
    pi = machine(tmp_path, PI)
    assert pi.board == "Raspberry Pi 4 Model B Rev 1.4" and pi.emulator == ""
    assert pi.cores[2] == 0.5
    checks = doctor.board(pi)
    memory = named(checks, "memory")
    assert memory.verdict == "warn" and "available 128.0 MB" in memory.value
    governor = named(checks, "governor")
    assert governor.value == "ondemand, 600 of 1500 MHz" and "performance" in governor.remedy
    hot = named(checks, "temperature")
    assert (hot.value, hot.verdict) == ("83 C", "warn")
    slow = named(checks, "throttling")
    assert slow.verdict == "warn" and "power supply" in slow.remedy
    # 0x50005: bits 0, 2, 16 and 18
    assert slow.value == (
        "under-voltage now, throttled now, under-voltage since the start, throttled since the start"
    )


def test_a_cool_board(tmp_path):
    files = {
        **PI,
        "proc/meminfo": "MemTotal: 3945364 kB\nMemAvailable: 3131072 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/class/thermal/thermal_zone0/temp": "45000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
    }
    checks = doctor.board(machine(tmp_path, files))
    assert {c.verdict for c in checks} == {"ok"}
    assert named(checks, "throttling").value == "none"


def test_a_control_groups_limit_counts(tmp_path):
    files = {
        "proc/meminfo": "MemTotal: 3945364 kB\nMemAvailable: 3131072 kB\n",
        "sys/fs/cgroup/memory.max": str(100 * 2**20),
    }
    assert named(doctor.board(machine(tmp_path, files)), "memory").verdict == "warn"


def test_emulation_is_noticed(tmp_path):
    x86 = "processor: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon\n"
    assert "qemu-user" in machine(tmp_path, {"proc/cpuinfo": x86}).emulator
    assert machine(tmp_path, {"proc/cpuinfo": x86}, "x86_64").emulator == ""
    assert named(doctor.processor(machine(tmp_path, {})), "emulation").verdict == "note"


def test_a_machine_that_says_nothing(tmp_path):
    bare = machine(tmp_path, {}, "armv6l")
    assert bare.board == "" and bare.memory == {} and bare.throttling is None
    assert {c.name for c in doctor.board(bare)} == {"page size"}


def test_thirty_two_bits_without_numba(tmp_path, monkeypatch):
    there = {"numpy": "2.1.0", "scipy": "1.9.0"}
    monkeypatch.setattr(doctor, "installed", there.get)
    monkeypatch.setattr(Machine, "bits", 32)
    bare = machine(tmp_path, {}, "armv7l")
    checks = doctor.versions(bare)
    assert named(checks, "python").verdict == "warn" and "export" in named(checks, "python").remedy
    assert named(checks, "numba").verdict == "note" and named(checks, "llvmlite").verdict == "note"
    assert named(checks, "numpy").verdict == "ok"
    assert named(checks, "scipy").remedy == "pip install -U 'scipy>=1.11'"
    assert "llvm" not in [c.name for c in doctor.processor(bare)]
    assert [c.name for c in doctor.self_test(bare)] == ["self-test", "speed"]


def test_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "new" / "cache"))
    cache, disk = doctor.cache()
    assert (cache.verdict, disk.verdict) == ("ok", "ok") and not (tmp_path / "new").exists()
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "open"))
    cache, _ = doctor.cache()
    assert cache.verdict == "warn" and "chmod go-w" in cache.remedy


RIGHT = {"differences": {"interpreted": 1e-16, "compiled": 2e-16}, "seconds": 1.0}
SPEED = {"gradient_call_seconds": 7e-7, "exp_seconds": 3e-10, "flops": 1e10}


@pytest.mark.parametrize(
    "first, second, failed, said",
    [
        ("it was ended by SIGILL", None, "self-test", "NUMBA_CPU_NAME=generic"),
        ("it was ended by SIGKILL", None, "self-test", "too little memory"),
        ("ImportError: libLLVM", None, "self-test", "reinstall"),
        ({"compiled": 1e-3}, {"hits": 2, "misses": 0}, "self-test", "report"),
        ({"compiled": float("nan")}, {"hits": 2, "misses": 0}, "self-test", "report"),
        ({}, {"hits": 1, "misses": 1}, "disk cache", "room"),
        ({}, {"hits": 0, "misses": 0}, "disk cache", "room"),
    ],
)
def test_what_fails_is_told(monkeypatch, cli, first, second, failed, said):
    answers = [first, second]
    for k, answer in enumerate(answers):
        if isinstance(answer, dict):
            wrong = answer if k == 0 else {}
            counts = answer if k else {"hits": 0, "misses": 2}
            differences = {**RIGHT["differences"], **wrong}
            answers[k] = {**RIGHT, "differences": differences, "speed": SPEED, **counts}
    monkeypatch.setattr(doctor, "_trial", lambda scratch, parts: answers.pop(0))
    code, out, _ = cli("doctor")
    assert code == 1 and f"failed: {failed}" in out and said in out


def test_it_works_here(cli_json):
    code, report = cli_json("doctor")
    checks = {c["name"]: c for c in report["checks"]}
    assert code == 0 and report["ok"], report
    for name in ("python", "numpy", "cpu", "llvm", "cores", "cache", "disk", "speed"):
        assert checks[name]["value"], name
    assert "compiled by Numba agree" in checks["self-test 2"]["value"]
    assert "found all 2 programs" in checks["disk cache"]["value"]


def test_quick(cli):
    code, out, _ = cli("doctor", "--quick")
    assert code == 0 and "self-test" not in out and "llvmlite" in out
    assert max(map(len, out.splitlines())) <= 160


def test_libraries_that_do_not_load(tmp_path):
    for name in ("numba", "llvmlite"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('wrong C library')")
    path = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-m", "flatgrad", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        timeout=120,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 1 and not report["ok"]
    failed = {c["name"]: c["value"] for c in report["checks"] if c["verdict"] == "fail"}
    assert failed.keys() == {"llvm", "self-test"} and "wrong C library" in failed["self-test"]


def test_a_part_that_breaks_does_not_hide_the_others(monkeypatch, cli_json):
    monkeypatch.setattr(doctor, "libraries", lambda machine: 1 / 0)
    code, report = cli_json("doctor", "--quick")
    assert code == 1
    assert named([doctor.Check(**c) for c in report["checks"]], "doctor").value.startswith("Zero")
    assert report["checks"][-1]["name"] == "disk"


def test_where_no_process_can_be_started(monkeypatch, tmp_path):
    def refused(scratch, parts):
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(doctor, "_trial", refused)
    checks = doctor.self_test(machine(tmp_path, {}))
    assert [(c.name, c.verdict) for c in checks] == [
        ("self-test", "ok"),
        ("disk cache", "note"),
        ("speed", "ok"),
    ]
