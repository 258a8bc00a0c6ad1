"""The disk cache of compiled programs: content-hashed files, verified before anything reads them.

An entry is one generated module and the machine code that Numba made of it::

    <path>/<stem>_<hash>.py                  the printed program; the hash is of its text
    <path>/<stem>_<hash>.json                checksums of Numba's files; its time is the last use
    <path>/__pycache__/<stem>_<hash>.*.nbi   Numba's index and
    <path>/__pycache__/<stem>_<hash>.*.nbc   machine code

or, where Python alone calls a program, object code of our own behind its checksum (`program/native.py`)::

    <path>/native_<hash>.o                   its time is the last use

Only Numba's public behaviour is used: ``njit(cache=True)`` caches a function whose module is a real
file and stands in ``sys.modules`` before it is executed. The module is executed from the text in
hand, never from the file's; the file is compared with it and rewritten if it differs. Numba's files
hold pickles and machine code, so none is read before its checksum is verified; an entry that fails
is deleted and compiled again.

Files are written beside their place and renamed into it, so other processes see all of a file or
nothing. The directory must belong to the user alone. Where it does not, or cannot be written,
programs are compiled in memory, with one warning.

Imports Numba only to compile. It is itself imported with the package, so ``hashlib``, ``json`` and
``pathlib`` wait for the first use too.
"""

from __future__ import annotations

import linecache
import os
import re
import stat
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache as remembered
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .live import live

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Cache", "Entry", "cache", "compile_function", "load_module", "unload"]

FORMAT = 1  # of the entries; a new number makes every older entry unreachable
DEFAULT_LIMIT = 256 * 2**20
_OURS = re.compile(r"([A-Za-z]\w*_[0-9a-f]{40})\.")
_HALF_WRITTEN = ".tmp"  # in the names of our temporary files, and of Numba's
_PATIENCE = 3600.0  # seconds after which a half-written file's writer must have died

# The time of every program's text: older Numbas take its machine code for stale when the time has
# changed, as by a copy that keeps no times.
_WRITTEN = 1_000_000_000

_DIGEST = 32  # bytes of the checksum in front of object code

_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached program.

    Attributes
    ----------
    name : str
        ``<stem>_<hash>``.
    bytes : int
        Size of all its files.
    used : float
        When it was last loaded, in seconds since the epoch.
    files : tuple of Path
    """

    name: str
    bytes: int
    used: float
    files: tuple[Path, ...]


class Cache:
    """The disk cache: where it is, how large it is and may become. One instance: ``fg.cache``.

    Attributes
    ----------
    enabled : bool
        Whether programs are looked up and kept on disk; set it to False to compile in memory.
    hits, misses : int
        Programs that this process found on disk, and those it had to compile.
    """

    def __init__(self):
        self.enabled = True
        self.hits = self.misses = 0
        self._limit = DEFAULT_LIMIT
        self._warned: set[str] = set()

    @property
    def path(self) -> Path:
        """The directory: ``FLATGRAD_CACHE_DIR``, or ``flatgrad`` in the user's cache directory."""
        chosen = os.environ.get("FLATGRAD_CACHE_DIR")
        return _path(chosen).expanduser().absolute() if chosen else _user_cache() / "flatgrad"

    @property
    def limit(self) -> int:
        """The size in bytes past which the least recently used entries are deleted."""
        return self._limit

    @limit.setter
    def limit(self, size: int) -> None:
        self._limit = _at_least_zero("limit", "bytes", size)
        self._trim()

    @property
    def programs(self) -> int:
        """Compiled programs in this process's memory."""
        return live.count

    @property
    def code_bytes(self) -> int:
        """The size of their machine code."""
        return live.bytes

    @property
    def most_programs(self) -> int:
        """How many compiled programs may be in memory; past it idle ones go, or new ones are interpreted."""
        return live.most_programs

    @most_programs.setter
    def most_programs(self, count: int) -> None:
        live.most_programs = _at_least_zero("most_programs", "programs", count)
        live.trim()

    @property
    def most_code_bytes(self) -> int:
        """How large their machine code may be in all, in the same way."""
        return live.most_bytes

    @most_code_bytes.setter
    def most_code_bytes(self, size: int) -> None:
        live.most_bytes = _at_least_zero("most_code_bytes", "bytes", size)
        live.trim()

    def size(self) -> int:
        """Bytes in use on disk."""
        return sum(entry.bytes for entry in self.entries())

    def entries(self) -> list[Entry]:
        """All entries, the least recently used first."""
        files: dict[str, list[Path]] = {}
        for file in _listed(self.path, *_numba_directories(self.path)):
            found = _OURS.match(file.name)
            if found:
                files.setdefault(found[1], []).append(file)
        found = [_entry(name, paths) for name, paths in files.items()]
        return sorted(found, key=lambda entry: (entry.used, entry.name))

    def clear(self) -> None:
        """Delete every entry. Programs that are loaded keep running; other files stay."""
        for entry in self.entries():
            _delete(entry.files)

    def _trim(self) -> None:
        entries = self.entries()
        excess = sum(entry.bytes for entry in entries) - self._limit
        for entry in entries:
            if excess <= 0:
                break
            _delete(entry.files)
            excess -= entry.bytes

    def _directory(self, reading: bool = False) -> Path | None:
        """The directory, made if need be; None, with a warning once, if it can't be trusted.

        Who is only `reading` gets a filled one on a read-only file system too.
        """
        if not self.enabled:
            return None
        path = self.path
        if reading and _is_sealed(path):
            return path
        try:
            for directory in (path, *_numba_directories(path)):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                _check_private(directory)
        except OSError as error:
            self._complain(path, error)
            return None
        return path

    def _count(self, hit: bool) -> None:
        with _lock:
            if hit:
                self.hits += 1
            else:
                self.misses += 1

    def _complain(self, path: Path, error: OSError) -> None:
        if str(path) in self._warned:
            return
        self._warned.add(str(path))
        warnings.warn(
            f"flatgrad: the disk cache {path} is not used ({error}); every process will compile "
            "its programs again. Set FLATGRAD_CACHE_DIR to a directory of your own, or "
            "flatgrad.cache.enabled = False to silence this",
            RuntimeWarning,
            stacklevel=2,
        )

    def __repr__(self) -> str:
        state = "" if self.enabled else ", disabled"
        return (
            f"<flatgrad cache at {self.path}: {self.size() / 2**20:.1f} of "
            f"{self._limit / 2**20:.0f} MB{state}; in memory {live.count} programs of "
            f"{live.bytes / 2**20:.1f} MB>"
        )


def _at_least_zero(name: str, what: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ArgumentError(
            f"cache.{name}: a number of {what}, 0 or more, is required, got {number!r}"
        )
    return number


cache = Cache()


# -- loading and compiling ------------------------------------------------------------------------


def compile_function(source: str, stem: str, function: str, signature: tuple):
    """`function` of the module `source`, compiled for `signature`, from disk if it is there.

    Parameters
    ----------
    source : str
        Text of a module whose functions are decorated ``@njit(cache=True, ...)``.
    stem : str
        A readable name for the program's files: an identifier.
    function : str
    signature : tuple of Numba types

    Returns
    -------
    function : a Numba dispatcher (the plain function under ``NUMBA_DISABLE_JIT``)
    hit : bool
        Whether machine code came from disk.
    """
    with _lock:
        module = load_module(source, stem)
        try:
            return _compile(module, function, signature)
        except Exception as error:
            # Numba's files passed their checksums and yet can't be used, or can't be written (a
            # full disk). If the program itself is at fault, this fails again, and that is raised.
            where = getattr(module, "__directory__", None)
            if where is None:
                raise
            _delete_entry(where, module.__name__)
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                cache._complain(where, error)
            unload(module)
            return _compile(_in_memory(_text(source), module.__name__), function, signature)


def _compile(module: ModuleType, function: str, signature: tuple):
    dispatcher = getattr(module, function)
    if not hasattr(dispatcher, "compile"):
        return dispatcher, False
    dispatcher.compile(signature)
    hit = sum(dispatcher.stats.cache_hits.values()) > 0
    cache._count(hit)
    if not hit:
        seal(module)
    return dispatcher, hit


def load_module(source: str, stem: str) -> ModuleType:
    """The module of the text `source`, backed by a cache entry where that is possible.

    The same text gives the same module until ``unload``. Functions that are compiled later than
    by ``compile_function`` are found by the next process only after ``seal(module)``.
    """
    if not stem.isidentifier():
        raise AssertionError(f"a program's name must be an identifier, got {stem!r}")
    text = _text(source)
    name = f"{stem}_{_hash(text.encode())[:40]}"
    with _lock:
        module = sys.modules.get(name)
        if module is not None:
            return module
        directory = cache._directory()
        if directory is None:
            return _in_memory(text, name)
        try:
            _prepare(directory, name, text)
        except OSError as error:
            cache._complain(directory, error)
            return _in_memory(text, name)
        try:
            return _execute(name, str(directory / f"{name}.py"), text, directory)
        except Exception:
            # Another process deleted the file, and Numba wants to see it. If the text itself is
            # wrong, this fails again, and that is raised.
            return _in_memory(text, name)


def unload(module: ModuleType) -> None:
    """Let go of a loaded module, so that its machine code can be freed with its last user."""
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]
    linecache.cache.pop(module.__file__, None)


def seal(module: ModuleType) -> None:
    """Record the checksums of Numba's files for `module`, and keep to the size limit."""
    directory = getattr(module, "__directory__", None)
    if directory is None:
        return
    try:
        files = _numba_files(directory, module.__name__)
        _write_sums(directory, module.__name__, {f.name: _checksum(f) for f in files})
        cache._trim()
    except OSError as error:
        cache._complain(directory, error)


def _execute(name: str, filename: str, text: str, directory: Path | None) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = filename
    module.__directory__ = directory
    sys.modules[name] = module
    try:
        exec(compile(text, filename, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _in_memory(text: str, name: str) -> ModuleType:
    """The module without a file. Numba would refuse to cache it, so it must not be asked to."""
    text = text.replace("cache=True", "cache=False")
    filename = f"<{name}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    return _execute(name, filename, text, None)


def _text(source: str) -> str:
    """`source` under a line that names all that the machine code depends on besides."""
    return f"# {_environment()}\n{source}"


@remembered
def _environment() -> str:
    import numba

    return f"{_machine()}; numba {numba.__version__}"


@remembered
def _machine() -> str:
    """What object code depends on besides the program."""
    import llvmlite
    import numpy

    from ..emit.native import HEAD, target

    cpu, features = target()
    return (
        f"flatgrad program, format {FORMAT}; code {_code_version()}; llvmlite {llvmlite.__version__}, "
        f"numpy {numpy.__version__}, python {sys.implementation.cache_tag} {HEAD}; cpu {cpu} "
        f"{_hash(features.encode())[:12]}"
    )


def _code_version() -> str:
    """A hash of the helpers that generated code inlines: Numba looks at the caller's file alone."""
    files = sorted((_path(__file__).parent.parent / "emit").rglob("*.py"))
    return _hash(b"".join(file.read_bytes() for file in files))[:12]


def _hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# -- object code of our own ------------------------------------------------------------------------


def object_file(source: str, stem: str) -> Path | None:
    """The file of a program's object code; None if there is no cache."""
    name = f"{stem}_{_hash(f'{_machine()}{chr(10)}{source}'.encode())[:40]}"
    with _lock:
        directory = cache._directory(reading=True)
    return None if directory is None else directory / f"{name}.o"


def read_object(file: Path) -> bytes | None:
    """The object code in `file` if it is there and whole; a damaged file is deleted."""
    import hashlib

    try:
        data = file.read_bytes()
    except OSError:
        return None
    code = data[_DIGEST:]
    if hashlib.sha256(code).digest() != data[:_DIGEST]:
        _delete([file])
        return None
    with suppress(OSError):  # deleted or made read-only meanwhile: the code is in hand
        os.utime(file)
    return code


def write_object(file: Path, code: bytes) -> None:
    """Keep object code behind its checksum, and keep to the size limit."""
    import hashlib

    try:
        _write(file, hashlib.sha256(code).digest() + code)
        cache._trim()
    except OSError as error:
        cache._complain(file.parent, error)


# -- files ----------------------------------------------------------------------------------------


def _prepare(directory: Path, name: str, text: str) -> None:
    """Leave on disk what agrees with `text` and its checksums, and nothing else of this name."""
    file = directory / f"{name}.py"
    try:
        intact = file.read_bytes() == text.encode()
    except OSError:
        intact = False
    if not intact:
        _delete(_numba_files(directory, name))
        _write(file, text.encode())
    if file.stat().st_mtime != _WRITTEN:
        os.utime(file, (_WRITTEN, _WRITTEN))
    sums = _read_sums(directory, name)
    files = _numba_files(directory, name)
    if not (
        sums.keys() == {f.name for f in files} and all(sums[f.name] == _checksum(f) for f in files)
    ):
        _delete(files)
        sums = {}
    _write_sums(directory, name, sums)


def _read_sums(directory: Path, name: str) -> dict[str, str]:
    import json

    try:
        sums = json.loads((directory / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return sums if isinstance(sums, dict) else {}


def _write_sums(directory: Path, name: str, sums: dict[str, str]) -> None:
    import json

    _write(directory / f"{name}.json", json.dumps(sums).encode())


def _checksum(file: Path) -> str:
    try:
        return _hash(file.read_bytes())
    except OSError:  # deleted meanwhile by another process
        return ""


def _write(file: Path, content: bytes) -> None:
    """Atomically. Not synced: what a power cut leaves of a file fails its check."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}{_HALF_WRITTEN}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as stream:
            stream.write(content)
        os.replace(temporary, file)
    except BaseException:
        _delete([temporary])
        raise


def _numba_directories(directory: Path) -> list[Path]:
    """Where Numba keeps its files of modules in `directory`."""
    if "numba" in sys.modules:
        chosen = sys.modules["numba"].config.CACHE_DIR
    else:
        chosen = os.environ.get("NUMBA_CACHE_DIR")
    if not chosen:
        return [directory / "__pycache__"]
    return [_path(chosen), *sorted(d for d in _path(chosen).glob("*") if d.is_dir())]


def _numba_files(directory: Path, name: str) -> list[Path]:
    return [f for f in _listed(*_numba_directories(directory)) if f.name.startswith(f"{name}.")]


def _listed(*directories: Path) -> list[Path]:
    """The files there, but for those that another process is writing just now."""
    files = []
    for directory in directories:
        try:
            with os.scandir(directory) as scan:
                files += [_path(item.path) for item in scan if _settled(item)]
        except OSError:
            continue
    return sorted(files)


def _settled(item: os.DirEntry) -> bool:
    if not item.is_file(follow_symlinks=False):
        return False
    return _HALF_WRITTEN not in item.name or time.time() - item.stat().st_mtime > _PATIENCE


def _entry(name: str, files: list[Path]) -> Entry:
    size, used = 0, 0.0
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        size += status.st_size
        if file.name in (f"{name}.json", f"{name}.o"):
            used = status.st_mtime
    return Entry(name, size, used, tuple(files))


def _delete_entry(directory: Path, name: str) -> None:
    _delete([directory / f"{name}.json", directory / f"{name}.py", *_numba_files(directory, name)])


def _delete(files) -> None:
    for file in files:
        try:
            file.unlink()
        except OSError:
            continue


def _check_private(directory: Path) -> None:
    """Raise PermissionError unless the user alone can write here."""
    status = directory.stat()
    if not hasattr(os, "getuid"):
        return  # Windows: the user's own profile, whose access lists are the system's business
    if status.st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to user {status.st_uid}, not to you")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{directory} can be written by others; chmod go-w it")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} is read-only")


def _is_sealed(directory: Path) -> bool:
    """Whether we can read `directory` and nobody can write it, but root or we elsewhere."""
    try:
        status = directory.stat()
    except OSError:
        return False
    return (
        hasattr(os, "getuid")
        and status.st_uid in (0, os.getuid())
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and os.access(directory, os.R_OK | os.X_OK)
        and not os.access(directory, os.W_OK)
    )


def _user_cache() -> Path:
    home = _path("~").expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return _path(base) if base else home / "AppData" / "Local"
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    base = os.environ.get("XDG_CACHE_HOME")
    return _path(base) if base and os.path.isabs(base) else home / ".cache"


def _path(text: str) -> Path:
    from pathlib import Path

    return Path(text)
