"""``flatgrad doctor``: what this machine is, whether flatgrad computes right on it, and how fast."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from .screen import Progress, Screen, size, time_text

DESCRIPTION = "Check this machine. Exit code 1 if the self-test, or what it needs, fails."
USAGE = "[--quick] [--json]"

LEAST = {"numpy": (2, 0), "scipy": (1, 11), "numba": (0, 61), "llvmlite": (0, 44)}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
HOT = 80.0  # degrees Celsius; a Raspberry Pi slows down there
LITTLE = 200 * 2**20  # bytes; a process that compiles takes 130 MB
ENOUGH_DISK = 64 * 2**20
PATIENCE = 600  # seconds for a self-test: boards under emulation are slow
TOLERANCE = 1e-13


@dataclass
class Check:
    """One line: a name, what was found, ok | note | warn | fail, and what to do about it."""

    name: str
    value: str
    verdict: str = "ok"
    remedy: str = ""


def add_arguments(parser) -> None:
    parser.add_argument("--quick", action="store_true", help="leave out the self-test and speed")


def run(options, screen: Screen) -> int:
    from .machine import Machine

    machine = Machine()
    checks: list[Check] = []
    parts = [
        lambda: versions(machine),
        lambda: processor(machine),
        lambda: libraries(machine),
        lambda: board(machine),
        lambda: cache(),
    ]
    if not options.quick:
        parts.append(lambda: self_test(machine))
    for part in parts:
        found = _survived(part)
        checks += found
        for check in found:
            _show(check, screen)
    failed = [c.name for c in checks if c.verdict == "fail"]
    warned = [c.name for c in checks if c.verdict == "warn"]
    screen.result({"ok": not failed, "checks": [asdict(c) for c in checks]})
    screen.line()
    if failed:
        screen.line(screen.coloured(f"failed: {', '.join(failed)}", "fail"))
    elif warned:
        screen.line(screen.coloured(f"works; look at: {', '.join(warned)}", "warn"))
    else:
        screen.line(screen.coloured("all is well", "ok"))
    return 1 if failed else 0


def _survived(part) -> list[Check]:
    """The part's checks; what it could not bear is one that failed, and the others go on."""
    try:
        return part()
    except Exception as error:
        remedy = "please report it, with flatgrad doctor --json"
        return [Check("doctor", f"{type(error).__name__}: {error}", "fail", remedy)]


def _show(check: Check, screen: Screen) -> None:
    screen.line(
        f"{screen.coloured(check.verdict.ljust(4), check.verdict)}  {check.name:<12}  {check.value}"
    )
    if check.remedy:
        screen.line(f"{'':20}-> {check.remedy}")


# -- what is installed ------------------------------------------------------------------------------


def installed(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def has_numba() -> bool:
    return installed("numba") is not None and installed("llvmlite") is not None


def versions(machine) -> list[Check]:
    import platform

    import flatgrad

    python = Check(
        "python", f"{platform.python_version()}, {machine.bits} bits, {machine.architecture}"
    )
    if machine.bits == 32:
        python.verdict = "warn"
        python.remedy = "32 bits: no Numba; use a 64-bit system, or flatgrad export on the desk"
    checks = [python, Check("flatgrad", flatgrad.__version__)]
    for package, least in LEAST.items():
        checks.append(_package(package, least, machine))
    return checks


def _package(package: str, least: tuple, machine) -> Check:
    import re

    version = installed(package)
    if version is None:
        needed = package in ("numpy", "scipy")
        if machine.bits == 32 and not needed:
            return Check(package, "not there: programs are interpreted", "note")
        return Check(
            package,
            "not installed",
            "fail" if package == "numpy" else "warn",
            f"pip install {package}",
        )
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if numbers < least:
        wanted = ".".join(map(str, least))
        return Check(package, version, "warn", f"pip install -U '{package}>={wanted}'")
    return Check(package, version)


# -- the processor ----------------------------------------------------------------------------------


def processor(machine) -> list[Check]:
    checks = [Check("cpu", machine.board or machine.architecture)]
    if machine.emulator:
        remedy = "speeds mean nothing here; results do"
        checks.append(Check("emulation", machine.emulator, "note", remedy))
    if has_numba():
        checks += _llvm(machine)
    there, ours, share = machine.cores
    cores = Check("cores", f"{there}" if ours == there else f"{ours} of {there} for this process")
    if share is not None:
        cores.value += f", {share:g} of them by the control group's quota"
        cores.verdict = "note" if share < ours else "ok"
    return [*checks, cores]


def _llvm(machine) -> list[Check]:
    try:
        from ..emit.host import host
        from ..emit.native import target

        cpu, features = target()
        found = host()
    except (
        Exception
    ) as error:  # an llvmlite that doesn't load: the wrong C library, a broken install
        return [
            Check(
                "llvm",
                f"{type(error).__name__}: {error}",
                "fail",
                "pip install --force-reinstall llvmlite",
            )
        ]
    have = [f[1:] for f in features.split(",") if f.startswith("+")]
    known = {"neon", "fp-armv8", "crc", "aes", "sve", "avx", "avx2", "fma", "avx512f", "sse4.2"}
    said = ", ".join(sorted(known & set(have))) or "none of note"
    llvm = Check("llvm", f"{cpu}: {said} ({len(have)} features)")
    if cpu == "generic" or not have:
        llvm.verdict = "note" if machine.emulator else "warn"
        llvm.remedy = "not recognised: is /proc mounted? Or set NUMBA_CPU_NAME, NUMBA_CPU_FEATURES"
    if os.environ.get("NUMBA_CPU_NAME") or os.environ.get("NUMBA_CPU_FEATURES"):
        llvm.value += ", as NUMBA_CPU_NAME or NUMBA_CPU_FEATURES say"
        llvm.verdict = "note" if llvm.verdict == "ok" else llvm.verdict
    width = f"{found.vector} bytes ({found.vector // 4} float32), {found.registers} registers"
    return [llvm, Check("vectors", width)]


def libraries(machine) -> list[Check]:
    import numpy as np

    from ..program import get_num_threads

    try:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        name = f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
    except (KeyError, TypeError, AttributeError):
        name = "unknown"
    said = {k: os.environ[k] for k in THREADS if os.environ.get(k)}
    blas = Check("blas", f"{name} (NumPy's)")
    try:
        count = get_num_threads()
    except ImportError:  # no Numba: nothing runs on several threads
        count = 1
    threads = Check("threads", f"flatgrad {count}")
    if said:
        threads.value += "; " + ", ".join(f"{k}={v}" for k, v in said.items())
    elif machine.cores[1] > 1:
        threads.value += "; BLAS takes all cores"
        threads.verdict = "note"
        threads.remedy = "small models are fastest with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
    checks = [blas, threads]
    if os.environ.get("NUMBA_DISABLE_JIT") not in (None, "", "0"):
        checks.append(
            Check("numba jit", "NUMBA_DISABLE_JIT is set", "warn", "unset it: nothing is compiled")
        )
    return checks


# -- the board --------------------------------------------------------------------------------------


def board(machine) -> list[Check]:
    checks = []
    memory = machine.memory
    if memory:
        checks.append(_memory(memory))
    if machine.page:
        checks.append(Check("page size", size(machine.page)))
    if machine.governor:
        slow = machine.governor not in ("performance", "schedutil")
        governor = Check("governor", machine.governor, "note" if slow else "ok")
        if machine.frequency:
            governor.value += ", {:.0f} of {:.0f} MHz".format(*machine.frequency)
        if machine.governor != "performance":
            governor.remedy = (
                "for deadlines: echo performance | sudo tee "
                "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
            )
            governor.verdict = "note"
        checks.append(governor)
    if machine.temperature is not None:
        hot = machine.temperature >= HOT
        remedy = "it slows down: a heat sink or a fan, or less work" if hot else ""
        checks.append(
            Check("temperature", f"{machine.temperature:.0f} C", "warn" if hot else "ok", remedy)
        )
    if machine.throttling is not None:
        checks.append(_throttling(machine.throttling))
    return checks


def _memory(memory: dict[str, int]) -> Check:
    left = min(memory.get("available", 2**62), memory.get("limit", 2**62))
    value = ", ".join(f"{k} {size(v)}" for k, v in memory.items())
    if left < LITTLE:
        remedy = (
            "a process that compiles takes 130 MB: ship a filled cache, or fg.set_compile('never')"
        )
        return Check("memory", value, "warn", remedy)
    return Check("memory", value)


def _throttling(said: list[str]) -> Check:
    if not said:
        return Check("throttling", "none")
    power = any("voltage" in s for s in said)
    remedy = "a stronger power supply" if power else "cooling"
    return Check(
        "throttling", ", ".join(said), "warn", f"the board runs slower than it could: {remedy}"
    )


# -- the cache --------------------------------------------------------------------------------------


def cache() -> list[Check]:
    from ..program.cache import _check_private, _is_sealed
    from ..program.cache import cache as ours

    path = ours.path
    entries = ours.entries()
    used = sum(e.bytes for e in entries)
    check = Check("cache", f"{path}: {len(entries)} programs, {size(used)} of {size(ours.limit)}")
    choose = "set FLATGRAD_CACHE_DIR to a directory of your own"
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if path.is_dir() and _is_sealed(path):
        check.value += ", read-only"
        check.verdict, check.remedy = (
            "note",
            "fg.compile's and fg.jit's are compiled anew; see docs/deploy.md",
        )
    elif path.exists():
        try:
            _check_private(path)
        except OSError as error:
            check.verdict, check.remedy = "warn", f"{error}; {choose}"
    elif not os.access(place, os.W_OK):
        check.value += ", which can't be made"
        check.verdict, check.remedy = "warn", f"{place} can't be written; {choose}"
    return [check, _disk(place)]


def _disk(place: Path) -> Check:
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check("disk", str(error), "warn", "is the file system mounted?")
    value = f"{size(free)} free"
    if hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY:
        return Check("disk", f"{value}, read-only", "note", "see docs/deploy.md")
    if free < ENOUGH_DISK:
        return Check("disk", value, "warn", "make room, or lower fg.cache.limit")
    return Check("disk", value)


# -- the self-test ----------------------------------------------------------------------------------


def self_test(machine) -> list[Check]:
    """Gradients against a formula: interpreted, compiled, and loaded from disk by a second process."""
    from .trial import report
    from .warmup import cache_at

    numba, checks = has_numba(), []
    with (
        tempfile.TemporaryDirectory(prefix="flatgrad-doctor-") as scratch,
        Progress("self-test") as progress,
    ):
        progress.step(1, "compiling in a first process")
        parts = ["speed", "numba"] if numba else ["speed"]
        try:
            first = _trial(scratch, parts)
        except OSError as error:  # emulators can't start processes, unless the kernel helps
            with cache_at(Path(scratch) / "cache"):
                first = report(parts)
            numba = False  # the disk cache needs a second process
            unseen = f"not tried: processes can't be started here ({error.strerror})"
            checks.append(Check("disk cache", unseen, "note"))
        if isinstance(first, str):
            return [_failed(first, machine)]
        checks.insert(0, _right(first))
        if numba:
            progress.step(1, "loading in a second process")
            second = _trial(scratch, ["numba"])
            if isinstance(second, str):
                return [*checks, _failed(second, machine)]
            checks += [_right(second, "self-test 2"), _reloaded(first, second)]
    figures = first["speed"]
    note = "note" if machine.emulator else "ok"
    fast = (
        f"{time_text(figures['gradient_call_seconds'])} a tiny gradient's call, "
        f"{figures['flops'] / 1e9:.3g} GFLOP/s float32, {figures['exp_seconds'] * 1e9:.2g} ns an exp"
    )
    return [*checks, Check("speed", fast + ("" if has_numba() else ", interpreted"), note)]


def _trial(scratch: str, parts: list[str]) -> dict | str:
    """What the self-test's process said, or how it ended."""
    package = str(Path(__file__).resolve().parents[2])
    before = os.environ.get("PYTHONPATH")
    environment = {
        **os.environ,
        "FLATGRAD_CACHE_DIR": str(Path(scratch) / "cache"),
        "PYTHONPATH": package + (os.pathsep + before if before else ""),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-m", "flatgrad.cli.trial", *parts]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=PATIENCE, cwd=scratch
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {PATIENCE} s"
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"it ended with exit code {done.returncode}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def _failed(how: str, machine) -> Check:
    remedy = "please report it, with flatgrad doctor --json"
    if "SIGILL" in how:
        remedy = "LLVM takes the processor for another one: set NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES="
    elif "SIGKILL" in how or "MemoryError" in how:
        remedy = "too little memory to compile: ship a filled cache (flatgrad warmup), or add swap (zram)"
    elif "ImportError" in how or "ModuleNotFoundError" in how:
        remedy = (
            "reinstall what can't be imported: pip install --force-reinstall numba llvmlite scipy"
        )
    return Check("self-test", how, "fail", remedy)


def _right(report: dict, name: str = "self-test") -> Check:
    ways = ", ".join(report["differences"])
    said = f"{'loaded: ' if name != 'self-test' else ''}{ways}"
    wrong = [f"{k} ({v:.1e})" for k, v in report["differences"].items() if not v <= TOLERANCE]
    if not wrong:
        return Check(name, f"{said} agree with the formula ({time_text(report['seconds'])})")
    return Check(
        name, f"wrong: {', '.join(wrong)}", "fail", "please report it, with flatgrad doctor --json"
    )


def _reloaded(first: dict, second: dict) -> Check:
    if second["misses"] or not second["hits"]:
        value = f"{second['misses']} of {second['misses'] + second['hits']} programs were not found again"
        return Check("disk cache", value, "fail", "is there room in the temporary directory?")
    saved = first["seconds"] - second["seconds"]
    return Check(
        "disk cache", f"a second process found all {second['hits']} programs, {saved:.1f} s sooner"
    )
