"""Whether the core set of benchmarks became slower between two commits: asv's verdict, and a second gate.

    python benchmarks/regression.py HEAD~1 HEAD      exit status 1 if so, with a line for each
    python benchmarks/regression.py --demonstrate    a slow-down made on purpose is found; without it, silence

``asv continuous`` runs both commits in turns and calls worse what is slower by `FACTOR`, beyond the noise of
its samples. A benchmark counts here if it is also slower by `ABSOLUTE` seconds: a fifth of nothing is
nothing. The commits run in an environment that asv makes, which borrows the libraries of this Python, so
that nothing is built. The repository is cloned to a temporary folder first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = r"^warm\.bench_core"
FACTOR = 1.15  # so that a regression of a fifth is not lost in noise
ABSOLUTE = 2e-6  # seconds a sample

# The environment's own site-packages name this Python's, and the commit that is checked out.
LINK = """
import sys, sysconfig
from pathlib import Path

lines = sys.argv[1] + "/src", {libraries!r}
Path(sysconfig.get_path("purelib"), "flatgrad_and_libraries.pth").write_text("\\n".join(lines))
"""

# What is slowed down on purpose, by about a third: each node that is made sums a few numbers for nothing.
SLOWED = "src/flatgrad/graph/node.py", "class Node"
PATCH = """

def _slowed(make):
    def init(self, *args, **kwargs):
        sum(range(6))
        make(self, *args, **kwargs)

    return init


Node.__init__ = _slowed(Node.__init__)
"""


def git(folder, *command) -> str:
    author = ["-c", "user.name=benchmarks", "-c", "user.email=benchmarks@localhost"]
    done = subprocess.run(
        ["git", *author, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def cloned(folder: str) -> Path:
    clone = Path(folder) / "clone"
    git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
    return clone


def configured(folder: str, clone: Path) -> Path:
    """A configuration of asv for the clone; the benchmarks are those of this working tree."""
    place = Path(folder)
    (place / "link.py").write_text(LINK.format(libraries=sysconfig.get_path("purelib")))
    names = ("env_dir", "results_dir", "html_dir")
    config = {
        "version": 1,
        "project": "flatgrad",
        "repo": str(clone),
        "branches": ["HEAD"],
        "dvcs": "git",
        "environment_type": "virtualenv",
        "benchmark_dir": str(ROOT / "benchmarks" / "suite"),
        "build_command": [],
        "install_command": ["python {conf_dir}/link.py {build_dir}"],
        "uninstall_command": ["return-code=any python -c pass"],
        **{name: str(place / name) for name in names},
    }
    file = place / "asv.conf.json"
    file.write_text(json.dumps(config))
    return file


def asv(config: Path, *command) -> subprocess.CompletedProcess:
    """asv with this configuration, one thread, a machine file and a disk cache of its own."""
    home = str(config.parent)
    environment = {**os.environ, "HOME": home, "FLATGRAD_CACHE_DIR": f"{home}/cache"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "asv", *command, "--config", str(config)]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


def medians(config: Path, commit: str) -> dict[str, float]:
    """Seconds of each benchmark of the core set at a commit."""
    (file,) = (config.parent / "results_dir").glob(f"*/{commit[:8]}-*.json")
    found = json.loads(file.read_text())
    at = found["result_columns"].index("result")
    return {
        f"{name}, {k}" if len(row[at]) > 1 else name: seconds
        for name, row in found["results"].items()
        if row[at]
        for k, seconds in enumerate(row[at])
        if seconds is not None
    }


def slower(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """The benchmarks that fail both gates, in words."""
    lines = []
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if new > FACTOR * old and new - old > ABSOLUTE:
            lines.append(
                f"{name}: {1e6 * old:.1f} us, now {1e6 * new:.1f} us, {new / old:.2f} times"
            )
    return lines


def compared(config: Path, base: str, head: str) -> list[str]:
    """What asv calls worse from `base` to `head`, if it is also slower by more than a little."""
    commits = base, head
    done = asv(config, "machine", "--yes")
    if done.returncode == 0:
        options = ("--factor", str(FACTOR), "--bench", CORE, "--interleave-rounds")
        done = asv(config, "continuous", *options, *commits)
    if done.returncode not in (0, 1):
        raise SystemExit(f"regression.py: asv failed\n{done.stdout}\n{done.stderr}")
    print(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "", file=sys.stderr)
    if done.returncode == 0:
        return []
    return slower(*(medians(config, commit) for commit in commits))


def slowed_down(clone: Path) -> str:
    """Commit the slow-down in the clone; the commit's hash."""
    file = clone / SLOWED[0]
    text = file.read_text()
    if SLOWED[1] not in text:
        raise SystemExit(f"regression.py: {SLOWED[0]} has no {SLOWED[1]!r} any more")
    file.write_text(text + PATCH)
    git(clone, "commit", "--quiet", "-am", "a deliberate slow-down")
    return git(clone, "rev-parse", "HEAD")


def unchanged(clone: Path) -> str:
    """Commit a comment in the clone; the commit's hash."""
    with open(clone / SLOWED[0], "a") as file:
        file.write("\n# a comment\n")
    git(clone, "commit", "--quiet", "-am", "nothing that matters")
    return git(clone, "rev-parse", "HEAD")


def demonstrate() -> bool:
    """Whether the slow-down is found, and nothing where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        clone = cloned(folder)
        config = configured(folder, clone)
        base = git(clone, "rev-parse", "HEAD")
        same = unchanged(clone)
        silent = compared(config, base, same)
        print("\n".join(["with a comment more:", *(silent or ["nothing is slower"])]), flush=True)
        found = compared(config, same, slowed_down(clone))
        print("\n".join(["with the slow-down:", *(found or ["nothing is slower"])]))
    return not silent and any("record" in line for line in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", default="HEAD~1")
    parser.add_argument("head", nargs="?", default="HEAD")
    parser.add_argument("--demonstrate", action="store_true")
    options = parser.parse_args()
    if options.demonstrate:
        raise SystemExit(0 if demonstrate() else 1)
    with tempfile.TemporaryDirectory() as folder:
        clone = cloned(folder)
        commits = [git(ROOT, "rev-parse", c) for c in (options.base, options.head)]
        found = compared(configured(folder, clone), *commits)
    print("\n".join(found or ["nothing is slower"]))
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
