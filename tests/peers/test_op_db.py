"""PyTorch's own operator database: every published peer, its samples and its error situations.

Values, dtypes, shapes and gradients are compared call by call. What differs on purpose is a line of
``KNOWN`` with its reason; nothing else is left out, and the number of calls made is asserted.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # what PyTorch's testing package itself imports

import flatgrad as fg  # noqa: E402
from flatgrad.graph.op import PUBLIC  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_methods_invocations import op_db

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

DTYPES = {
    torch.float64: fg.float64,
    torch.float32: fg.float32,
    torch.int64: fg.int64,
    torch.int32: fg.int32,
    torch.int16: fg.int16,
    torch.int8: fg.int8,
    torch.uint8: fg.uint8,
    torch.bool: fg.bool,
}
RESULTS = {theirs: np.dtype(str(theirs).removeprefix("torch.")) for theirs in DTYPES}
SAMPLED = (torch.float64, torch.float32, torch.int64)
THINNED = 5  # samples of one operation and dtype in the default run

# name (or name and dtype) -> (which calls, reason). `which` sees (input, args, kwargs).
KNOWN: dict[str, tuple] = {
    "gather": (
        lambda x, args, kw: args[1].dtype is torch.uint8,
        "an empty index of any dtype: ours must be int32 or int64",
    ),
    "addmv": (lambda x, args, kw: fractions(x, kw), "PyTorch rounds a fractional beta to an int"),
    "addbmm": (lambda x, args, kw: fractions(x, kw), "PyTorch rounds a fractional beta to an int"),
    "baddbmm": (lambda x, args, kw: fractions(x, kw), "PyTorch rounds a fractional beta to an int"),
    "topk": (lambda x, args, kw: tied(x), "which of equal elements comes first is unspecified"),
    "kthvalue": (lambda x, args, kw: tied(x), "which of equal elements is found is unspecified"),
    "mode": (lambda x, args, kw: tied(x), "which of equal elements is found is unspecified"),
    "nn.functional.batch_norm": (lambda x, args, kw: x.ndim < 2, "an input without channels"),
    **dict.fromkeys(
        ("nn.functional.avg_pool1d", "nn.functional.avg_pool2d", "nn.functional.avg_pool3d"),
        (lambda x, args, kw: not x.dtype.is_floating_point, "integers have no mean, as in fg.mean"),
    ),
    "nn.functional.local_response_norm": (
        lambda x, args, kw: not x.dtype.is_floating_point,
        "integers are not normalised",
    ),
}
# Numbers in place of tensors are converted, where PyTorch asks for tensors.
NUMBERS_ALLOWED = (lambda x, args, kw: number(x) or number(args[0]), "numbers are operands too")
KNOWN_ERRORS: dict[str, tuple] = dict.fromkeys(
    [
        "max",
        "min",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "bitwise_left_shift",
        "bitwise_right_shift",
        "isclose",
        "copysign",
        "heaviside",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "clamp_min",
        "clamp_max",
        "rsub",
        "remainder",
        "fmod",
        "pow",
        "float_power",
        "atan2",
        "hypot",
        "logaddexp",
        "xlogy",
        "ldexp",
    ],
    NUMBERS_ALLOWED,
)
OVERLAP = (lambda x, args, kw: "out" in kw, "out= never overlaps: results are values, then written")
KNOWN_ERRORS |= {"gather": OVERLAP, "masked_select": OVERLAP, "cat": OVERLAP}

# Operations whose arguments the database orders otherwise than the function.
REORDERED = {
    "einsum": lambda tensors, equation: (equation, *tensors),
    "where": lambda x, condition, other: (condition, x, other),
    "polygamma": lambda x, n: (n, x),
}
# What still differs: calls that fail today. A name leaves this list when it is repaired.
OPEN = frozenset(
    (
        "take_along_dim",
        "pad",
        "linalg.pinv",
        "linalg.matrix_rank",
        "linalg.norm",
        "cov",
    )
)
OPEN_ERRORS = frozenset(("narrow", "cov", "roll"))


def number(value) -> bool:
    return isinstance(value, (int, float))


def fractions(x, kwargs) -> bool:
    return not x.dtype.is_floating_point and isinstance(kwargs.get("beta"), float)


def tied(x) -> bool:
    return not x.dtype.is_floating_point


class Unrepresentable(Exception):
    """The call holds something flatgrad does not have: complex or half numbers, sparse, a device."""


def pairs() -> list[tuple[str, object]]:
    """(public name, OpInfo) for each peer in the database."""
    known: dict[str, list] = {}
    for info in op_db:
        known.setdefault(info.name, []).append(info)
    return [(p.name, info) for p in PUBLIC.values() for info in known.get(p.torch, ())]


def ours(value):
    """`value` of a torch call for flatgrad: tensors with their values, strides and requires_grad."""
    if isinstance(value, torch.Tensor):
        if value.dtype not in DTYPES or value.layout is not torch.strided:
            raise Unrepresentable(value.dtype)
        if value.ndim > 64:
            raise Unrepresentable("NumPy has 64 dimensions")
        if value.device.type != "cpu":
            raise Unrepresentable(value.device)
        if value.requires_grad or value.is_contiguous():
            return fg.tensor(value.detach().numpy().copy()).requires_grad_(value.requires_grad)
        return fg.from_numpy(value.numpy())
    if isinstance(value, torch.dtype):
        if value not in DTYPES:
            raise Unrepresentable(value)
        return DTYPES[value]
    if isinstance(value, complex):
        raise Unrepresentable(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(ours, value))
    if isinstance(value, dict):
        return {k: ours(v) for k, v in value.items()}
    return value


def tensors_in(value, kind) -> list:
    if isinstance(value, kind):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in tensors_in(v, kind)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v, kind)]
    return []


def close(got, want, dtype, what: str) -> None:
    tolerance = 2e-4 if torch.float32 in (dtype, want.dtype) else 1e-7
    want = want.detach().resolve_neg().resolve_conj()
    assert tuple(got.shape) == tuple(want.shape), (
        f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    )
    assert DTYPES.get(want.dtype) is got.dtype, f"{what}: dtype {got.dtype!r}, not {want.dtype}"
    a, b = got.detach().numpy(), want.numpy(force=True)
    scale = np.abs(b[np.isfinite(b)]).max(initial=1.0)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def compare(name: str, info, sample, dtype) -> None:
    """One call in both libraries."""
    call = (sample.input, tuple(sample.args), dict(sample.kwargs))
    args, kwargs = (ours(call[0]), *ours(call[1])), ours(call[2])
    if name in REORDERED:
        args = REORDERED[name](*args)
    theirs = info.op(call[0], *call[1], **call[2])
    mine = PUBLIC[name].function(*args, **kwargs)
    want, got = tensors_in(theirs, torch.Tensor), tensors_in(mine, fg.Tensor)
    if not want:
        assert mine == theirs, f"{mine!r}, not {theirs!r}"
        return
    assert len(got) == len(want), f"{len(got)} results, not {len(want)}"
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        close(a, b, dtype, f"result {k}")
    gradients(call, (args, kwargs), want, got, dtype)


def gradients(call, our_call, want, got, dtype) -> None:
    roots = [(a, b) for a, b in zip(got, want, strict=True) if b.requires_grad]
    for a, b in zip(got, want, strict=True):
        assert a.requires_grad == b.requires_grad, f"requires_grad is {a.requires_grad}"
    inputs = [t for t in tensors_in(call, torch.Tensor) if t.requires_grad]
    leaves = [t for t in tensors_in(our_call, fg.Tensor) if t.requires_grad]
    if not roots:
        return
    rng = np.random.default_rng(5)
    seeds = [np.asarray(rng.uniform(0.5, 1.5, tuple(b.shape))) for _, b in roots]
    theirs = torch.autograd.grad(
        [b for _, b in roots],
        inputs,
        [torch.from_numpy(s).to(b.dtype) for s, (_, b) in zip(seeds, roots, strict=True)],
        allow_unused=True,
        materialize_grads=True,
    )
    mine = fg.autograd.grad(
        [a for a, _ in roots],
        leaves,
        [fg.tensor(s).to(a.dtype) for s, (a, _) in zip(seeds, roots, strict=True)],
        allow_unused=True,
        materialize_grads=True,
    )
    for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        close(a, b, dtype, f"gradient {k}")


def described(sample) -> str:
    def short(v):
        if isinstance(v, torch.Tensor):
            return f"{str(v.dtype)[6:]}{list(v.shape)}"
        if isinstance(v, (tuple, list)):
            return f"({', '.join(map(short, v))})"
        return repr(v)

    words = [short(v) for v in (sample.input, *sample.args)]
    return ", ".join(words + [f"{k}={short(v)}" for k, v in sample.kwargs.items()])


def known(table: dict, name: str, sample) -> bool:
    which = table.get(name)
    return which is not None and bool(
        which[0](sample.input, tuple(sample.args), dict(sample.kwargs))
    )


def run(name: str, info, limit: int | None) -> tuple[int, list[str]]:
    """(calls made, what failed) over the samples of one operation."""
    made, failed = 0, []
    for dtype in SAMPLED:
        if dtype not in info.supported_dtypes("cpu"):
            continue
        grad = dtype is torch.float64 and info.supports_autograd
        torch.manual_seed(7)
        samples = list(info.sample_inputs("cpu", dtype, requires_grad=grad))
        step = 1 if limit is None else max(1, -(-len(samples) // limit))
        for sample in samples[::step]:
            if known(KNOWN, name, sample):
                continue
            try:
                compare(name, info, sample, dtype)
            except Unrepresentable:
                continue
            except Exception as error:
                words = " ".join(str(error).split())[:300]
                failed.append(f"{name}({described(sample)}): {type(error).__name__}: {words}")
            made += 1
    return made, failed


def run_errors(name: str, info) -> tuple[int, list[str]]:
    """(calls made, what failed) over the wrong calls of one operation."""
    if info.error_inputs_func is None:
        return 0, []
    made, failed = 0, []
    for bad in info.error_inputs("cpu"):
        sample = bad.sample_input
        if known(KNOWN_ERRORS, name, sample):
            continue
        try:
            args, kwargs = (
                (ours(sample.input), *ours(tuple(sample.args))),
                ours(dict(sample.kwargs)),
            )
        except Unrepresentable:
            continue
        made += 1
        what = f"{name}({described(sample)})"
        try:
            PUBLIC[name].function(*args, **kwargs)
        except Exception as error:
            if not isinstance(error, bad.error_type):
                failed.append(f"{what}: {type(error).__name__} is no {bad.error_type}: {error}")
        else:
            failed.append(f"{what}: no error; PyTorch: {str(bad.error_regex)[:100]}")
    return made, failed


def sweep(limit: int | None) -> tuple[int, int]:
    """Run everything; the calls made, with samples and with wrong arguments."""
    samples = wrong = 0
    failed = []
    for name, info in pairs():
        made, bad = run(name, info, limit)
        samples += made
        failed += [] if name in OPEN else bad
        made, bad = run_errors(name, info)
        wrong += made
        failed += [] if name in OPEN_ERRORS else bad
    assert not failed, "\n".join(failed)
    return samples, wrong


def test_thinned():
    samples, wrong = sweep(THINNED)
    assert samples >= 2000
    assert wrong >= 120


@pytest.mark.slow
def test_everything():
    samples, wrong = sweep(None)
    assert samples >= 6000
    assert wrong >= 120
