"""Random numbers: generators and the constructors that draw from them.

Values are drawn at the call (NumPy's PCG64), so that a program sees them as inputs, and the same
seed gives the same numbers on every machine and tier. ``numpy.random`` is imported at the first
draw.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, TraceError
from ..graph import dtypes
from ..graph.dtypes import DType, as_dtype
from ..graph.modes import modes
from ..graph.node import leaf
from ..graph.shapes import addressable
from ..ops.movement import dims_argument
from ..tensor import Tensor, method, user_line, wrap
from ..writing import assign
from .construct import make_leaf
from .convert import value_of
from .values import check_device

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
    "seed",
    "set_rng_state",
]

_STATE_BYTES = 8 + 16 + 16 + 1 + 4  # seed, state, increment, has_uint32, uinteger


class Generator:
    """A source of random numbers with a state of its own. Safe to use from several threads.

    Parameters
    ----------
    device : "cpu", optional

    Examples
    --------
    >>> import flatgrad as fg
    >>> g = fg.Generator().manual_seed(0)
    >>> first = fg.rand(3, generator=g)
    >>> bool((first == fg.rand(3, generator=g.manual_seed(0))).all())
    True
    """

    def __init__(self, device="cpu"):
        check_device("Generator", device)
        self._lock = threading.Lock()
        self._source = None
        self._seed = 67280421310721  # PyTorch's default seed

    @property
    def device(self) -> str:
        return "cpu"

    def source(self):
        """The ``numpy.random.Generator`` that draws (it locks itself)."""
        if self._source is None:
            with self._lock:
                if self._source is None:
                    self._source = np.random.Generator(np.random.PCG64(self._seed))
        return self._source

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`. Returns the generator.

        Raises
        ------
        ArgumentError
            If `seed` is no int of at most 64 bits.
        """
        try:
            number = seed.__index__()
        except AttributeError:
            raise ArgumentError(
                f"manual_seed: an int is required, got {type(seed).__name__} {seed!r}"
            ) from None
        if not -(2**63) <= number < 2**64:
            raise ArgumentError(f"manual_seed: the seed must fit in 64 bits, got {number}")
        with self._lock:
            self._seed = number % 2**64
            self._source = None
        return self

    def seed(self) -> int:
        """Start again from a seed of the operating system's, and return it."""
        number = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(number)
        return number

    def initial_seed(self) -> int:
        """The seed that the numbers started from."""
        return self._seed

    def get_state(self) -> Tensor:
        """The state as a uint8 tensor, for :meth:`set_state`."""
        state = self.source().bit_generator.state
        words = (
            self._seed.to_bytes(8, "little"),
            state["state"]["state"].to_bytes(16, "little"),
            state["state"]["inc"].to_bytes(16, "little"),
            state["has_uint32"].to_bytes(1, "little"),
            state["uinteger"].to_bytes(4, "little"),
        )
        return make_leaf("get_state", np.frombuffer(b"".join(words), np.uint8).copy())

    def set_state(self, new_state: Tensor) -> Generator:
        """Continue from a state of :meth:`get_state`. Returns the generator.

        Raises
        ------
        ArgumentError
            If it is no such state.
        """
        if (
            not isinstance(new_state, Tensor)
            or new_state.dtype is not dtypes.uint8
            or tuple(new_state.shape) != (_STATE_BYTES,)
        ):
            raise ArgumentError(
                f"set_state: a uint8 tensor of {_STATE_BYTES} elements from get_state() is required"
            )
        data = value_of(new_state).tobytes()
        bits = np.random.PCG64()
        bits.state = {
            "bit_generator": "PCG64",
            "state": {
                "state": int.from_bytes(data[8:24], "little"),
                "inc": int.from_bytes(data[24:40], "little"),
            },
            "has_uint32": data[40],
            "uinteger": int.from_bytes(data[41:45], "little"),
        }
        with self._lock:
            self._seed = int.from_bytes(data[:8], "little")
            self._source = np.random.Generator(bits)
        return self


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Start the default generator from `seed`. Returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator from a seed of the operating system's, and return it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Continue the default generator from `new_state`."""
    default_generator.set_state(new_state)


def source_of(generator: Generator | None):
    """NumPy's generator behind `generator`, or the default one.

    Raises
    ------
    ArgumentError
        If it is no Generator.
    TraceError
        While a function is traced for jit: its calls would all have the same numbers.
    """
    if modes.traced:
        raise TraceError(
            f"{user_line()}: random numbers cannot be drawn while a function is traced, since every call of "
            "the program would have the same; draw them outside and pass them as an argument (call "
            "module.eval() for dropout that should do nothing)"
        )
    if not modes.may_draw:
        raise ArgumentError(
            f"{user_line()}: vmap: called random operation while in randomness error mode; pass "
            "randomness='same' (all items the same numbers) or 'different' to vmap"
        )
    if generator is None:
        return default_generator.source()
    if not isinstance(generator, Generator):
        raise ArgumentError(
            f"generator must be a flatgrad.Generator, got {type(generator).__name__}; "
            "make one with flatgrad.Generator().manual_seed(seed)"
        )
    return generator.source()


# -- draws of arrays ------------------------------------------------------------------------------


def _float_dtype(name: str, dtype) -> DType:
    dtype = dtypes.get_default_dtype() if dtype is None else as_dtype(dtype)
    if not dtype.is_floating_point:
        raise DTypeError(f"{name}: a floating-point dtype is required, got {dtype!r}")
    return dtype


def _shape(name: str, size: tuple) -> tuple[int, ...]:
    shape = dims_argument(name, size)
    if any(s < 0 for s in shape):
        raise ShapeError(f"{name}: sizes must not be negative, got {shape}")
    return addressable(name, shape)


def rand(*size, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Numbers drawn uniformly from [0, 1).

    Parameters
    ----------
    *size : int, or one sequence of ints
    generator : Generator, optional
        Default: the one that :func:`manual_seed` seeds.
    dtype : DType, optional
        A floating-point dtype.
    requires_grad : bool

    Returns
    -------
    Tensor, shape (*size)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        For bad sizes, an integer dtype, or something that is no generator.

    Examples
    --------
    >>> import flatgrad as fg
    >>> g = fg.manual_seed(0)
    >>> t = fg.rand(100)
    >>> t.shape, bool((t >= 0).all()), bool((t < 1).all())
    (flatgrad.Size([100]), True, True)
    """
    check_device("rand", device)
    kind = _float_dtype("rand", dtype).np
    values = source_of(generator).random(_shape("rand", size), dtype=kind)
    return make_leaf("rand", values, requires_grad)


def randn(*size, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Numbers from the normal distribution of mean 0 and variance 1; arguments as :func:`rand`."""
    check_device("randn", device)
    kind = _float_dtype("randn", dtype).np
    values = source_of(generator).standard_normal(_shape("randn", size), dtype=kind)
    return make_leaf("randn", values, requires_grad)


def randint(*args, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Integers from [low, high): ``randint(high, size)`` or ``randint(low, high, size)``.

    Parameters
    ----------
    low, high : int
    size : sequence of ints
    dtype : DType, optional
        Default int64.

    Returns
    -------
    Tensor, shape (*size)

    Raises
    ------
    ArgumentError
        If the range is empty, or arguments are missing.
    """
    check_device("randint", device)
    if len(args) not in (2, 3):
        raise ArgumentError(
            f"randint: (high, size) or (low, high, size) is required, got {len(args)} arguments"
        )
    low, high, size = args if len(args) == 3 else (0, *args)
    low, high = dims_argument("randint", (low, high))
    if low >= high:
        raise ArgumentError(f"randint: expects low < high, got low={low} >= high={high}")
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    values = source_of(generator).integers(low, high, _shape("randint", (size,)))
    return make_leaf("randint", values.astype(kind.np), requires_grad)


def randperm(n: int, *, generator=None, dtype=None, device=None, requires_grad=False) -> Tensor:
    """The integers 0 .. n - 1 in random order (int64 unless `dtype` says otherwise).

    Raises
    ------
    ArgumentError
        If `n` is negative.
    """
    check_device("randperm", device)
    (n,) = dims_argument("randperm", (n,))
    if n < 0:
        raise ArgumentError(f"randperm: n must be non-negative, got {n}")
    kind = dtypes.int64 if dtype is None else as_dtype(dtype)
    return make_leaf("randperm", source_of(generator).permutation(n).astype(kind.np), requires_grad)


def rand_like(input: Tensor, *, generator=None, dtype=None, device=None, requires_grad=False):
    """:func:`rand` with the shape and dtype of `input`."""
    dtype = input.dtype if dtype is None else dtype
    return rand(
        *input.shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad
    )


def randn_like(input: Tensor, *, generator=None, dtype=None, device=None, requires_grad=False):
    """:func:`randn` with the shape and dtype of `input`."""
    dtype = input.dtype if dtype is None else dtype
    return randn(
        *input.shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad
    )


def randint_like(input: Tensor, *bounds, generator=None, dtype=None, device=None) -> Tensor:
    """``randint_like(input, high)`` or ``(input, low, high)``: :func:`randint` as `input`."""
    dtype = input.dtype if dtype is None else dtype
    return randint(*bounds, tuple(input.shape), generator=generator, dtype=dtype, device=device)


def _numbers_or_values(value):
    return value_of(value) if isinstance(value, Tensor) else value


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, requires_grad=False):
    """Normally distributed numbers of the given means and standard deviations.

    Parameters
    ----------
    mean, std : number or Tensor, broadcast with each other
    size : sequence of ints
        Required if both are numbers.

    Returns
    -------
    Tensor

    Raises
    ------
    ArgumentError
        If `std` is negative, or `size` is missing.
    """
    m, s = np.asarray(_numbers_or_values(mean)), np.asarray(_numbers_or_values(std))
    if np.any(s < 0):
        raise ArgumentError(f"normal: std must be >= 0, got {std}")
    if size is None and not (isinstance(mean, Tensor) or isinstance(std, Tensor)):
        raise ArgumentError("normal: size is required when mean and std are numbers")
    tensors = [t.dtype for t in (mean, std) if isinstance(t, Tensor)]
    kind = _float_dtype("normal", dtype or (tensors[0] if tensors else None)).np
    shape = np.broadcast_shapes(m.shape, s.shape) if size is None else _shape("normal", (size,))
    values = m + s * source_of(generator).standard_normal(shape)
    return make_leaf("normal", np.asarray(values, kind), requires_grad)


def _check_probabilities(name: str, p: np.ndarray) -> None:
    if p.size and not (np.all(p >= 0) and np.all(p <= 1)):
        raise ArgumentError(f"{name}: probabilities must be in [0, 1], got {p.min()} to {p.max()}")


def bernoulli(input: Tensor, p: float | None = None, *, generator=None) -> Tensor:
    """Ones with the probabilities `input` (or `p` everywhere), else zeros; in the dtype of `input`.

    Raises
    ------
    ArgumentError
        If a probability is not in [0, 1].
    """
    chance = value_of(input) if p is None else np.broadcast_to(float(p), tuple(input.shape))
    _check_probabilities("bernoulli", chance)
    values = source_of(generator).random(chance.shape) < chance
    return make_leaf("bernoulli", np.asarray(values, input.dtype.np))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator=None
) -> Tensor:
    """Indices drawn with the probabilities of each row of `input`, which need not sum to 1.

    Parameters
    ----------
    input : Tensor, shape (n,) or (rows, n), float
        Weights, not negative.
    num_samples : int
    replacement : bool
        Whether an index may be drawn again.

    Returns
    -------
    Tensor, shape (num_samples,) or (rows, num_samples), int64

    Raises
    ------
    ShapeError, ArgumentError
        For a wrong rank, bad weights, or more samples than there are positive weights.
    """
    weights = np.asarray(value_of(input), np.float64)
    if weights.ndim not in (1, 2) or weights.size == 0:
        raise ShapeError(
            f"multinomial: weights of shape (n,) or (rows, n) are required, got {weights.shape}"
        )
    (count,) = dims_argument("multinomial", (num_samples,))
    rows = np.atleast_2d(weights)
    if not np.all(np.isfinite(rows)) or np.any(rows < 0) or np.any(rows.sum(1) <= 0):
        raise ArgumentError(
            "multinomial: weights must be finite and not negative, with a positive sum in each row"
        )
    if count <= 0 or (not replacement and count > int((rows > 0).sum(1).min())):
        raise ArgumentError(
            f"multinomial: cannot draw {count} samples; num_samples must be positive and, without "
            "replacement, at most the number of positive weights"
        )
    rng = source_of(generator)
    if replacement:
        edges = np.cumsum(rows, axis=1)
        points = rng.random((len(rows), count)) * edges[:, -1:]
        drawn = np.stack(
            [np.searchsorted(e, p, side="right") for e, p in zip(edges, points, strict=True)]
        )
    else:
        # The order of exponential arrival times with these rates is such a draw.
        with np.errstate(divide="ignore"):
            times = rng.standard_exponential(rows.shape) / rows
        drawn = np.argsort(times, axis=1, kind="stable")[:, :count]
    return make_leaf("multinomial", drawn.reshape(*weights.shape[:-1], count).astype(np.int64))


# -- in place -------------------------------------------------------------------------------------


def _fill(name: str, t: Tensor, values: np.ndarray) -> Tensor:
    return assign(name, t, wrap(leaf(np.asarray(values, t.dtype.np), t.dtype)))


def _check_float(name: str, t: Tensor) -> None:
    if not t.dtype.is_floating_point:
        raise DTypeError(f"{name}: a floating-point tensor is required, got {t.dtype!r}")


@method()
def uniform_(self, a: float = 0.0, b: float = 1.0, *, generator=None) -> Tensor:
    """Fill with numbers drawn uniformly from [a, b). Returns the tensor."""
    _check_float("uniform_", self)
    if not a <= b:
        raise ArgumentError(f"uniform_: expects a <= b, got a={a}, b={b}")
    drawn = source_of(generator).random(tuple(self.shape), dtype=self.dtype.np)
    kind = self.dtype.np.type
    return _fill("uniform_", self, kind(a) + kind(b - a) * drawn)


@method()
def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator=None) -> Tensor:
    """Fill with normally distributed numbers. Returns the tensor."""
    _check_float("normal_", self)
    if not std >= 0:
        raise ArgumentError(f"normal_: std must be >= 0, got {std}")
    drawn = source_of(generator).standard_normal(tuple(self.shape), dtype=self.dtype.np)
    kind = self.dtype.np.type
    return _fill("normal_", self, kind(mean) + kind(std) * drawn)


@method()
def exponential_(self, lambd: float = 1.0, *, generator=None) -> Tensor:
    """Fill with numbers of the exponential distribution of rate `lambd`. Returns the tensor."""
    _check_float("exponential_", self)
    if not lambd > 0:
        raise ArgumentError(f"exponential_: lambd must be positive, got {lambd}")
    drawn = source_of(generator).standard_exponential(tuple(self.shape))
    return _fill("exponential_", self, drawn / lambd)


@method()
def bernoulli_(self, p=0.5, *, generator=None) -> Tensor:
    """Fill with ones with probability `p` (number or tensor), else zeros. Returns the tensor."""
    chance = np.broadcast_to(_numbers_or_values(p), tuple(self.shape))
    _check_probabilities("bernoulli_", chance)
    return _fill("bernoulli_", self, source_of(generator).random(chance.shape) < chance)


@method()
def random_(self, low: int = 0, high: int | None = None, *, generator=None) -> Tensor:
    """Fill with integers from [low, high); ``random_(high)`` starts at 0. Returns the tensor."""
    if high is None and low != 0:
        low, high = 0, low
    if high is None:
        info = np.iinfo(self.dtype.np) if self.dtype.category == dtypes.INTEGER else None
        digits = {dtypes.bool_: 1, dtypes.float32: 24, dtypes.float64: 53}
        high = int(info.max) if info else 2 ** digits[self.dtype]
    if low >= high:
        raise ArgumentError(f"random_: expects low < high, got low={low} >= high={high}")
    return _fill("random_", self, source_of(generator).integers(low, high, tuple(self.shape)))


@method("bernoulli")
def _bernoulli(self, p: float | None = None, *, generator=None) -> Tensor:
    return bernoulli(self, p, generator=generator)


@method("multinomial")
def _multinomial(self, num_samples: int, replacement: bool = False, *, generator=None) -> Tensor:
    return multinomial(self, num_samples, replacement, generator=generator)
