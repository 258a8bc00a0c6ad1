"""Contractions of several operands under labels: einsum, tensordot, kron, chains of matrices."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import prod as product

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.op import BadCall, Sample
from ..graph.shapes import broadcast, normal_dim
from ..tensor import ALIAS, Tensor, node_of, record
from .contraction import contract, matmul, same_dtype
from .declare import cast, composite, operands, tensor_of
from .reduction import reduce_sum

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# -- the equation ---------------------------------------------------------------------------------


def _parse_term(term: str, equation: str) -> list:
    """A term's labels; Ellipsis for "..."."""
    labels: list = []
    k = 0
    while k < len(term):
        if term.startswith("...", k):
            if Ellipsis in labels:
                raise ArgumentError(f"einsum: two ellipses in {term!r} of {equation!r}")
            labels.append(Ellipsis)
            k += 3
        elif term[k] in _LETTERS:
            labels.append(term[k])
            k += 1
        else:
            raise ArgumentError(
                f"einsum: {term[k]!r} in {equation!r} is no label; labels are the letters a-z and "
                'A-Z, and "..." stands for any other dimensions'
            )
    return labels


def _parse(equation: str):
    """(labels of each operand, labels of the output or None if it is implied)."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = [_parse_term(t, equation) for t in left.split(",")]
    return terms, (_parse_term(right, equation) if arrow else None)


def _parse_sublists(args: tuple):
    """The form ``einsum(a, [0, 1], b, [1, 2], [0, 2])``."""
    args = list(args)
    out = _sublist(args.pop()) if len(args) % 2 else None
    return args[::2], [_sublist(labels) for labels in args[1::2]], out


def _sublist(labels) -> list:
    if not isinstance(labels, (list, tuple)):
        raise ArgumentError(
            f"einsum: a list of int labels is required after each operand, got {labels!r}"
        )
    out = []
    for label in labels:
        if label is not Ellipsis and not (isinstance(label, int) and 0 <= label < 52):
            raise ArgumentError(f"einsum: labels in lists must be ints in [0, 52), got {label!r}")
        out.append(label if label is Ellipsis else _LETTERS[label])
    return out


def _checked_output(out, terms) -> list:
    if out is None:
        # Implied: the ellipsis, then the labels that occur once, in alphabetical order.
        counts = Counter(label for term in terms for label in term if label is not Ellipsis)
        once = sorted(label for label, n in counts.items() if n == 1)
        return ([Ellipsis] if any(Ellipsis in t for t in terms) else []) + once
    for label, n in Counter(out).items():
        if n > 1:
            raise ArgumentError(f"einsum: output label {_shown(label)} appears {n} times")
        if label is not Ellipsis and not any(label in t for t in terms):
            raise ArgumentError(f"einsum: output label {_shown(label)} is in no operand")
    return out


def _shown(label) -> str:
    return repr(label) if isinstance(label, str) else "..."


# -- operands -------------------------------------------------------------------------------------


def _expanded(terms, tensors):
    """The ellipsis of each term replaced by labels ("...", 0), ("...", 1) from the right."""
    spans = []
    for k, (term, t) in enumerate(zip(terms, tensors, strict=True)):
        rest = t.ndim - len(term) + (Ellipsis in term)
        if rest < 0 or (rest > 0 and Ellipsis not in term):
            raise ShapeError(
                f"einsum: operand {k} has {t.ndim} dimensions, its term has "
                f"{len(term) - (Ellipsis in term)} labels; there must be one for each"
                + ("" if Ellipsis in term else ', or "..."')
            )
        spans.append(rest)
    full = []
    for term, rest in zip(terms, spans, strict=True):
        labels: list = []
        for label in term:
            if label is Ellipsis:
                labels += [("...", n) for n in range(rest - 1, -1, -1)]
            else:
                labels.append(label)
        full.append(labels)
    widest = max(
        (rest for term, rest in zip(terms, spans, strict=True) if Ellipsis in term), default=0
    )
    return full, [("...", n) for n in range(widest - 1, -1, -1)]


def _diagonals(t: Tensor, labels: list):
    """Repeated labels of one operand become one, of the diagonal."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            shape = node_of(t).shape
            if shape[first] != shape[second]:
                raise ShapeError(
                    f"einsum: label {_shown(label)} is repeated in one operand, for sizes "
                    f"{shape[first]} and {shape[second]}; they must be equal"
                )
            t = t.diagonal(0, first, second)
            labels = [x for k, x in enumerate(labels) if k not in (first, second)] + [label]
    return t, labels


def _sizes(tensors, terms) -> dict:
    sizes: dict = {}
    for k, (t, labels) in enumerate(zip(tensors, terms, strict=True)):
        for label, size in zip(labels, node_of(t).shape, strict=True):
            have = sizes.setdefault(label, size)
            if have == 1:
                sizes[label] = size
            elif size not in (1, have):
                raise ShapeError(
                    f"einsum: operand {k} has size {size} for label "
                    f"{_shown(label)}, an earlier operand {have}; sizes of one label must be equal "
                    "or 1"
                )
    return sizes


def _unstretched(t: Tensor, labels: list, sizes: dict):
    """Without the dimensions of size 1 that other operands stretch."""
    from .movement import reshape

    shape = node_of(t).shape
    keep = [s == sizes[label] for s, label in zip(shape, labels, strict=True)]
    if all(keep):
        return t, labels
    t = reshape(t, tuple(s for s, k in zip(shape, keep, strict=True) if k))
    return t, [label for label, k in zip(labels, keep, strict=True) if k]


def _summed(t: Tensor, labels: list, needed):
    """`t` summed over the labels that nothing else needs."""
    dims = tuple(k for k, label in enumerate(labels) if label not in needed)
    return reduce_sum(t, dims), [label for label in labels if label in needed]


def _pair(a, b, needed, out=None):
    """Two (tensor, labels) contracted into one; labels not `needed` outside are summed."""
    (ta, la), (tb, lb) = a, b
    ta, la = _summed(ta, la, needed | set(lb))
    tb, lb = _summed(tb, lb, needed | set(la))
    if out is None:
        out = [x for x in la if x in needed] + [x for x in lb if x in needed and x not in la]
    number = {label: k for k, label in enumerate(dict.fromkeys(la + lb))}
    specs = [tuple(number[x] for x in labels) for labels in (la, lb, out)]
    return contract(ta, tb, *specs), out


def _cheapest(items, sizes) -> tuple[int, int]:
    """The pair whose product needs the fewest multiplications; the first of equals."""
    best = None
    for i in range(len(items)):
        for j in range(i + 1, len(items)):
            cost = product(sizes[x] for x in set(items[i][1]) | set(items[j][1]))
            if best is None or cost < best[0]:
                best = (cost, i, j)
    return best[1:]


def _contract_all(items: list, out: list, sizes: dict) -> Tensor:
    from .movement import permute

    while len(items) > 2:
        i, j = _cheapest(items, sizes)
        b, a = items.pop(j), items.pop(i)
        needed = set(out).union(*[labels for _, labels in items])
        items.insert(i, _pair(a, b, needed))
    if len(items) == 2:
        return _pair(*items, set(out), out)[0]
    t, labels = _summed(*items[0], set(out))
    return permute(t, tuple(labels.index(x) for x in out))


# -- einsum ---------------------------------------------------------------------------------------


def _einsum_samples(rng):
    for equation, *shapes in [
        ("ij,jk->ik", (2, 3), (3, 2)), ("ij,jk", (2, 3), (3, 2)), ("ii", (3, 3)), ("ii->i", (3, 3)),
        ("ij->", (2, 3)), ("ij->ji", (2, 3)), ("i,j->ij", (2,), (3,)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        ("...ij,...j->...i", (2, 1, 2, 3), (4, 3)), ("ij,jk,kl->il", (2, 3), (3, 2), (2, 3)),
        ("a,a,a->a", (3,), (3,), (3,)), ("ij,kj->k", (2, 3), (2, 3)),
        ("iij,jk->ik", (2, 2, 3), (3, 2)),
        ("...,...->...", (2, 3), (3,)), ("ij,j", (2, 1), (3,)), (",i->i", (), (3,)),
        ("bn,anm,bm->ba", (2, 3), (4, 3, 2), (2, 2)),
    ]:  # fmt: skip
        yield Sample((equation, *[rng.normal(size=s) for s in shapes]))
    yield Sample((rng.normal(size=(2, 3)), [0, 1], rng.normal(size=(3, 2)), [1, 2], [0, 2]))
    yield Sample((rng.normal(size=(2, 3)), [..., 1], [..., 1]))


def _einsum_errors():
    a = np.ones((2, 3))
    yield BadCall(("ij,jk", a, a), ShapeError, "size 2 for label 'j'|label")
    yield BadCall(("ijk", a), ShapeError, "labels")
    yield BadCall(("ij->k", a), ArgumentError, "no operand")
    yield BadCall(("ij->ii", a), ArgumentError, "2 times")
    yield BadCall(("i1", a), ArgumentError, "no label")
    yield BadCall(("ij", a, a), ArgumentError, "operands")
    yield BadCall(("ii", a), ShapeError, "repeated")


@composite(methods=(), numpy=(np.einsum,), samples=_einsum_samples, errors=_einsum_errors)
def einsum(*args) -> Tensor:
    """Sums of products under labels: ``einsum("ij,jk->ik", a, b)``.

    Parameters
    ----------
    equation : str
        A term of labels (letters, and at most one ``...``) for each operand, and after ``->`` the
        output's. A label repeated in a term takes the diagonal; labels that the output lacks are
        summed. Without ``->`` the output has the labels that occur once, in alphabetical order.
    *operands : Tensor, of one dtype
        Or in turn operands and lists of int labels, and last the output's list.

    Raises
    ------
    ArgumentError, ShapeError
        If the equation cannot be read, or does not fit the operands.

    Notes
    -----
    Several operands are contracted in pairs, the cheapest pair first.

    Examples
    --------
    >>> import flatgrad as fg
    >>> a = fg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> fg.einsum("ij,kj->ik", a, a).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    if not args:
        raise ArgumentError('einsum: an equation and operands are required, as einsum("ij->i", x)')
    if isinstance(args[0], str):
        values = args[1:]
        if len(values) == 1 and isinstance(values[0], (tuple, list)):
            values = tuple(values[0])
        terms, out = _parse(args[0])
    else:
        values, terms, out = _parse_sublists(args)
    if len(values) != len(terms):
        raise ArgumentError(
            f"einsum: {len(terms)} operands are required by the equation, got {len(values)}"
        )
    tensors = same_dtype("einsum", *values)
    out = _checked_output(out, terms)
    terms, ellipsis = _expanded(terms, tensors)
    if Ellipsis in out:
        where = out.index(Ellipsis)
        out = out[:where] + ellipsis + out[where + 1 :]
    pairs = [_diagonals(t, labels) for t, labels in zip(tensors, terms, strict=True)]
    sizes = _sizes([t for t, _ in pairs], [labels for _, labels in pairs])
    if len(pairs) > 1:
        pairs = [_unstretched(t, labels, sizes) for t, labels in pairs]
    result = _contract_all(pairs, out, sizes)
    return record(ALIAS, (result,)) if len(tensors) == 1 else result  # never a view


# -- tensordot ------------------------------------------------------------------------------------


def _tensordot_samples(rng):
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 4, 2))
    yield Sample((a, b))
    yield Sample((a, rng.normal(size=(4, 2)), 1))
    yield Sample((a, b), {"dims": ([1, 2], [0, 1])})
    yield Sample((a, b, ([0], [2])))
    yield Sample((rng.normal(size=2), rng.normal(size=3), 0))


def _tensordot_errors():
    a, b = np.ones((2, 3)), np.ones((4, 2))
    yield BadCall((a, b, 1), ShapeError, "3 != 4")
    yield BadCall((a, b, 3), ArgumentError, "dims")
    yield BadCall((a, b, ([0], [0, 1])), ArgumentError, "as many")
    yield BadCall((a, b, ([5], [0])), IndexError, "out of range")


@composite(methods=(), numpy=(np.tensordot,), samples=_tensordot_samples, errors=_tensordot_errors)
def tensordot(a: Tensor, b: Tensor, dims=2) -> Tensor:
    """Sums of products over the last `dims` of `a` and the first of `b`, or over two lists."""
    ta, tb = same_dtype("tensordot", a, b)
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(ta.ndim, tb.ndim):
            raise ArgumentError(
                f"tensordot: dims must be in [0, {min(ta.ndim, tb.ndim)}] for operands of shapes "
                f"{tuple(ta.shape)} and {tuple(tb.shape)}, got {dims}"
            )
        dims = (range(ta.ndim - dims, ta.ndim), range(dims))
    lists = [[d] if isinstance(d, int) else list(d) for d in dims]
    if len(lists) != 2 or len(lists[0]) != len(lists[1]):
        raise ArgumentError(f"tensordot: two lists of as many dims are required, got {dims!r}")
    dims_a = [normal_dim("tensordot", d, ta.ndim) for d in lists[0]]
    dims_b = [normal_dim("tensordot", d, tb.ndim) for d in lists[1]]
    if len(set(dims_a)) < len(dims_a) or len(set(dims_b)) < len(dims_b):
        raise ArgumentError(f"tensordot: a dim appears twice in {dims!r}")
    from .views import unsqueeze

    for i, j in zip(dims_a, dims_b, strict=True):
        # As in PyTorch a contracted dimension of size 1 goes with any size: the other is summed.
        if ta.shape[i] == 1 != tb.shape[j]:
            tb = unsqueeze(reduce_sum(tb, (j,)), j)
        elif tb.shape[j] == 1 != ta.shape[i]:
            ta = unsqueeze(reduce_sum(ta, (i,)), i)
    spec_b = [ta.ndim + k for k in range(tb.ndim)]
    for i, j in zip(dims_a, dims_b, strict=True):
        if ta.shape[i] != tb.shape[j]:
            raise ShapeError(
                f"tensordot: sizes differ: a.shape[{i}] and b.shape[{j}] of {tuple(ta.shape)} and "
                f"{tuple(tb.shape)} ({ta.shape[i]} != {tb.shape[j]})"
            )
        spec_b[j] = i
    spec_a = tuple(range(ta.ndim))
    out = [k for k in spec_a if k not in dims_a] + [k for k in spec_b if k >= ta.ndim]
    return contract(ta, tb, spec_a, tuple(spec_b), tuple(out))


# -- products of all with all ---------------------------------------------------------------------


def _kron_samples(rng):
    for sa, sb in [
        ((2, 3), (3, 2)),
        ((2,), (3,)),
        ((2, 2), (3,)),
        ((), (2, 2)),
        ((2, 1, 2), (3, 1)),
    ]:
        yield Sample((rng.normal(size=sa), rng.normal(size=sb)))


@composite(methods=("kron",), numpy=(np.kron,), samples=_kron_samples)
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: blocks of `other`, each scaled by an element of `input`."""
    from .movement import reshape

    a, b = tensor_of("kron", input, 0), tensor_of("kron", other, 1)
    dtype = operands("kron", (a, b))[1]
    rank = max(a.ndim, b.ndim)
    shape_a = (1,) * (rank - a.ndim) + tuple(a.shape)
    shape_b = (1,) * (rank - b.ndim) + tuple(b.shape)
    a, b = reshape(cast(a, dtype), shape_a), reshape(cast(b, dtype), shape_b)
    spec_a, spec_b = tuple(range(0, 2 * rank, 2)), tuple(range(1, 2 * rank, 2))
    whole = contract(a, b, spec_a, spec_b, tuple(range(2 * rank)))
    return reshape(whole, tuple(m * n for m, n in zip(shape_a, shape_b, strict=True)))


def _chain_order(sizes: list[int]) -> dict:
    """Where to split each sub-chain of matrices for the fewest multiplications (Cormen, 15.2)."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split = {}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length - 1
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(options)
    return split


def _chain_samples(rng):
    yield Sample(([rng.normal(size=s) for s in ((2, 3), (3, 4), (4, 2))],))
    yield Sample(([rng.normal(size=s) for s in ((3,), (3, 4), (4, 2), (2,))],))
    yield Sample(([rng.normal(size=s) for s in ((2, 3), (3, 2))],))


def _chain_errors():
    yield BadCall(([np.ones((2, 3))],), ArgumentError, "at least 2")
    yield BadCall(([np.ones((2, 3)), np.ones((2, 3))],), ShapeError, "inner sizes")
    yield BadCall(([np.ones((2, 3)), np.ones((3, 2, 2)), np.ones(2)],), ShapeError, "dimensions")


@composite("linalg.multi_dot", methods=(), samples=_chain_samples, errors=_chain_errors)
def multi_dot(tensors) -> Tensor:
    """The product of a chain of matrices in the cheapest order; vectors may stand at the ends."""
    ts = same_dtype("linalg.multi_dot", *tensors)
    if len(ts) < 2:
        raise ArgumentError(f"linalg.multi_dot: at least 2 tensors are required, got {len(ts)}")
    for k, t in enumerate(ts):
        ends = k in (0, len(ts) - 1)
        if t.ndim != 2 and not (ends and t.ndim == 1):
            raise ShapeError(
                f"linalg.multi_dot: tensor {k} must have {'1 or ' * ends}2 dimensions, got shape "
                f"{tuple(t.shape)}"
            )
    first = ts[0].reshape(1, -1) if ts[0].ndim == 1 else ts[0]
    last = ts[-1].reshape(-1, 1) if ts[-1].ndim == 1 else ts[-1]
    chain = [first, *ts[1:-1], last]
    for a, b in pairwise(chain):
        if a.shape[1] != b.shape[0]:
            raise ShapeError(
                f"linalg.multi_dot: inner sizes differ: {tuple(a.shape)} @ {tuple(b.shape)} "
                f"({a.shape[1]} != {b.shape[0]})"
            )
    split = _chain_order([chain[0].shape[0], *[t.shape[1] for t in chain]])

    def times(i, j):
        if i == j:
            return chain[i]
        return matmul(times(i, split[i, j]), times(split[i, j] + 1, j))

    shape = tuple(first.shape[:1]) * (ts[0].ndim > 1) + tuple(last.shape[1:]) * (ts[-1].ndim > 1)
    return times(0, len(chain) - 1).reshape(shape)


def _chain_matmul_samples(rng):
    for sample in _chain_samples(rng):
        if sample.args[0][0].ndim == 2:
            yield Sample(tuple(sample.args[0]))


@composite(methods=(), samples=_chain_matmul_samples)
def chain_matmul(*matrices) -> Tensor:
    """The product of matrices in the cheapest order, see ``linalg.multi_dot``."""
    for k, matrix in enumerate(matrices):
        shape = tuple(tensor_of("chain_matmul", matrix, k).shape)
        if len(shape) != 2:
            raise ShapeError(
                f"chain_matmul: tensor {k} must have 2 dimensions, got shape {shape}; "
                "linalg.multi_dot takes vectors at the ends"
            )
    return multi_dot(matrices)


# -- distances ------------------------------------------------------------------------------------


def _cdist_samples(rng):
    for p in (1.0, 2.0, 3.0, float("inf")):
        yield Sample((rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), p))
    yield Sample((rng.normal(size=(2, 3, 2)), rng.normal(size=(4, 2))))


def _cdist_errors():
    yield BadCall((np.ones((2, 3)), np.ones((2, 4))), ShapeError, "3 != 4")
    yield BadCall((np.ones(2), np.ones((2, 2))), ShapeError, "2 dimensions")


@composite(methods=(), samples=_cdist_samples, errors=_cdist_errors)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode=None) -> Tensor:
    """The `p`-norm distance of each row of `x1` to each row of `x2`, (*B, n, d) and (*B, m, d).

    Always from the differences, which is accurate; `compute_mode` is accepted and ignored.
    """
    from .statistics import vector_norm

    a, b = same_dtype("cdist", x1, x2)
    for t in (a, b):
        if t.ndim < 2:
            raise ShapeError(f"cdist: at least 2 dimensions are required, got {tuple(t.shape)}")
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"cdist: the points' sizes differ: {tuple(a.shape)} and {tuple(b.shape)} "
            f"({a.shape[-1]} != {b.shape[-1]})"
        )
    broadcast("cdist", tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    a = a.reshape(*a.shape[:-1], 1, a.shape[-1])
    b = b.reshape(*b.shape[:-2], 1, *b.shape[-2:])
    return vector_norm("cdist", a - b, p, -1, False)
