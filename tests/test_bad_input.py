"""Wrong calls of every public function: an exception of flatgrad's, at the call, or a right answer.

A sample that works is made wrong in one place: a shape, a dtype, a dimension, an index, an argument
of another kind, one argument too many. The call may then still be legal (broadcasting); whatever is
returned must evaluate, and where a shape was wrong PyTorch must have accepted it as well.
"""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import derived
import flatgrad as fg
from flatgrad.graph.op import PUBLIC

ALL = list(PUBLIC.values())
OTHER_KINDS = (None, "text", object(), {}, 1.5, b"bytes", [[1.0], [2.0, 3.0]], np.array(["a"]))
OTHER_NUMBERS = (99, -99, 1.5, "x", True, (0, 0), (5, 7))
OTHER_DTYPES = (bool, np.uint8, np.int64, np.float32)


def leaves_of(value, path=()):
    """Every (path, leaf) of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves_of(item, (*path, key))
    elif isinstance(value, (tuple, list)) and value:
        for k, item in enumerate(value):
            yield from leaves_of(item, (*path, k))
    else:
        yield path, value


def replaced(value, path, new):
    """`value` with the leaf at `path` exchanged."""
    if not path:
        return new
    if isinstance(value, dict):
        return {k: replaced(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    items = [replaced(v, path[1:], new) if k == path[0] else v for k, v in enumerate(value)]
    return type(value)(items)


def mutations(rng, sample):
    """(what was done, args, kwargs) without end."""
    whole = (sample.args, sample.kwargs)
    leaves = list(leaves_of(whole))
    arrays = [(p, v) for p, v in leaves if isinstance(v, np.ndarray)]
    numbers = [(p, v) for p, v in leaves if isinstance(v, int) and not isinstance(v, bool)]
    while True:
        kind = rng.choice(["shape", "shape", "dtype", "number", "kind", "extra", "keyword"])
        args, kwargs = whole
        if kind == "shape" and arrays:
            path, value = arrays[rng.integers(len(arrays))]
            args, kwargs = replaced(whole, path, misshapen(rng, value))
        elif kind == "dtype" and arrays:  # NaN has no integer
            path, value = arrays[rng.integers(len(arrays))]
            dtype = OTHER_DTYPES[rng.integers(len(OTHER_DTYPES))]
            args, kwargs = replaced(
                whole, path, (np.abs(np.nan_to_num(value, posinf=0, neginf=0)) + 1).astype(dtype)
            )
        elif kind == "number" and numbers:
            path, value = numbers[rng.integers(len(numbers))]
            args, kwargs = replaced(whole, path, OTHER_NUMBERS[rng.integers(len(OTHER_NUMBERS))])
        elif kind == "kind" and leaves:
            path, _ = leaves[rng.integers(len(leaves))]
            args, kwargs = replaced(whole, path, OTHER_KINDS[rng.integers(len(OTHER_KINDS))])
        elif kind == "extra":
            args = (*args, OTHER_NUMBERS[rng.integers(len(OTHER_NUMBERS))])
        elif kind == "keyword":
            kwargs = {**kwargs, "no_such_argument": 1}
        else:
            continue
        yield kind, args, kwargs


def misshapen(rng, array: np.ndarray) -> np.ndarray:
    """Data of another shape: a dimension more, one less, or one of another size."""
    shape = list(array.shape)
    how = rng.integers(4)
    if how == 0:
        shape.insert(rng.integers(len(shape) + 1), int(rng.integers(2, 5)))
    elif how == 1 and shape:
        shape.pop(rng.integers(len(shape)))
    elif shape:
        shape[rng.integers(len(shape))] += int(rng.integers(1, 4))
    else:
        shape = [7, 2]
    if array.dtype.kind == "f":
        return rng.uniform(0.1, 0.9, shape)
    return np.zeros(shape, array.dtype)


def check(public, kind, args, kwargs) -> str:
    """'refused' or 'accepted'; AssertionError for anything that must not happen."""
    shown = f"{public.name}(*{args!r}, **{kwargs!r}), wrong in {kind}"

    def tensor(array):
        try:
            return fg.tensor(array.copy())
        except fg.errors.FlatgradError:
            return array

    call_args, call_kwargs = derived.convert(args, tensor), derived.convert(kwargs, tensor)
    try:
        result = public.function(*call_args, **call_kwargs)
    except fg.errors.FlatgradError as error:
        assert len(str(error)) > 15, f"{shown}: says nothing: {error}"
        return "refused"
    except TypeError as error:
        assert not binds(public.function, call_args, call_kwargs), f"{shown}: {error!r}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{shown}: {error!r} is no class of flatgrad's") from error
    try:
        for t in derived.tensors_in(result):
            value = derived.value_of(t)
            assert value.shape == tuple(t.shape), f"{shown}: {value.shape} is not {t.shape}"
    except fg.errors.LinAlgError:
        return "refused"  # a matter of values, found when they are computed
    except Exception as error:
        raise AssertionError(f"{shown}: fails only when evaluated: {error!r}") from error
    if kind == "shape":
        check_torch_accepts(public, args, kwargs, result, shown)
    return "accepted"


def binds(function, args, kwargs) -> bool:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def check_torch_accepts(public, args, kwargs, result, shown) -> None:
    if not public.torch:
        return
    pytest.importorskip("torch")
    peer = derived.torch_peer(public)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = peer(*derived.to_torch(args), **derived.to_torch(kwargs))
    except (RuntimeError, IndexError, ValueError) as error:
        # Gaps of PyTorch's, no mistakes in the call (its avg_pool3d forgets padding when it compares).
        if any(gap in str(error) for gap in ("is not supported for", "smaller than kernel size")):
            return
        raise AssertionError(f"{shown}: PyTorch refuses it: {error}") from error
    expected = derived.torch_tensors(answer)
    ours = [tuple(t.shape) for t in derived.tensors_in(result)]
    assert ours == [tuple(t.shape) for t in expected], shown


def fuzz(public, count: int) -> None:
    rng = np.random.default_rng(20240917)
    samples = derived.samples_of(public)
    streams = [mutations(rng, sample) for sample in samples]
    outcomes = [check(public, *next(streams[k % len(streams)])) for k in range(count)]
    assert "refused" in outcomes, f"{public.name}: accepts whatever it is given"


@pytest.mark.parametrize("public", ALL, ids=lambda p: p.name)
def test_a_wrong_call_raises_ours_at_the_call(public):
    fuzz(public, 16)


HUGE = 10**30  # more than 64 bits, and so is the product of a few of MANY
MANY = 2**40


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fg.tile(x, HUGE),
        lambda x: fg.tile(x, MANY, MANY),
        lambda x: x.repeat(HUGE, 1),
        lambda x: fg.repeat_interleave(x, HUGE),
        lambda x: x[0, 0].expand(HUGE),
        lambda x: x[0, 0].expand(MANY, MANY),
        lambda x: fg.zeros(HUGE),
        lambda x: fg.zeros(MANY, MANY, 0),
        lambda x: fg.full((MANY, MANY), 1.0),
        lambda x: fg.randn(MANY, MANY),
        lambda x: fg.eye(MANY),
        lambda x: fg.arange(HUGE),
        lambda x: fg.linspace(0, 1, HUGE),
    ],
)
def test_a_tensor_of_impossible_size_is_refused_at_the_call(call):
    with pytest.raises(fg.errors.FlatgradError, match=r"2\*\*59 elements"):
        call(fg.ones(2, 3))


def test_positions_far_outside_are_empty_or_refused():
    x = fg.ones(2, 3)
    assert fg.diagonal(x, HUGE).numpy().shape == fg.diagonal(x, -HUGE).numpy().shape == (0,)
    assert x[:HUGE].numpy().shape == (2, 3)
    assert x.unfold(0, 1, HUGE).numpy().shape == (1, 3, 1)
    with pytest.raises(fg.errors.IndexingError):
        x[HUGE]


@pytest.mark.slow
@pytest.mark.parametrize("public", ALL, ids=lambda p: p.name)
def test_many_wrong_calls(public):
    fuzz(public, 300)
