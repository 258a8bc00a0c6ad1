"""The checks that follow from an operation's record: every public function gets the same ones.

``test_registry_sweep.py`` runs them over the whole registry, ``test_contributing.py`` over the
operation that CONTRIBUTING.md adds, ``test_injection.py`` over rules made wrong on purpose.

A check raises AssertionError. Each asserts that it has something to compare: operands that are
finite, and not all zero.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np

import flatgrad as fg
from flatgrad.graph.op import Public, Sample
from flatgrad.tensor import Tensor, late, node_of

RTOL, ATOL = 1e-9, 1e-11  # float64 against another implementation of the same formula
FD_RTOL, FD_ATOL = 1e-4, 1e-6  # against central differences: a rule wrong by 0.1 % must fail
STEP = 1e-5

# Piecewise constant: the derivative is zero, and that is what their checks compare.
FLAT = frozenset({"ceil", "fix", "floor", "round", "sgn", "sign", "trunc"})


class NothingToCheckError(AssertionError):
    """A check compared nothing: no samples, only zeros, or only NaN."""


def samples_of(public: Public, seed: int = 0) -> list[Sample]:
    """The author's samples, or for elementwise operations those that follow from the domain."""
    rng = np.random.default_rng(seed)
    if public.samples is not None:
        return list(public.samples(rng))
    op = public.op
    if op is None or op.kind != "elementwise":
        raise NothingToCheckError(f"{public.name} has no samples; give its declaration samples=")
    shapes = [((2, 3),) * op.arity, ((),) * op.arity, ((0, 3),) * op.arity]
    if op.arity > 1:
        shapes += [((2, 1),) + ((3,),) * (op.arity - 1), ((),) + ((2,),) * (op.arity - 1)]
    domain = op.domain or ((-3.0, 3.0),) * op.arity
    rows = [
        tuple(_draw(rng, low, high, s) for (low, high), s in zip(domain, row, strict=True))
        for row in shapes
    ]
    try:
        public.function(*[fg.tensor(a) for a in rows[0]])
    except fg.errors.DTypeError:  # an operation on integers
        rows = [tuple(np.abs(a).astype(np.int64) for a in row) for row in rows]
    return [Sample(row) for row in rows]


def _draw(rng, low: float, high: float, shape: tuple) -> np.ndarray:
    """From the open interval; an infinite side is cut at 4."""
    low, high = max(low, -4.0), min(high, 4.0)
    return np.asarray(rng.uniform(low, high, shape))


# -- calling --------------------------------------------------------------------------------------


def convert(value, make):
    """`value` with each array in it, however deep, replaced by ``make(array)``."""
    if isinstance(value, (np.ndarray, np.generic)):
        return make(np.asarray(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[convert(v, make) for v in value])
    if isinstance(value, (tuple, list)):
        return type(value)(convert(v, make) for v in value)
    if isinstance(value, dict):
        return {k: convert(v, make) for k, v in value.items()}
    return value


def arrays_in(value) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    convert(value, found.append)
    return found


def call_plain(public: Public, sample: Sample, arrays=None, requires_grad: bool = False):
    """``(result, floating inputs)``; `arrays` replace the sample's floating ones, in order."""
    inputs: list[Tensor] = []
    fresh = iter(arrays) if arrays is not None else None

    def make(array):
        floating = array.dtype.kind == "f"
        if floating and fresh is not None:
            array = next(fresh)
        t = fg.tensor(array.copy())
        if floating:
            if requires_grad:
                t.requires_grad_()
            inputs.append(t)
        return t

    args, kwargs = convert(sample.args, make), convert(sample.kwargs, make)
    return public.function(*args, **kwargs), inputs


def call(public: Public, sample: Sample, arrays=None, requires_grad: bool = False):
    """`call_plain`, of the result its tensors."""
    result, inputs = call_plain(public, sample, arrays, requires_grad)
    return tensors_in(result), inputs


def value_of(t: Tensor) -> np.ndarray:
    """The value of a tensor, whether or not it requires grad."""
    node = node_of(t)
    late.evaluate([node])
    return node.value


def tensors_in(result) -> list[Tensor]:
    """The tensors of a result, which may be one, or a tuple or list of them."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [t for r in result for t in tensors_in(r)]
    return []


def is_float(t: Tensor) -> bool:
    return t.dtype.is_floating_point


def floats_of(sample: Sample) -> list[np.ndarray]:
    """The sample's floating arrays, in the order in which `call` takes replacements."""
    return [a for a in arrays_in((sample.args, sample.kwargs)) if a.dtype.kind == "f"]


def weights_for(outputs, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 1.5, tuple(t.shape)) * rng.choice([-1.0, 1.0]) for t in outputs]


def weighted(outputs, weights) -> Tensor | None:
    """One scalar of all floating outputs, whose gradient sees every element of them."""
    total = None
    for t, w in zip(outputs, weights, strict=True):
        if is_float(t):
            term = fg.sum(t * fg.tensor(w))
            total = term if total is None else total + term
    return total


def value_and_grads(public: Public, sample: Sample, arrays=None, seed: int = 1):
    """The weighted sum of the outputs, and its gradients (zeros where nothing arrives)."""
    outputs, inputs = call(public, sample, arrays, requires_grad=True)
    total = weighted(outputs, weights_for(outputs, seed))
    if total is None or not total.requires_grad:
        return None, None
    grads = fg.autograd.grad(total, inputs, allow_unused=True)
    return value_of(total).item(), [
        np.zeros(tuple(x.shape)) if g is None else value_of(g).copy()
        for g, x in zip(grads, inputs, strict=True)
    ]


# -- the checks -----------------------------------------------------------------------------------


def check_evaluates(public: Public) -> None:
    """Every sample gives values of the shapes and dtypes announced, and leaves its inputs alone."""
    seen = 0
    for sample in samples_of(public):
        before = [a.copy() for a in arrays_in((sample.args, sample.kwargs))]
        result, inputs = call_plain(public, sample)
        seen += isinstance(result, (bool, int, float))
        for t in tensors_in(result):
            value = value_of(t)
            assert value.shape == tuple(t.shape), (public.name, value.shape, t.shape)
            assert value.dtype == t.dtype.np, (public.name, value.dtype, t.dtype)
            seen += 1
        after = arrays_in((sample.args, sample.kwargs))
        for a, b in zip(before, after, strict=True):
            np.testing.assert_array_equal(a, b)
        if not public.name.endswith("_"):
            for t, a in zip(inputs, floats_of(sample), strict=True):
                np.testing.assert_array_equal(value_of(t), a)
    if not seen:
        raise NothingToCheckError(f"{public.name}: no sample gave a tensor")


def check_gradient(public: Public) -> None:
    """Reverse mode against central differences, element by element."""
    compared = 0
    for sample in samples_of(public):
        arrays = floats_of(sample)
        value, grads = value_and_grads(public, sample)
        if value is None or not np.isfinite(value):
            continue
        scale = max([1.0, *[float(np.abs(g).max()) for g in grads if g.size]])

        def f(arrays, sample=sample):
            outputs, _ = call(public, sample, arrays)
            return value_of(weighted(outputs, weights_for(outputs, 1))).item()

        for k, g in enumerate(grads):
            for index in _probed(g.shape):
                estimate = _difference(f, arrays, k, index, value)
                if estimate is None:
                    continue
                error = abs(estimate - g[index])
                assert error <= FD_ATOL * scale + FD_RTOL * abs(estimate), (
                    f"{public.name}{_shapes(sample)}: d/dx{k}{list(index)} is {g[index]!r}, "
                    f"differences say {estimate!r}"
                )
                compared += abs(estimate) > 10 * FD_ATOL * scale
    if not compared and public.name not in FLAT:
        raise NothingToCheckError(f"{public.name}: no derivative that is finite and not zero")


def _probed(shape: tuple, most: int = 16) -> list[tuple]:
    indices = list(np.ndindex(*shape))
    return indices[:: max(1, len(indices) // most)]


def _difference(f, arrays, k: int, index: tuple, at: float) -> float | None:
    """The central difference; None at a kink, a jump or the domain's end: there is no answer."""
    step = STEP * max(1.0, abs(float(arrays[k][index])))
    ahead = f(_moved(arrays, k, index, step))
    behind = f(_moved(arrays, k, index, -step))
    right, left = (ahead - at) / step, (at - behind) / step
    if not np.isfinite(right) or not np.isfinite(left):
        return None
    if abs(right - left) > 0.02 * max(abs(right), abs(left)) + 1e-3:
        return None
    return (ahead - behind) / (2 * step)


def _moved(arrays, k: int, index: tuple, by: float) -> list[np.ndarray]:
    moved = [a.copy() for a in arrays]
    moved[k][index] += by
    return moved


def _shapes(sample: Sample) -> str:
    shown = [a.shape if isinstance(a, np.ndarray) else a for a in sample.args]
    return f"({', '.join(map(str, shown))}; {sample.kwargs})"


def check_second_order(public: Public) -> None:
    """The gradient's own gradient, in a random direction, against differences of the gradient."""
    for sample in samples_of(public):
        arrays = floats_of(sample)
        if sum(a.size for a in arrays) > 60:
            continue
        rng = np.random.default_rng(5)
        u = [rng.standard_normal(a.shape) for a in arrays]
        v = [rng.standard_normal(a.shape) for a in arrays]
        outputs, inputs = call(public, sample, requires_grad=True)
        total = weighted(outputs, weights_for(outputs, 1))
        if total is None or not total.requires_grad or not np.isfinite(value_of(total).item()):
            continue
        grads = fg.autograd.grad(total, inputs, create_graph=True, allow_unused=True)
        along = None  # <u, gradient>
        for g, w in zip(grads, u, strict=True):
            if g is not None and g.requires_grad:
                term = fg.sum(g * fg.tensor(w))
                along = term if along is None else along + term
        if along is None:
            analytic = 0.0
        else:
            seconds = fg.autograd.grad(along, inputs, allow_unused=True)
            analytic = sum(
                float(np.sum(value_of(g) * w))
                for g, w in zip(seconds, v, strict=True)
                if g is not None
            )

        def slope(sign, sample=sample, arrays=arrays, u=u, v=v):
            moved = [a + sign * STEP * w for a, w in zip(arrays, v, strict=True)]
            _, grads = value_and_grads(public, sample, moved)
            return sum(float(np.sum(g * w)) for g, w in zip(grads, u, strict=True))

        at, ahead, behind = slope(0), slope(1), slope(-1)
        right, left = (ahead - at) / STEP, (at - behind) / STEP
        if not np.isfinite(right + left) or not np.isfinite(analytic):
            continue
        if abs(right - left) > 0.02 * max(abs(right), abs(left)) + 1e-2:
            continue  # a kink of the first derivative
        estimate = (ahead - behind) / (2 * STEP)
        tolerance = 2e-5 * max(1.0, abs(at)) + 1e-4 * abs(estimate)
        assert abs(estimate - analytic) <= tolerance, (
            f"{public.name}{_shapes(sample)}: second derivative is {analytic!r}, "
            f"differences say {estimate!r}"
        )


def check_transposed(public: Public) -> None:
    """<u, J v> = <J' u, v>: forward and reverse mode agree to rounding; no step size matters."""
    from flatgrad.transform.pushforward import pushforward

    compared = 0
    for sample in samples_of(public):
        outputs, inputs = call(public, sample, requires_grad=True)
        outputs = [t for t in outputs if is_float(t) and t.requires_grad]
        if not outputs or not all(np.isfinite(value_of(t)).all() for t in outputs):
            continue
        rng = np.random.default_rng(6)
        u = [rng.standard_normal(tuple(t.shape)) for t in outputs]
        v = [rng.standard_normal(tuple(t.shape)) for t in inputs]
        grads = fg.autograd.grad(
            outputs, inputs, [fg.tensor(w) for w in u], retain_graph=True, allow_unused=True
        )
        tangents = pushforward(
            [node_of(t) for t in outputs], [node_of(t) for t in inputs], [fg.tensor(w) for w in v]
        )
        forward, size_f = _inner(u, tangents)
        reverse, size_r = _inner(v, grads)
        if not np.isfinite(size_f + size_r):
            continue
        assert abs(forward - reverse) <= 1e-10 * max(size_f, size_r, 1e-3), (
            f"{public.name}{_shapes(sample)}: <u, Jv> = {forward!r} but <J'u, v> = {reverse!r}"
        )
        compared += size_r > 0
    if not compared and public.name not in FLAT:
        raise NothingToCheckError(f"{public.name}: no tangent that is finite and not zero")


def _inner(arrays, tensors) -> tuple[float, float]:
    """The inner product, and the sum of its terms' sizes (what rounding is relative to)."""
    products = [a * value_of(t) for a, t in zip(arrays, tensors, strict=True) if t is not None]
    total = sum(float(np.sum(p)) for p in products)
    return total, sum(float(np.sum(np.abs(p))) for p in products)


def check_errors(public: Public) -> None:
    """Each documented wrong call raises at the call, as documented, and changes nothing."""
    for bad in public.errors():
        tensors: list[Tensor] = []

        def make(array, tensors=tensors):
            t = fg.tensor(array)
            tensors.append(t)
            return t

        args, kwargs = convert(bad.args, make), convert(bad.kwargs, make)
        for value in (*args, *kwargs.values()):
            tensors += [t for t in tensors_in(value) if not any(t is s for s in tensors)]
        before = [(node_of(t), t.requires_grad, t.grad) for t in tensors]
        check_raises(public, args, kwargs, bad.error, bad.match)
        after = [(node_of(t), t.requires_grad, t.grad) for t in tensors]
        for was, now in zip(before, after, strict=True):
            assert all(a is b for a, b in zip(was, now, strict=True)), f"{public.name}: changed"


def check_raises(public: Public, args, kwargs, error: type, match: str) -> None:
    import re

    try:
        result = public.function(*args, **kwargs)
    except Exception as raised:
        assert isinstance(raised, error), (
            f"{public.name}: {type(raised).__name__} instead of {error.__name__}: {raised}"
        )
        own = isinstance(raised, fg.errors.FlatgradError) or type(raised) is TypeError
        assert own, f"{public.name}: {type(raised).__name__} is no class of flatgrad's: {raised}"
        assert re.search(match, str(raised)), f"{public.name}: {match!r} not in {str(raised)!r}"
    else:
        raise AssertionError(f"{public.name}{args}: must raise {error.__name__}, gave {result}")


def check_compiled(public: Public, most: int | None = None) -> None:
    """The compiled program of values and gradients gives what the interpreter gives."""
    for sample in samples_of(public)[:most]:
        results = []
        for mode in ("never", "always"):
            fg.set_compile(mode)
            outputs, inputs = call(public, sample, requires_grad=True)
            values = [value_of(t).copy() for t in outputs]
            total = weighted(outputs, weights_for(outputs, 1))
            if total is not None and total.requires_grad:
                grads = fg.autograd.grad(total, inputs, allow_unused=True)
                values += [value_of(g).copy() for g in grads if g is not None]
            results.append(values)
        fg.set_compile("auto")
        for interpreted, compiled in zip(*results, strict=True):
            assert interpreted.dtype == compiled.dtype
            np.testing.assert_allclose(
                compiled, interpreted, rtol=1e-11, atol=1e-13, err_msg=public.name
            )


# -- PyTorch --------------------------------------------------------------------------------------


def torch_peer(public: Public):
    """PyTorch's function of the same meaning, or None."""
    import torch

    return functools.reduce(getattr, public.torch.split("."), torch) if public.torch else None


def to_torch(value, leaves: list | None = None):
    """Arrays as PyTorch tensors, floating ones requiring grad and put into `leaves`; dtypes."""
    import torch

    def make(array):
        t = torch.from_numpy(np.array(array))
        if leaves is not None and array.dtype.kind == "f":
            leaves.append(t.requires_grad_())
        return t

    return _dtypes_to_torch(convert(value, make))


def _dtypes_to_torch(value):
    import torch

    if isinstance(value, fg.graph.dtypes.DType):
        return getattr(torch, value.name)
    if isinstance(value, dict):
        return {k: _dtypes_to_torch(v) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_dtypes_to_torch(v) for v in value)
    return value


def torch_tensors(result) -> list:
    import torch

    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, (tuple, list)):
        return [t for r in result for t in torch_tensors(r)]
    return []


def check_torch(public: Public) -> None:
    """Shapes, dtypes, values and gradients as PyTorch's, in float64."""
    import torch

    peer = torch_peer(public)
    compared = 0
    for sample in samples_of(public):
        theirs: list = []
        args, kwargs = to_torch(sample.args, theirs), to_torch(sample.kwargs, theirs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch itself calls deprecated
            answer = peer(*args, **kwargs)
        expected = torch_tensors(answer)
        result, inputs = call_plain(public, sample, requires_grad=public.differentiable)
        outputs = tensors_in(result)
        if isinstance(answer, (bool, int, float)):
            assert result == answer, f"{public.name}{_shapes(sample)}: {result}, not {answer}"
            compared += 1
        assert len(outputs) == len(expected), f"{public.name}{_shapes(sample)}: number of outputs"
        where = f"{public.name}{_shapes(sample)}"
        for t, e in zip(outputs, expected, strict=True):
            assert t.dtype.np == e.detach().numpy().dtype, f"{where}: {t.dtype} against {e.dtype}"
            assert tuple(t.shape) == tuple(e.shape), f"{where}: {t.shape} against {e.shape}"
            np.testing.assert_allclose(
                value_of(t), e.detach().numpy(), rtol=RTOL, atol=ATOL, err_msg=where
            )
            compared += bool(np.isfinite(value_of(t)).any())
        if not public.differentiable:
            continue
        weights = weights_for(outputs, 1)
        total = weighted(outputs, weights)
        if total is None or not total.requires_grad:
            continue
        terms = [
            (e * torch.from_numpy(np.asarray(w))).sum()
            for e, w in zip(expected, weights, strict=True)
            if e.is_floating_point()
        ]
        expected_grads = torch.autograd.grad(sum(terms), theirs, allow_unused=True)
        grads = fg.autograd.grad(total, inputs, allow_unused=True)
        for k, (g, e) in enumerate(zip(grads, expected_grads, strict=True)):
            ours = np.zeros(tuple(inputs[k].shape)) if g is None else value_of(g)
            other = np.zeros(tuple(inputs[k].shape)) if e is None else e.numpy(force=True)
            np.testing.assert_allclose(
                ours, other, rtol=RTOL, atol=ATOL, err_msg=f"{where}: gradient of input {k}"
            )
    if not compared:
        raise NothingToCheckError(f"{public.name}: nothing finite to compare with PyTorch")


def is_plain_elementwise(public: Public) -> bool:
    """A scalar function of tensors alone."""
    return public.op is not None and public.op.kind == "elementwise" and not public.op.attrs


def check_dtypes(public: Public) -> None:
    """Elementwise: for every pair of dtypes that PyTorch takes, the result's dtype is PyTorch's.

    What PyTorch has no kernel for may work here; what it refuses on purpose is among ``errors``.
    """
    import torch

    peer = torch_peer(public)
    names = ("bool_", "uint8", "int32", "int64", "float32", "float64")
    arity = public.op.arity
    for first in names:
        for second in names if arity > 1 else ("float64",):
            kinds = (first, second, second)[:arity]
            arrays = [np.array([1, 1]).astype(getattr(np, k)) for k in kinds]
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    expected = peer(*[torch.from_numpy(a) for a in arrays]).numpy().dtype
            except (RuntimeError, TypeError):
                continue
            try:
                got = public.function(*[fg.tensor(a) for a in arrays]).dtype.np
            except fg.errors.FlatgradError:
                got = None
            assert got == expected, f"{public.name} of {kinds}: {got}, PyTorch gives {expected}"
