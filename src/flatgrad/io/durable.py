"""Files that are whole at any moment: whatever dies in between, the new contents or the old are there.

The contents go to a temporary beside the file, and are on the disk before it is renamed to the file's
name. The previous one is kept as ``<file>.1`` (a hard link, so that the file's own name always leads
to something). A temporary is locked by its writer: one that nobody locks was left by a process that
died, and the next writer deletes it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows, which refuses to delete a file that another process has open
    fcntl = None

_TRIES = 100
_RANDOM = 6  # bytes in a temporary's name


def replace(path: str, contents: bytes, keep: int, whole: Callable[[str], bool]) -> None:
    """Give `path` new contents, and keep what ``whole`` says is good of it as ``.1`` to ``.keep``.

    Raises
    ------
    OSError
        If that is not possible. `path` is then as it was, and no temporary is left.
    """
    _clean(path)
    descriptor, temporary = _temporary(path)
    try:
        try:
            _write(descriptor, contents)
            _same_mode(descriptor, path)
            os.fsync(descriptor)
        finally:
            if os.name == "nt":
                os.close(descriptor)  # an open file can't be renamed there
        _rotate(path, keep, whole)
        os.replace(temporary, path)
        _sync_directory(path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        if os.name != "nt":
            os.close(descriptor)


def versions(path: str) -> list[str]:
    """`path`, whether it exists or not, and the older ones that do, the newest first.

    A writer that died while it moved them on may have left a gap in the numbers.
    """
    directory, name = os.path.split(path)
    numbers: list[int] = []
    with suppress(OSError):
        for found in os.listdir(directory or "."):
            start, _, number = found.rpartition(".")
            if start == name and number.isascii() and number.isdigit() and number[0] != "0":
                numbers.append(int(number))
    return [path, *(f"{path}.{k}" for k in sorted(numbers))]


def read(path: str) -> bytes:
    """All of a file. Not mapped: a bad sector is an error to Python, and not the process's death."""
    with open(path, "rb") as stream:
        return stream.read()


def _write(descriptor: int, contents: bytes) -> None:
    rest = memoryview(contents)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _temporary(path: str) -> tuple[int, str]:
    """A new file beside `path`, open and locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for _ in range(_TRIES):
        name = _beside(path)
        descriptor = os.open(name, flags, 0o666)
        # Another process may have come between the two calls, and taken it for left over.
        if _lock(descriptor, wait=True) and os.fstat(descriptor).st_nlink:
            return descriptor, name
        os.close(descriptor)
    raise OSError(errno.EAGAIN, "another process deletes every temporary file", path)


def _beside(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{secrets.token_hex(_RANDOM)}.tmp")


def _lock(descriptor: int, wait: bool = False) -> bool:
    """Whether the lock was had. File systems without locks are taken as locked by us if we wait."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return wait
    return True


def _clean(path: str) -> None:
    """Delete the temporaries of writers that died."""
    directory, name = os.path.split(path)
    ours = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{{2 * _RANDOM}}}\.tmp")
    with suppress(OSError):
        for found in os.listdir(directory or "."):
            if ours.fullmatch(found):
                with suppress(OSError):
                    _delete_abandoned(os.path.join(directory, found))


def _delete_abandoned(temporary: str) -> None:
    descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if fcntl is None:
            os.close(descriptor)
            descriptor = None
            os.unlink(temporary)
        elif _lock(descriptor):
            os.unlink(temporary)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _same_mode(descriptor: int, path: str) -> None:
    """Who may read the file that is replaced may read the new one."""
    if hasattr(os, "fchmod"):
        with suppress(OSError):
            os.fchmod(descriptor, os.stat(path).st_mode & 0o7777)


def _rotate(path: str, keep: int, whole: Callable[[str], bool]) -> None:
    """Let ``path.1`` be what `path` is, if that is good, and the older ones move on.

    A damaged file takes no good one's place: it may be the reason why the good one was loaded.
    """
    if keep == 0 or not os.path.exists(path) or not whole(path):
        return
    with suppress(OSError):
        if os.path.samefile(path, f"{path}.1"):
            return  # a writer died behind this step
    free = next((k for k in range(1, keep) if not os.path.lexists(f"{path}.{k}")), keep)
    # What is not found, another process that saves has moved or tidied away just now.
    with suppress(FileNotFoundError):
        for k in range(free, 1, -1):
            os.replace(f"{path}.{k - 1}", f"{path}.{k}")
    with suppress(FileNotFoundError):
        _keep(path, f"{path}.1")


def _keep(path: str, older: str) -> None:
    link = _beside(path)
    try:
        os.link(path, link)
    except FileNotFoundError:
        raise
    except OSError:  # no hard links (FAT): for a moment only `older` exists, which load() knows
        os.replace(path, older)
        return
    try:
        os.replace(link, older)
    finally:
        # Renaming does nothing where both names are one file already.
        with suppress(FileNotFoundError):
            os.unlink(link)


def _sync_directory(path: str) -> None:
    """The new name is on the disk as well."""
    if os.name == "nt":
        return
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems can't
            raise
    finally:
        os.close(descriptor)
