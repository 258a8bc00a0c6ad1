"""Contractions: sums of products over labelled dimensions. One primitive, many faces.

``contract`` labels the dimensions of its operands with small ints, like ``einsum``: a label of
both operands and the output is a batch dimension, a label of both that the output lacks is
summed, a label of one operand is free. Its derivatives are contractions again, with the
specs exchanged.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod as product

import numpy as np

from ..errors import DTypeError, ShapeError
from ..graph.dtypes import FLOAT
from ..graph.node import Node
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast
from ..tensor import Tensor, make, node_of
from .declare import cast, composite, operands, primitive, tensor_of

# -- the primitive --------------------------------------------------------------------------------


def _infer(a, b, spec_a, spec_b, spec_out):
    sizes = dict(zip(spec_a, a.shape, strict=True))
    for label, size in zip(spec_b, b.shape, strict=True):
        if sizes.setdefault(label, size) != size:
            raise ShapeError(
                f"contract: dimension {label} has size {sizes[label]} in the first operand "
                f"{a.shape} and {size} in the second {b.shape}; they must be equal"
            )
    return tuple(sizes[label] for label in spec_out), a.dtype


def _split(spec, summed, free):
    """The free labels that stay batch dimensions, so that no operand is copied, and the others."""
    inner = [k for k, label in enumerate(spec) if label in summed]
    if not inner or not free:
        return [], free
    before = [f for f in free if spec.index(f) < inner[0]]
    after = [f for f in free if spec.index(f) > inner[-1]]
    return (before, after) if before and after else ([], free)


@lru_cache(maxsize=4096)
def matmul_plan(spec_a, spec_b, spec_out):
    """How a contraction maps to ``np.matmul``: order and groups of the labels on either side.

    Returns
    -------
    (batch, lead_a, free_a, lead_b, free_b, summed) : tuples of labels
        Operand a is brought to (batch, lead_a, 1.., free_a, summed), operand b to
        (batch, 1.., lead_b, summed, free_b); the product is
        (batch, lead_a, lead_b, free_a, free_b).
    """
    in_a, in_b, in_out = set(spec_a), set(spec_b), set(spec_out)
    batch = [k for k in spec_out if k in in_a and k in in_b]
    summed = [k for k in spec_a if k in in_b and k not in in_out]
    lead_a, free_a = _split(spec_a, summed, [k for k in spec_a if k not in in_b])
    lead_b, free_b = _split(spec_b, summed, [k for k in spec_b if k not in in_a])
    return tuple(map(tuple, (batch, lead_a, free_a, lead_b, free_b, summed)))


@lru_cache(maxsize=4096)
def _steps(spec_a, spec_b, spec_out):
    """The plan as transposes, or the name of a shortcut."""
    plan = matmul_plan(spec_a, spec_b, spec_out)
    batch, lead_a, free_a, lead_b, free_b, summed = plan
    if not summed:
        return "outer", None
    if not (batch or lead_a or lead_b) and len(summed) == 1 and len(spec_a) <= 2 >= len(spec_b):
        swap_a = len(spec_a) == 2 and spec_a[0] == summed[0]
        swap_b = len(spec_b) == 2 and spec_b[1] == summed[0]
        return "flat", (swap_a, swap_b, spec_out != free_a + free_b)
    order_a = tuple(spec_a.index(k) for k in batch + lead_a + free_a + summed)
    order_b = tuple(spec_b.index(k) for k in batch + lead_b + summed + free_b)
    made = batch + lead_a + lead_b + free_a + free_b
    order_out = tuple(made.index(k) for k in spec_out)
    return "general", (order_a, order_b, order_out, tuple(map(len, plan)))


def _outer(a, b, spec_a, spec_b, spec_out):
    """No label is summed: a broadcast product."""

    def aligned(x, spec):
        order = tuple(spec.index(k) for k in spec_out if k in spec)
        shape = iter(x.transpose(order).shape)
        return x.transpose(order).reshape([next(shape) if k in spec else 1 for k in spec_out])

    return aligned(a, spec_a) * aligned(b, spec_b)


def _contract_numpy(a, b, spec_a, spec_b, spec_out):
    how, plan = _steps(spec_a, spec_b, spec_out)
    if how == "flat":
        swap_a, swap_b, swap_out = plan
        out = np.matmul(a.T if swap_a else a, b.T if swap_b else b)
        return out.T if swap_out else out
    if how == "outer":
        return _outer(a, b, spec_a, spec_b, spec_out)
    order_a, order_b, order_out, (n_batch, n_lead_a, n_free_a, n_lead_b, _, n_summed) = plan
    a, b = a.transpose(order_a), b.transpose(order_b)
    shape_a, shape_b = a.shape, b.shape
    batch, lead_a = shape_a[:n_batch], shape_a[n_batch : n_batch + n_lead_a]
    free_a = shape_a[n_batch + n_lead_a : n_batch + n_lead_a + n_free_a]
    lead_b = shape_b[n_batch : n_batch + n_lead_b]
    free_b = shape_b[n_batch + n_lead_b + n_summed :]
    inner = product(shape_a[len(shape_a) - n_summed :])
    a = a.reshape((*batch, *lead_a, *(1,) * n_lead_b, product(free_a), inner))
    b = b.reshape((*batch, *(1,) * n_lead_a, *lead_b, inner, product(free_b)))
    out = np.matmul(a, b).reshape(batch + lead_a + lead_b + free_a + free_b)
    return out.transpose(order_out)


def _contract_pullback(g, out, a, b, spec_a, spec_b, spec_out):
    # C = A.B is linear in either operand; the transpose of a contraction is the contraction of
    # the cotangent with the other operand (Giles 2008, section 2.2.2, for the matrix product).
    return (
        contract(g, b, spec_out, spec_b, spec_a) if a._node.requires_grad else None,
        contract(a, g, spec_a, spec_out, spec_b) if b._node.requires_grad else None,
    )


def _contract_pushforward(ts, out, a, b, *specs):
    left = None if ts[0] is None else contract(ts[0], b, *specs)
    right = None if ts[1] is None else contract(a, ts[1], *specs)
    if left is None or right is None:
        return right if left is None else left
    return left + right


CONTRACT = primitive(
    "contract",
    "contraction",
    2,
    ("spec_a", "spec_b", "spec_out"),
    infer=_infer,
    numpy=_contract_numpy,
    pullback=_contract_pullback,
    pushforward=_contract_pushforward,
    doc="The sum of products of two operands over the labels that the output lacks.",
)


def contract(a: Tensor, b: Tensor, spec_a: tuple, spec_b: tuple, spec_out: tuple) -> Tensor:
    """Contract two tensors of one dtype. Every label of one operand alone must be in the output."""
    nodes = (node_of(a), node_of(b))
    specs = (spec_a, spec_b, spec_out)
    return make(CONTRACT, nodes, specs, *_infer(*nodes, *specs))


# -- operands -------------------------------------------------------------------------------------


def same_dtype(name: str, *values) -> list[Tensor]:
    """`values` as tensors of one dtype; contractions don't promote, as in PyTorch.

    Raises
    ------
    DTypeError
        If the dtypes differ.
    """
    ts = [tensor_of(name, v, k) for k, v in enumerate(values)]
    first = ts[0]._node.dtype
    for t in ts[1:]:
        if t._node.dtype is not first:
            given = " and ".join(repr(x.dtype) for x in ts)
            raise DTypeError(
                f"{name}: the operands must have one dtype, got {given}; convert one with .to()"
            )
    return ts


def _need_rank(name: str, t: Tensor, rank: int, which: str) -> None:
    if t.ndim != rank:
        raise ShapeError(
            f"{name}: {which} must have {rank} dimension{'s' * (rank != 1)}, got shape "
            f"{tuple(t.shape)}; use matmul for other shapes"
        )


def _need_inner(name: str, a: Node, b: Node, dim_a: int, dim_b: int) -> None:
    if a.shape[dim_a] != b.shape[dim_b]:
        raise ShapeError(
            f"{name}: inner sizes differ: {a.shape} @ {b.shape}, need x.shape[{dim_a}] == "
            f"y.shape[{dim_b}] ({a.shape[dim_a]} != {b.shape[dim_b]}); transpose or reshape one"
        )


# -- matrix products ------------------------------------------------------------------------------


def _matmul_samples(rng):
    for sa, sb in [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((3,), (2, 3, 4)),
        ((2, 2, 3), (3,)), ((1, 2, 3), (1, 3, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
    ]:  # fmt: skip
        yield Sample((rng.normal(size=sa), rng.normal(size=sb)))


def _matmul_errors():
    yield BadCall((np.ones((3, 4)), np.ones((5, 2))), ShapeError, "inner sizes differ")
    yield BadCall((np.ones(()), np.ones(2)), ShapeError, "at least 1 dimension")
    yield BadCall((np.ones((2, 3, 4)), np.ones((5, 4, 2))), ShapeError, "broadcast")
    yield BadCall((np.ones(2), np.ones(2, np.float32)), DTypeError, "one dtype")


def _dropped(t: Tensor, keep: list[bool]) -> Tensor:
    """`t` without the (size 1) dimensions for which `keep` is false."""
    if all(keep):
        return t
    from .movement import reshape

    return reshape(t, tuple(s for s, k in zip(t._node.shape, keep, strict=True) if k))


@composite(numpy=(np.matmul,), samples=_matmul_samples, errors=_matmul_errors)
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product ``input @ other``; the dimensions before the last two are broadcast.

    Parameters
    ----------
    input : Tensor, shape (*B, n, k) or (k,)
    other : Tensor, shape (*B, k, m) or (k,), of the same dtype

    Returns
    -------
    Tensor, shape (*B, n, m)
        Without n or m if that operand is a vector.

    Raises
    ------
    ShapeError
        If an operand is 0-d, the inner sizes differ or the batch dimensions do not broadcast.
    DTypeError
        If the dtypes differ.

    Examples
    --------
    >>> import flatgrad as fg
    >>> (fg.tensor([[1.0, 2.0], [3.0, 4.0]]) @ fg.tensor([1.0, 1.0])).tolist()
    [3.0, 7.0]
    """
    a, b = same_dtype("matmul", input, other)
    na, nb = node_of(a), node_of(b)
    rank_a, rank_b = len(na.shape), len(nb.shape)
    if not rank_a or not rank_b:
        raise ShapeError(
            f"matmul: operands of at least 1 dimension are required, got shapes {na.shape} and "
            f"{nb.shape}; use * to scale by a number"
        )
    _need_inner("matmul", na, nb, -1, -2 if rank_b > 1 else -1)
    if rank_a <= 2 and rank_b <= 2:
        spec_a = (0, 1) if rank_a == 2 else (1,)
        spec_b = (1, 2) if rank_b == 2 else (1,)
        return contract(a, b, spec_a, spec_b, spec_a[:-1] + spec_b[1:])
    return _batched(a, b, na.shape, nb.shape)


def _batched(a: Tensor, b: Tensor, shape_a: tuple, shape_b: tuple) -> Tensor:
    # A batch dimension that one operand stretches is a free dimension of the other: drop it there.
    batch = broadcast("matmul", shape_a[:-2], shape_b[:-2])
    rank = len(batch)
    tail_a = (rank, rank + 1) if len(shape_a) > 1 else (rank + 1,)
    tail_b = (rank + 1, rank + 2) if len(shape_b) > 1 else (rank + 1,)

    def label(t, shape, other, tail):
        lead, others = max(len(shape) - 2, 0), max(len(other) - 2, 0)
        keep, spec = [], []
        for k in range(rank - lead, rank):
            size = shape[k - rank + lead]
            there = other[k - rank + others] if k >= rank - others else None
            stays = size != 1 or there is None or there == 1
            keep.append(stays)
            if stays:
                spec.append(k)
        return _dropped(t, keep + [True] * len(tail)), (*spec, *tail)

    a, spec_a = label(a, shape_a, shape_b, tail_a)
    b, spec_b = label(b, shape_b, shape_a, tail_b)
    return contract(a, b, spec_a, spec_b, (*range(rank), *tail_a[:-1], *tail_b[1:]))


def _pair_samples(*shapes):
    def samples(rng):
        for pair in shapes:
            yield Sample(tuple(rng.normal(size=s) for s in pair))

    return samples


@composite(samples=_pair_samples(((2, 3), (3, 4)), ((1, 1), (1, 1)), ((2, 0), (0, 3))))
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, (n, k) and (k, m); no broadcasting."""
    a, b = same_dtype("mm", input, mat2)
    _need_rank("mm", a, 2, "input")
    _need_rank("mm", b, 2, "mat2")
    _need_inner("mm", node_of(a), node_of(b), 1, 0)
    return contract(a, b, (0, 1), (1, 2), (0, 2))


@composite(
    samples=_pair_samples(((5, 2, 3), (5, 3, 4)), ((1, 2, 2), (1, 2, 1)), ((0, 2, 2), (0, 2, 2)))
)
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two stacks of matrices, (b, n, k) and (b, k, m); no broadcasting."""
    a, b = same_dtype("bmm", input, mat2)
    _need_rank("bmm", a, 3, "input")
    _need_rank("bmm", b, 3, "mat2")
    na, nb = node_of(a), node_of(b)
    if na.shape[0] != nb.shape[0]:
        raise ShapeError(
            f"bmm: batch sizes differ: {na.shape} and {nb.shape} ({na.shape[0]} != {nb.shape[0]}); "
            "use matmul to broadcast"
        )
    _need_inner("bmm", na, nb, 2, 1)
    return contract(a, b, (0, 1, 2), (0, 2, 3), (0, 1, 3))


@composite(samples=_pair_samples(((2, 3), (3,)), ((0, 3), (3,)), ((2, 0), (0,))))
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix (n, k) and a vector (k,)."""
    a, b = same_dtype("mv", input, vec)
    _need_rank("mv", a, 2, "input")
    _need_rank("mv", b, 1, "vec")
    _need_inner("mv", node_of(a), node_of(b), 1, 0)
    return contract(a, b, (0, 1), (1,), (0,))


def _dot(name, input, tensor):
    a, b = same_dtype(name, input, tensor)
    _need_rank(name, a, 1, "the first tensor")
    _need_rank(name, b, 1, "the second tensor")
    _need_inner(name, node_of(a), node_of(b), 0, 0)
    return contract(a, b, (0,), (0,), ())


@composite(samples=_pair_samples(((3,), (3,)), ((0,), (0,))))
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The inner product of two vectors of one size."""
    return _dot("dot", input, tensor)


@composite(samples=_pair_samples(((3,), (3,)), ((0,), (0,))))
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors, the first conjugated (which real numbers ignore)."""
    return _dot("vdot", input, other)


@composite(
    numpy=(np.inner,),
    samples=_pair_samples(((3,), (3,)), ((2, 3), (4, 3)), ((), (2, 3)), ((5, 2, 3), (3,))),
)
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimension of both; the shapes' rests follow each other."""
    a, b = same_dtype("inner", input, other)
    if not a.ndim or not b.ndim:
        return a * b
    _need_inner("inner", node_of(a), node_of(b), -1, -1)
    spec_a = tuple(range(a.ndim))
    spec_b = (*range(a.ndim, a.ndim + b.ndim - 1), a.ndim - 1)
    return contract(a, b, spec_a, spec_b, spec_a[:-1] + spec_b[:-1])


def _outer_face(name, input, vec2):
    a, b = tensor_of(name, input, 0), tensor_of(name, vec2, 1)
    _need_rank(name, a, 1, "input")
    _need_rank(name, b, 1, "vec2")
    dtype = operands(name, (a, b))[1]
    return contract(cast(a, dtype), cast(b, dtype), (0,), (1,), (0, 1))


@composite(numpy=(np.outer,), samples=_pair_samples(((3,), (2,)), ((0,), (2,))))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The matrix of products of two vectors' elements; dtypes are promoted."""
    return _outer_face("outer", input, vec2)


@composite(samples=_pair_samples(((3,), (2,))))
def ger(input: Tensor, vec2: Tensor) -> Tensor:
    """Another name of :func:`flatgrad.outer`."""
    return _outer_face("ger", input, vec2)


# -- a multiple of a product, added ---------------------------------------------------------------


def _scaled(t: Tensor, factor) -> Tensor:
    return t if isinstance(factor, (int, float)) and factor == 1 else t * factor


def _added(name, input, shape, beta, alpha, product_of) -> Tensor:
    """``beta * input + alpha * product_of()``; beta = 0 ignores NaN in `input`, as in BLAS."""
    t = tensor_of(name, input)
    if broadcast(name, t._node.shape, shape) != tuple(shape):
        raise ShapeError(
            f"{name}: input of shape {tuple(t.shape)} does not broadcast to the product's "
            f"{tuple(shape)}"
        )
    made = product_of()
    if t._node.dtype is not made._node.dtype:
        raise DTypeError(
            f"{name}: input has dtype {t.dtype!r}, the product {made.dtype!r}; "
            "convert one with .to()"
        )
    if made._node.dtype.category < FLOAT:
        for what, number in (("beta", beta), ("alpha", alpha)):
            if isinstance(number, float):
                raise DTypeError(
                    f"{name}: {what} must be an int for {made.dtype!r} operands, got {number}"
                )
    made = _scaled(made, alpha)
    if isinstance(beta, (int, float)) and beta == 0:
        return made
    return _scaled(t, beta) + made


def _triple_samples(*shapes):
    def samples(rng):
        for triple in shapes:
            for kwargs in ({}, {"beta": 0.5, "alpha": -2.0}):
                yield Sample(tuple(rng.normal(size=s) for s in triple), kwargs)

    return samples


@composite(
    samples=_triple_samples(((2, 4), (2, 3), (3, 4)), ((4,), (2, 3), (3, 4)), ((), (2, 3), (3, 4))),
    inplace=True,
)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``; `input` broadcasts to the product's shape."""
    a, b = same_dtype("addmm", mat1, mat2)
    _need_rank("addmm", a, 2, "mat1")
    _need_rank("addmm", b, 2, "mat2")
    return _added("addmm", input, (a.shape[0], b.shape[1]), beta, alpha, lambda: mm(a, b))


@composite(samples=_triple_samples(((2,), (2, 3), (3,)), ((1,), (2, 3), (3,))), inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta=1, alpha=1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``."""
    a, b = same_dtype("addmv", mat, vec)
    _need_rank("addmv", a, 2, "mat")
    _need_rank("addmv", b, 1, "vec")
    return _added("addmv", input, a.shape[:1], beta, alpha, lambda: mv(a, b))


@composite(samples=_triple_samples(((2, 3), (2,), (3,)), ((3,), (2,), (3,))), inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    a, b = same_dtype("addr", vec1, vec2)
    _need_rank("addr", a, 1, "vec1")
    _need_rank("addr", b, 1, "vec2")
    return _added("addr", input, (*a.shape, *b.shape), beta, alpha, lambda: outer(a, b))


@composite(samples=_triple_samples(((2, 4), (5, 2, 3), (5, 3, 4))), inplace=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """``beta * input + alpha * sum_i(batch1[i] @ batch2[i])``."""
    a, b = _batches("addbmm", batch1, batch2)

    def summed():
        return contract(a, b, (0, 1, 2), (0, 2, 3), (1, 3))

    return _added("addbmm", input, (a.shape[1], b.shape[2]), beta, alpha, summed)


@composite(
    samples=_triple_samples(((5, 2, 4), (5, 2, 3), (5, 3, 4)), ((4,), (5, 2, 3), (5, 3, 4))),
    inplace=True,
)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta=1, alpha=1) -> Tensor:
    """``beta * input + alpha * bmm(batch1, batch2)``."""
    a, b = _batches("baddbmm", batch1, batch2)
    shape = (a.shape[0], a.shape[1], b.shape[2])
    return _added("baddbmm", input, shape, beta, alpha, lambda: bmm(a, b))


def _batches(name: str, batch1, batch2) -> list[Tensor]:
    a, b = same_dtype(name, batch1, batch2)
    _need_rank(name, a, 3, "batch1")
    _need_rank(name, b, 3, "batch2")
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"{name}: batch sizes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    _need_inner(name, node_of(a), node_of(b), 2, 1)
    return [a, b]


# -- Tensor's operators ---------------------------------------------------------------------------


def _operator(self, other):
    if not isinstance(other, (Tensor, np.ndarray)):
        return NotImplemented
    return matmul(self, other)


def _reflected(self, other):
    return NotImplemented if not isinstance(other, np.ndarray) else matmul(other, self)


def _inplace(self, other):
    from ..writing import assign
    from .movement import fit_inplace

    return assign(
        "__imatmul__", self, fit_inplace("__imatmul__", self, matmul(self, other), exact=True)
    )


Tensor.__matmul__ = _operator
Tensor.__rmatmul__ = _reflected
Tensor.__imatmul__ = _inplace
