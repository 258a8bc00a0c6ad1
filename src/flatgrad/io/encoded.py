"""A tree as the bytes of a safetensors file, and back, checked.

The file is a plain safetensors file: any reader of the format sees the arrays under readable names.
Two entries of its ``__metadata__`` are ours: ``flatgrad`` (the tree, see `tree.py`) and ``flatgrad.sha256``,
over names, dtypes, shapes, values, the tree and the user's own metadata. A file without them was
written by another program: a dict of tensors, without a checksum.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from ..array.construct import make_leaf
from ..errors import ArgumentError, CheckpointError
from . import tree as trees

FORMAT = 1
TREE, DIGEST = "flatgrad", "flatgrad.sha256"

_HEAD = 8  # bytes of the header's length, in front of the header

_DTYPES = {"BOOL": "?", "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8", "C64": "<c8"} | {
    f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)
}


class Damaged(Exception):
    """The bytes are no whole checkpoint; the message says in what respect."""


def encode(tree, metadata: dict[str, str] | None) -> bytes:
    """The bytes of a safetensors file.

    Raises
    ------
    ArgumentError
        If something in `tree` can't be saved, or `metadata` is no dict of strings.
    """
    notes = _checked_notes(metadata)
    text, arrays = trees.encode(tree)
    text = json.dumps({"format": FORMAT, "tree": text})
    entries = {name: (_code(a), list(a.shape), a) for name, a in arrays.items()}
    notes |= {TREE: text, DIGEST: _digest(entries, {**notes, TREE: text})}
    return _package().numpy.save(arrays, notes)


def decode(data: bytes):
    """The tree of a file's bytes.

    Raises
    ------
    Damaged
        If they are not whole.
    CheckpointError
        If they are whole, but of another format.
    """
    notes, entries = _parsed(data)
    if TREE not in notes:
        return {name: _foreign(name, *entry) for name, entry in entries.items()}
    try:
        top = json.loads(notes[TREE])
        if top["format"] > FORMAT:
            raise CheckpointError(
                f"load: the checkpoint has format {top['format']}, and this flatgrad reads up to {FORMAT}; "
                "update flatgrad"
            )
        arrays = {name: _array(*entry) for name, entry in entries.items()}
        return trees.decode(top["tree"], arrays, lambda a: make_leaf("load", a))
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(str(error)) from None


def check(data: bytes) -> dict[str, str]:
    """Raise Damaged unless the bytes are whole; the metadata that the user gave."""
    notes, _ = _parsed(data)
    return {name: value for name, value in notes.items() if name not in (TREE, DIGEST)}


def _package():
    try:
        import safetensors.numpy
    except ImportError as error:
        raise CheckpointError(
            "flatgrad.io: the safetensors package is required, and is not installed; "
            "pip install safetensors. Where it has no wheel (ARMv6), export the training step as C99"
        ) from error
    return safetensors


def _parsed(data: bytes):
    """(metadata, {name: (dtype code, shape, bytes)}) of whole bytes."""
    package = _package()
    try:
        entries = {
            name: (entry["dtype"], list(entry["shape"]), entry["data"])
            for name, entry in package.deserialize(data)
        }
        end = _HEAD + int.from_bytes(data[:_HEAD], "little")
        notes = json.loads(data[_HEAD:end]).get("__metadata__") or {}
    except (package.SafetensorError, ValueError, RecursionError) as error:
        raise Damaged(_what_else(data) or str(error)) from None
    # Either of the two makes it ours: a bit of the other's name may be what is wrong.
    ours = TREE in notes or DIGEST in notes
    if ours and _digest(entries, notes) != notes.get(DIGEST):
        raise Damaged("its checksum does not agree with its contents")
    return notes, entries


def _what_else(data: bytes) -> str | None:
    """What the bytes are if not safetensors, where people are known to try."""
    if data[:4] == b"PK\x03\x04" or data[:2] in (b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        return (
            "it is a pickle or zip file, as torch.save and np.savez write, and not safetensors; convert it "
            "with safetensors.torch.save_file"
        )
    if not data:
        return "it is empty"
    return None


def _digest(entries: dict, notes: dict[str, str]) -> str:
    """SHA-256 over everything that loading reads."""
    found = hashlib.sha256()
    kept = sorted((k, v) for k, v in notes.items() if k != DIGEST)
    found.update(json.dumps(kept).encode())
    for name in sorted(entries):
        dtype, shape, values = entries[name]
        found.update(json.dumps([name, dtype, shape]).encode())
        found.update(values)
    return found.hexdigest()


def _code(array: np.ndarray) -> str:
    if array.dtype.kind == "b":
        return "BOOL"
    return f"{array.dtype.kind.upper()}{8 * array.dtype.itemsize}"


def _array(code: str, shape: list, data: bytearray) -> np.ndarray:
    return np.frombuffer(data, _DTYPES[code]).reshape(shape)


def _foreign(name: str, code: str, shape: list, data: bytearray):
    """A tensor of another program's file; an array where flatgrad has no such dtype."""
    if code not in _DTYPES:
        raise CheckpointError(
            f"load: {name} has dtype {code}, which NumPy does not have; save it as float32"
        )
    array = _array(code, shape, data)
    if code == "F16":
        array = array.astype(np.float32)
    elif code == "BF16":  # the upper half of a float32
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array if code in ("U16", "U32", "U64", "C64") else make_leaf("load", array)


def _checked_notes(metadata) -> dict[str, str]:
    notes = {} if metadata is None else metadata
    if not isinstance(notes, dict) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in notes.items()
    ):
        raise ArgumentError(
            f"save: metadata must be a dict of strings to strings, got {metadata!r}; what is not text "
            "belongs into the tree"
        )
    taken = [k for k in notes if k.partition(".")[0] == TREE]
    if taken:
        raise ArgumentError(f"save: the metadata key {taken[0]!r} is flatgrad's own; rename it")
    return dict(notes)
