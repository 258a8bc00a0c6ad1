"""Debian root file systems of ARM, unpacked without running anything of them, and how their Python is run.

``arm64`` has the wheels that flatgrad and its tests need; ``armhf`` has Debian's NumPy, for wheels of
32 bits there are none. They lie in ``$FLATGRAD_BOARDS_DIR`` (``~/.cache/flatgrad/boards`` if unset) and are
used again as long as what they hold is what is asked for. Packages come from this machine's own sources of
apt and pip. Nothing is registered with the kernel and nothing is mounted: the emulator is called by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .machines import PACKAGES

__all__ = ["ARM64", "ARMHF", "CPUINFO", "PROJECT", "Root", "cache"]

PROJECT = Path(__file__).parents[2]

_BASE = ["python3", "libc-bin", "coreutils", "bash", "dash", "libgcc-s1", "libstdc++6"]
_TOOLS = [
    "pytest",
    "hypothesis",
    "mpmath",
    "scikit-learn",
    "tqdm",
]  # of the tests and of examples/digits.py
_PLATFORMS = ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"]

LAYOUT = "1"  # changes when roots are laid out in another way

# What Linux on a board says of its processor. LLVM reads the numbers of implementer and part.
CPUINFO = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3

"""
_PARTS = {
    "cortex-a53": ("0xd03", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": (
        "0xd0b",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}


def cache() -> Path:
    """Where the roots are kept."""
    given = os.environ.get("FLATGRAD_BOARDS_DIR")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flatgrad" / "boards"


@dataclass(frozen=True)
class Root:
    """A kind of root file system.

    Attributes
    ----------
    arch : str
        Debian's name of it.
    emulator : str
        The command of qemu-user-static.
    packages : tuple of str
        Of Debian.
    wheels : bool
        Whether flatgrad's dependencies come as wheels.
    environment : dict
        For every program inside.
    """

    arch: str
    emulator: str
    packages: tuple[str, ...]
    wheels: bool
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> Path:
        return cache() / f"{self.arch}-{self.stamp}"

    @property
    def stamp(self) -> str:
        """Changes with what the root holds."""
        what = [LAYOUT, _suite(), *self.packages, *(_requirements() if self.wheels else [])]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]

    def missing(self) -> list[str]:
        """What has to be installed before this root can be made or used."""
        needs = [self.emulator] if self.path.exists() else [self.emulator, "mmdebstrap"]
        return [f"apt-get install {PACKAGES[c]}" for c in needs if shutil.which(c) is None]

    def make(self) -> Path:
        """The root, made if it isn't there: about half a minute, and 600 MB with wheels."""
        if self.path.exists():
            return self.path
        cache().mkdir(parents=True, exist_ok=True)
        for old in cache().glob(f"{self.arch}-*"):
            shutil.rmtree(old)
        fresh = cache() / f"making-{self.arch}-{os.getpid()}"
        try:
            self._unpack(fresh)
            (fresh / "proc").mkdir(exist_ok=True)
            shutil.copy(shutil.which(self.emulator), fresh / "usr/bin" / self.emulator)
            if self.wheels:
                _install(fresh)
            fresh.rename(self.path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return self.path

    def _unpack(self, place: Path) -> None:
        command = ["mmdebstrap", f"--arch={self.arch}", "--variant=extract", "--skip=check/qemu"]
        command += [f"--include={','.join(self.packages)}", _suite(), str(place)]
        sources = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
        kinds = (".list", ".sources")
        sources = [s for s in sources if s.suffix in kinds and s.is_file() and s.stat().st_size]
        try:
            _run([*command, *map(str, sources)])
        except RuntimeError:
            # A source that has nothing for this processor, or is being updated: the first one alone.
            shutil.rmtree(place, ignore_errors=True)
            found = re.findall(r"\bhttps?://\S+", "\n".join(_lines(s) for s in sources))
            _run([*command, *found[:1]])

    def command(self, arguments: list[str], cpu: str, **environment: str) -> list[str]:
        """The command that runs a program inside, by an absolute path, on `cpu`.

        As root in a chroot, else under proot, else outside with the root's libraries.
        """
        place = self.path
        words = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", **dict(self.environment), **environment}
        if self.wheels:
            words["PYTHONPATH"] = "/srv/flatgrad/src:/srv/site"
        if os.geteuid() == 0:
            given = [x for k, v in words.items() for x in ("-E", f"{k}={v}")]
            inside = [f"/usr/bin/{self.emulator}", "-cpu", cpu, *given, *arguments]
            return ["/usr/bin/env", "-i", "/usr/sbin/chroot", str(place), *inside]
        given = [f"{k}={v}" for k, v in words.items()]
        if shutil.which("proot"):
            how = ["proot", "-q", f"{self.emulator} -cpu {cpu}", "-r", str(place), "-w", "/"]
            return [*how, "/usr/bin/env", "-i", *given, *arguments]
        given = [x.replace("/srv/", f"{place}/srv/") for x in given]
        given += [f"PYTHONHOME={place}/usr", f"QEMU_LD_PREFIX={place}"]
        program = (place / arguments[0].lstrip("/")).resolve()
        return ["env", *given, self.emulator, "-cpu", cpu, str(program), *arguments[1:]]

    def show_cpu(self, cpu: str | None) -> None:
        """Write /proc/cpuinfo as a board with `cpu` has it; None: this machine's, as under plain qemu."""
        target = self.path / "proc/cpuinfo"
        if cpu is None:
            target.write_text(Path("/proc/cpuinfo").read_text())
        else:
            part, features = _PARTS[cpu]
            target.write_text(CPUINFO.format(part=part, features=features))

    def copy_project(self, *folders: str) -> None:
        """The project's files, fresh, at /srv/flatgrad, and an empty cache of compiled programs."""
        shutil.rmtree(self.path / "srv/cache", ignore_errors=True)
        (self.path / "srv/cache").mkdir(parents=True)
        inside = self.path / "srv/flatgrad"
        shutil.rmtree(inside, ignore_errors=True)
        ignore = shutil.ignore_patterns("__pycache__", "*.so", ".*")
        for folder in folders:
            shutil.copytree(PROJECT / folder, inside / folder, ignore=ignore)
        shutil.copy(PROJECT / "pyproject.toml", inside)


def _suite() -> str:
    """The release of Debian that this machine runs; another system takes the last but one."""
    words = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        words[key] = value.strip('"')
    return words.get("VERSION_CODENAME", "bookworm") if words.get("ID") == "debian" else "bookworm"


def _lines(source: Path) -> str:
    return "\n".join(x for x in source.read_text().splitlines() if not x.lstrip().startswith("#"))


def _requirements() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return [r.partition(";")[0].strip() for r in project["dependencies"]] + _TOOLS


def _install(place: Path) -> None:
    """The wheels, for the Python that the root has, into /srv/site."""
    version = max(
        (p.name.removeprefix("python") for p in (place / "usr/bin").glob("python3.*[0-9]")),
        key=lambda v: int(v.partition(".")[2]),
    )
    short = version.replace(".", "")
    tags = [f"--platform={p}_aarch64" for p in _PLATFORMS]
    tags += [f"--python-version={version}", "--implementation=cp", f"--abi=cp{short}"]
    tags += ["--abi=abi3", "--abi=none", "--only-binary=:all:"]
    goal = ["--quiet", "--no-compile", "--target", str(place / "srv/site")]
    _run([sys.executable, "-m", "pip", "install", *goal, *tags, *_requirements()])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{(done.stderr or done.stdout)[-3000:]}")


ARM64 = Root(
    "arm64",
    "qemu-aarch64-static",
    tuple(_BASE),
    True,
    (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("FLATGRAD_CACHE_DIR", "/srv/cache")),
)
# Its BLAS is found through links that only installation scripts make, which nobody has run.
_LIB = "/usr/lib/arm-linux-gnueabihf"
ARMHF = Root(
    "armhf",
    "qemu-arm-static",
    (*_BASE, "python3-numpy"),
    False,
    (("LD_LIBRARY_PATH", f"{_LIB}/blas:{_LIB}/lapack"),),
)
