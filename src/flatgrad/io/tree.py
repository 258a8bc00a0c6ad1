"""A tree of Python containers as named arrays and a JSON text, and back, exactly.

In the text null, booleans, numbers, strings and lists stand for themselves; an object has one key,
which names the kind: ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}``, ``{"tensor": name}``. What
JSON can't hold exactly has a kind of its own: floats that are not finite, and large ints.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping

import numpy as np

from ..errors import ArgumentError
from ..graph.dtypes import DType, dtype_named
from ..tensor import Tensor, late, node_of

DEEPEST = 100  # containers in containers; the JSON decoder recurses
_EXACT_INT = 2**63  # larger ones are written in hexadecimal, which has no limit of digits


def encode(tree) -> tuple[str, dict[str, np.ndarray]]:
    """`tree` as a text, and its arrays by name.

    Raises
    ------
    ArgumentError
        Naming the place of what can't be saved.
    """
    found = _Encoder()
    text = json.dumps(found.encode(tree, ()), allow_nan=False, separators=(",", ":"))
    return text, found.values()


def decode(text: str, arrays: dict[str, np.ndarray], tensor):
    """The tree of `text`; ``tensor(array)`` makes the tensors.

    Raises
    ------
    ValueError
        If the text is no tree of these arrays.
    """
    try:
        return _decode(json.loads(text), arrays, tensor)
    except (KeyError, TypeError, IndexError, struct.error, RecursionError) as error:
        raise ValueError(f"its structure can't be read ({error!r})") from None


class _Encoder:
    def __init__(self):
        self.leaves: dict[str, Tensor | np.ndarray] = {}
        self.open: set[int] = set()  # containers around the present place

    def values(self) -> dict[str, np.ndarray]:
        """The arrays, C-contiguous in the machine's byte order; pending tensors are one evaluation."""
        late.evaluate([node_of(t) for t in self.leaves.values() if isinstance(t, Tensor)])
        return {
            name: _plain(node_of(leaf).value if isinstance(leaf, Tensor) else leaf)
            for name, leaf in self.leaves.items()
        }

    def encode(self, value, path: tuple):
        if value is None or type(value) in (bool, str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, path)}
        if isinstance(value, np.ndarray):
            return {"array": self._name(_checked(value, path), path)}
        if isinstance(value, np.generic):
            return {"scalar": self._name(_checked(np.asarray(value), path), path)}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": self._name(np.frombuffer(bytes(value), np.uint8), path)}
        if isinstance(value, DType):
            return {"dtype": value.name}
        if isinstance(value, (int, float, str)):
            return _number(value)
        return self._container(value, path)

    def _container(self, value, path: tuple):
        if not isinstance(value, (Mapping, list, tuple)):
            raise ArgumentError(_refusal(value, path))
        if id(value) in self.open or len(path) >= DEEPEST:
            why = "contains itself" if id(value) in self.open else f"is over {DEEPEST} levels deep"
            raise ArgumentError(f"save: {_place(path[:8])} {why}; a checkpoint is a tree")
        self.open.add(id(value))
        if isinstance(value, Mapping):
            pairs = [[_key(k, path), self.encode(v, (*path, k))] for k, v in value.items()]
            encoded = {"dict": pairs}
        else:
            items = [self.encode(v, (*path, k)) for k, v in enumerate(value)]
            encoded = {"tuple": items} if isinstance(value, tuple) else items
        self.open.discard(id(value))
        return encoded

    def _name(self, leaf, path: tuple) -> str:
        """A name that says where it stands, and is taken once: other tools show these names."""
        readable = ".".join(str(part) for part in path) or "value"
        readable = readable.encode("utf-8", "replace").decode()  # a lone surrogate is no text
        name, count = readable, 1
        while name in self.leaves or name == "__metadata__":
            count += 1
            name = f"{readable}~{count}"
        self.leaves[name] = leaf
        return name


def _number(value):
    """A Python number or string as JSON: of subclasses (an IntEnum) the plain value."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        value = int(value)
        return value if abs(value) < _EXACT_INT else {"int": hex(value)}
    value = float(value)
    return value if math.isfinite(value) else {"float": struct.pack(">d", value).hex()}


def _key(key, path: tuple):
    if isinstance(key, tuple):
        return {"tuple": [_key(k, path) for k in key]}
    if key is None or (
        isinstance(key, (bool, int, float, str)) and not isinstance(key, np.generic)
    ):
        return _number(key) if key is not None else None
    raise ArgumentError(
        f"save: {_place(path)} has a key of type {type(key).__name__}; keys must be strings, numbers, "
        "None, or tuples of them"
    )


def _checked(array: np.ndarray, path: tuple) -> np.ndarray:
    simple = array.dtype.kind in "biuf" and array.dtype.itemsize <= 8
    if not simple or isinstance(array, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(array, np.ma.MaskedArray) else f"dtype {array.dtype}"
        raise ArgumentError(
            f"save: {_place(path)} is an array that safetensors can't hold ({kind}); bools, integers and "
            "floats of up to 64 bits can be saved: convert it"
        )
    return array


def _plain(array: np.ndarray) -> np.ndarray:
    return np.array(array, array.dtype.newbyteorder("="), order="C", copy=None, subok=False)


def _refusal(value, path: tuple) -> str:
    kind = type(value).__name__
    fix = "save its numbers instead"
    for method in ("state_dict", "get_state"):
        if callable(getattr(value, method, None)):
            fix = f"save its .{method}()"
            break
    else:
        if callable(getattr(value, "numpy", None)):
            fix = "save its .numpy()"
        elif isinstance(value, (set, frozenset)):
            fix = "save it as a list"
        elif isinstance(value, np.random.Generator):
            fix = "save its .bit_generator.state"
    return (
        f"save: {_place(path)} is of type {kind}; a checkpoint holds tensors, arrays, numbers, strings, "
        f"None, and lists, tuples and dicts of them; {fix}"
    )


def _place(path: tuple) -> str:
    return "tree" + "".join(f"[{part!r}]" for part in path)


def _decode(value, arrays: dict, tensor):
    if isinstance(value, list):
        return [_decode(v, arrays, tensor) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    match kind:
        case "tuple":
            return tuple([_decode(v, arrays, tensor) for v in held])
        case "dict":
            return {_decode(k, arrays, tensor): _decode(v, arrays, tensor) for k, v in held}
        case "tensor":
            return tensor(arrays[held])
        case "array":
            return arrays[held]
        case "scalar":
            return arrays[held][()]
        case "bytes":
            return arrays[held].tobytes()
        case "dtype":
            return dtype_named(held)
        case "int":
            return int(held, 16)
        case "float":
            return struct.unpack(">d", bytes.fromhex(held))[0]
    raise ValueError(f"its structure has an unknown kind {kind!r}")
