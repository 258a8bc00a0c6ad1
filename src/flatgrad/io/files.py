"""``save`` and ``load``."""

from __future__ import annotations

import errno
import os
import warnings

from ..errors import ArgumentError, CheckpointError, CheckpointWarning, MissingCheckpointError
from . import durable, encoded

_READABLE = (errno.ENOENT, errno.EIO)  # an older version may do: no such file, a bad sector


def save(path, tree, *, keep: int = 1, metadata: dict[str, str] | None = None) -> None:
    """Write a tree of tensors, arrays and numbers to a safetensors file.

    The file is whole at any moment: a process that is killed and a power cut leave the new contents
    or the old. The previous checkpoint is kept as ``<path>.1``.

    Parameters
    ----------
    path : str or os.PathLike
        The directory must exist.
    tree
        Tensors, arrays, NumPy's and Python's numbers, strings, bytes, None, and lists, tuples and
        dicts of them: state_dicts of modules and optimisers, states of generators. All of it is
        loaded as it was, to the last bit; subclasses of containers become plain ones.
    keep : int
        How many older checkpoints are kept, as ``<path>.1`` (the newest) to ``<path>.<keep>``.
    metadata : dict of str to str, optional
        Notes for people and other programs, see :func:`read_metadata`.

    Raises
    ------
    ArgumentError
        If something in the tree can't be saved. Nothing is written then.
    CheckpointError
        Also an OSError: if the file can't be written (a full disk, a read-only file system, no such
        directory). What was there before is there still.

    Examples
    --------
    >>> import flatgrad as fg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> model = fg.nn.Linear(2, 1)
    >>> fg.io.save(path, {"model": model.state_dict(), "epoch": 3})
    >>> loaded = fg.io.load(path)
    >>> loaded["epoch"], model.load_state_dict(loaded["model"])
    (3, <All keys matched successfully>)
    """
    path = _path("save", path)
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        raise ArgumentError(f"save: keep must be an int, 0 or more, got {keep!r}")
    contents = encoded.encode(tree, metadata)
    target = os.path.realpath(path)  # a symbolic link stays, what it points to is replaced
    try:
        durable.replace(target, contents, keep, _is_whole)
    except OSError as error:
        raise _failure(
            f"save: {path} could not be written", error, _remedy(error, target, contents)
        ) from error


def load(path, *, strict: bool = False, map_location=None, weights_only: bool = True):
    """The tree of a file of :func:`save`; of another program's safetensors file, a dict of tensors.

    A damaged file is recognised by its checksum. The last good one (``<path>.1``, ...) is loaded then, with a
    warning that names both. Nothing in a file is executed.

    Parameters
    ----------
    path : str or os.PathLike
    strict : bool
        Raise if the file is missing or damaged, instead of loading an older one.
    map_location : "cpu", optional
    weights_only : bool
        Kept for PyTorch's sake: it is always so.

    Returns
    -------
    tree
        Tensors for tensors (they do not require grad), arrays for arrays, Python's numbers for Python's.
        Of other programs' files: bfloat16 and float16 as float32 tensors, dtypes that flatgrad
        doesn't have as arrays.

    Raises
    ------
    MissingCheckpointError
        Also a FileNotFoundError: if there is no file, nor an older one.
    CheckpointError
        Also an OSError: if no file is whole, or it may not be read.

    Warns
    -----
    CheckpointWarning
        If an older checkpoint was loaded.

    Examples
    --------
    >>> import flatgrad as fg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> fg.io.save(path, {"w": fg.tensor([1.0, 2.0]), "betas": (0.9, float("inf"))})
    >>> fg.io.load(path)
    {'w': tensor([1., 2.]), 'betas': (0.9, inf)}
    """
    path = _path("load", path)
    candidates = [path] if strict else durable.versions(path)
    reasons: list[str] = []
    for candidate in candidates:
        try:
            tree = encoded.decode(durable.read(candidate))
        except encoded.Damaged as error:
            reasons.append(f"{candidate} is damaged: {error}")
        except CheckpointError:
            raise
        except OSError as error:
            if error.errno not in _READABLE:
                raise _failure(
                    f"load: {candidate} could not be read", error, "check its owner and mode"
                ) from error
            reasons.append(f"{candidate}: {os.strerror(error.errno)}")
        else:
            if reasons:
                warnings.warn(
                    f"load: {'; '.join(reasons)}. Loaded an older checkpoint instead: {candidate}",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return tree
    if len(reasons) == 1 and not os.path.lexists(path):
        error = MissingCheckpointError(
            f"load: there is no checkpoint {path}; save one first, or check the path"
        )
        error.errno = errno.ENOENT
        raise error
    more = " (an older one is not looked for: strict=True)" if strict else ""
    raise CheckpointError(f"load: no whole checkpoint: {'; '.join(reasons)}{more}")


def read_metadata(path) -> dict[str, str]:
    """The `metadata` that a checkpoint was saved with; the file is checked.

    Raises
    ------
    CheckpointError
        If it can't be read, or is damaged.

    Examples
    --------
    >>> import flatgrad as fg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> fg.io.save(path, {"w": fg.ones(2)}, metadata={"board": "pi-7"})
    >>> fg.io.read_metadata(path)
    {'board': 'pi-7'}
    """
    path = _path("read_metadata", path)
    try:
        return encoded.check(durable.read(path))
    except encoded.Damaged as error:
        raise CheckpointError(f"read_metadata: {path} is damaged: {error}") from None
    except OSError as error:
        raise _failure(
            f"read_metadata: {path} could not be read", error, "check the path"
        ) from error


def _is_whole(path: str) -> bool:
    try:
        encoded.check(durable.read(path))
    except (encoded.Damaged, OSError):
        return False
    return True


def _path(function: str, path) -> str:
    try:
        return os.fsdecode(os.fspath(path))
    except TypeError:
        raise ArgumentError(
            f"{function}: the path of a file is required, got {type(path).__name__}; fg.io.save(path, tree) "
            "takes it first, fg.save(tree, path) second, as PyTorch does"
        ) from None


def _failure(what: str, error: OSError, remedy: str) -> CheckpointError:
    failure = CheckpointError(f"{what}: {error.strerror or error}; {remedy}")
    failure.errno = error.errno
    return failure


def _remedy(error: OSError, path: str, contents: bytes) -> str:
    kept = (
        "the checkpoint that was there is unchanged"
        if os.path.exists(path)
        else "nothing is left of it"
    )
    match error.errno:
        case errno.ENOENT:
            return f"make the directory {os.path.dirname(path)} first"
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"{len(contents):,} bytes are needed beside the older checkpoints: free some space; {kept}"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return f"choose a directory that this process can write; {kept}"
    return kept
