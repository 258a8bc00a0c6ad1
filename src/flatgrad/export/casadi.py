"""Functions that ``casadi.external`` can call, with derivatives: ``NAME_casadi.c`` and what it calls.

CasADi stores matrices column after column, so what it calls are functions of flat vectors in that order,
and their derivatives; the turning of rows and columns is part of the traced functions, where it costs
nothing. One wrapper for each has the symbols that CasADi looks for, and leaves out what CasADi leaves out
(missing arguments are zeros).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..func.derivatives import jvp, vjp
from ..func.jacobians import dense_jacobian
from ..func.sparse import SparseDerivative
from ..graph.dtypes import float64
from ..ops.indexing import take_along
from ..tensor import Tensor, wrap
from ..transform.call import call
from .form import Form, form_of
from .names import identifier

__all__ = ["Part", "Port", "parts_of", "wrapper"]

# Jacobians with more elements than this, of all, are dense.
SPARSE = 0.5


@dataclass
class Port:
    """An argument or result of a function that CasADi calls.

    Attributes
    ----------
    at : int or None
        Its position among those of the C function behind; None: it is not needed, or zero by structure.
    pattern : tuple of int
        In CasADi's form: rows, columns, then 1 if it is dense, else where columns begin, and rows.
    """

    name: str
    rows: int
    columns: int
    at: int | None
    pattern: tuple = ()

    def __post_init__(self):
        shape = self.rows, self.columns
        if self.at is None:
            self.pattern = (*shape, *[0] * (self.columns + 1))
        elif not self.pattern:
            self.pattern = (*shape, 1)


@dataclass
class Part:
    """One function that CasADi may call.

    Attributes
    ----------
    symbol : str
        As CasADi looks for it.
    core : str
        The C function behind it.
    form : Form
    inputs, outputs : list of Port
    """

    symbol: str
    core: str
    form: Form
    inputs: list[Port]
    outputs: list[Port]


def parts_of(form: Form, name: str, symbol: str) -> list[Part]:
    """The value, Jacobian, forward and adjoint derivatives of `form`, and the adjoint's Jacobian.

    Raises
    ------
    DTypeError
        If an argument or a result is not float64.
    ArgumentError
        If the function has no argument or no result.
    """
    outputs = list(zip(form.paths, form.graph.outputs, strict=True))
    every = [*zip(form.names, form.kinds, strict=True), *outputs]
    for path, kind in every:
        if kind.dtype is not float64:
            raise DTypeError(
                f"export: CasADi's numbers are float64, and {path} of {form.label} is {kind.dtype.name}; "
                "export a function of float64, or leave casadi out"
            )
    if not form.kinds or not outputs:
        raise ArgumentError(f"export: {form.label} needs an argument and a result to be CasADi's")
    taken: set[str] = set()
    ins = [
        (identifier(n, taken), *matrix(k.shape))
        for n, k in zip(form.names, form.kinds, strict=True)
    ]
    outs = [(identifier(p, taken), *matrix(n.shape)) for p, n in outputs]
    return _parts(form, name, symbol, ins, outs)


def matrix(shape: tuple) -> tuple[int, int]:
    """Rows and columns of an array in CasADi; one of more dimensions is a column of all its elements."""
    if len(shape) == 2:
        return shape
    return prod(shape), 1


def _parts(form: Form, name: str, symbol: str, ins: list, outs: list) -> list[Part]:
    value = _flat(form)
    n = len(ins)

    def forward(*columns):
        return jvp(lambda *x: tuple(value(*x)), columns[:n], columns[n:])[1]

    def adjoint(*columns):
        return vjp(lambda *x: tuple(value(*x)), *columns[:n])[1](tuple(columns[n:]))

    def part(prefix: str, ending: str, function: Callable, examples, inputs, outputs) -> Part:
        traced = form_of(function, tuple(examples), {})
        return Part(prefix + symbol, f"{name}_casadi_{ending}", traced, inputs, outputs)

    values = [e.T.reshape(-1) if e.ndim == 2 else e.reshape(-1) for e in form.examples]
    weights = [np.ones(r * c) for _, r, c in outs]
    given = [Port(*row, k) for k, row in enumerate(ins)]
    unused = [Port(f"out_{o}", r, c, None) for o, r, c in outs]
    forward_seeds = [Port(f"fwd_{i}", r, c, n + k) for k, (i, r, c) in enumerate(ins)]
    seeds = [Port(f"adj_{o}", r, c, n + k) for k, (o, r, c) in enumerate(outs)]
    adjoints = [Port(f"adj_{i}", r, c, k) for k, (i, r, c) in enumerate(ins)]
    jacobian, blocks = _jacobian(value, values, given, [Port(*row, None) for row in outs])
    second, more = _jacobian(adjoint, [*values, *weights], [*given, *seeds], adjoints)
    # CasADi also asks for the adjoint's derivatives by the results, which it does not read.
    m = len(outs)
    whole = [
        port
        for k, a in enumerate(adjoints)
        for row in (more[k * (n + m) : (k + 1) * (n + m)],)
        for port in (*row[:n], *[_unread(a, u) for u in unused], *row[n:])
    ]
    return [
        part("", "value", value, values, given, [Port(*row, k) for k, row in enumerate(outs)]),
        part("jac_", "jac", jacobian, values, [*given, *unused], blocks),
        part(
            *("fwd1_", "fwd", forward, [*values, *map(np.ones_like, values)]),
            [*given, *unused, *forward_seeds],
            [Port(f"fwd_{o}", r, c, k) for k, (o, r, c) in enumerate(outs)],
        ),
        part(
            *("adj1_", "adj", adjoint, [*values, *weights], [*given, *unused, *seeds]),
            adjoints,
        ),
        part(
            *("jac_adj1_", "adjjac", second, [*values, *weights]),
            [
                *given,
                *unused,
                *seeds,
                *[Port(f"out_{a.name}", a.rows, a.columns, None) for a in adjoints],
            ],
            whole,
        ),
    ]


def _unread(output: Port, by: Port) -> Port:
    shape = output.rows * output.columns, by.rows * by.columns
    return Port(f"jac_{output.name}_{by.name}", *shape, None)


def _jacobian(f: Callable, columns: list, inputs: list[Port], outputs: list[Port]):
    """(the function of all blocks of the Jacobian of `f`, column after column; the blocks).

    Only elements that are not zero by structure, if these are few: a gather is not for nothing.
    """
    sparse = SparseDerivative("jacobian", f, tuple(range(len(columns))))
    found = sparse.pattern(*columns)
    full = not found.nnz or found.nnz > SPARSE * prod(found.shape)
    numbered = found.astype(np.int64)
    numbered.data[:] = np.arange(found.nnz) + 1
    ports: list[Port] = []
    picks: list[np.ndarray] = []
    row = 0
    for o in outputs:
        column, height = 0, o.rows * o.columns
        for i in inputs:
            width = i.rows * i.columns
            block = numbered[row : row + height, column : column + width].tocsc()
            block.sort_indices()
            at = len(picks) if full or block.nnz else None
            pattern = (
                () if full else (height, width, *block.indptr.tolist(), *block.indices.tolist())
            )
            ports.append(Port(f"jac_{o.name}_{i.name}", height, width, at, pattern))
            if at is not None:
                picks.append(block.data - 1)
            column += width
        row += height

    def dense_blocks(*columns):
        every = dense_jacobian(f, tuple(range(len(columns))))
        return [b.T.reshape(-1) for row in every(*columns) for b in row]

    def sparse_blocks(*columns):
        values = sparse.values(*columns)
        return [take_along(values, 0, pick) for pick in picks]

    return (dense_blocks if full else sparse_blocks), ports


def _flat(form: Form) -> Callable:
    """`form` as a function of vectors that hold matrices column after column."""
    graph, held = form.recorded
    shapes = [k.shape for k in form.kinds]

    def value(*columns) -> list[Tensor]:
        arguments = [_matrix(c, s) for c, s in zip(columns, shapes, strict=True)]
        results = call(graph, [*arguments, *map(wrap, held)])
        return [(r.T if r.ndim == 2 else r).reshape(-1) for r in results]

    return value


def _matrix(column: Tensor, shape: tuple) -> Tensor:
    return column.reshape(shape[::-1]).T if len(shape) == 2 else column.reshape(shape)


# -- text -----------------------------------------------------------------------------------------

HEAD = """\
/* {symbol}: {name} for casadi.external("{symbol}", library), with derivatives.
 * Made by fg.export; do not edit. */
#include <stddef.h>
#include <stdint.h>

#ifndef casadi_real
#define casadi_real double
#endif
#ifndef casadi_int
#define casadi_int long long int
#endif
"""

FUNCTION = """
/* {about} */
int {core}(const double *const *in, double *const *out, void *work);

int {symbol}(const casadi_real **arg, casadi_real **res, casadi_int *iw, casadi_real *w, int mem) {{
{given}    double *out[{n_results}];
    int k;
    (void)iw;
    (void)mem;
{zeros}{outs}    w += (size_t)(({align}u - (uintptr_t)w % {align}u) % {align}u) / sizeof(casadi_real);
    k = {core}(in, out, w);
    return k;
}}

casadi_int {symbol}_n_in(void) {{ return {n_in}; }}
casadi_int {symbol}_n_out(void) {{ return {n_out}; }}
casadi_real {symbol}_default_in(casadi_int i) {{ (void)i; return 0; }}

const char *{symbol}_name_in(casadi_int i) {{
    static const char *const names[] = {{{names_in}}};
    return i >= 0 && i < {n_in} ? names[i] : NULL;
}}

const char *{symbol}_name_out(casadi_int i) {{
    static const char *const names[] = {{{names_out}}};
    return i >= 0 && i < {n_out} ? names[i] : NULL;
}}

const casadi_int *{symbol}_sparsity_in(casadi_int i) {{
{patterns_in}    default: return NULL;
    }}
}}

const casadi_int *{symbol}_sparsity_out(casadi_int i) {{
{patterns_out}    default: return NULL;
    }}
}}

int {symbol}_work(casadi_int *sz_arg, casadi_int *sz_res, casadi_int *sz_iw, casadi_int *sz_w) {{
    if (sz_arg) *sz_arg = {n_in};
    if (sz_res) *sz_res = {n_out};
    if (sz_iw) *sz_iw = 0;
    if (sz_w) *sz_w = {doubles};
    return 0;
}}

int {symbol}_alloc_mem(void) {{ return 0; }}
int {symbol}_init_mem(int mem) {{ (void)mem; return 0; }}
void {symbol}_free_mem(int mem) {{ (void)mem; }}
int {symbol}_checkout(void) {{ return 0; }}
void {symbol}_release(int mem) {{ (void)mem; }}
void {symbol}_incref(void) {{}}
void {symbol}_decref(void) {{}}
"""


def wrapper(name: str, parts: list[Part], printed: dict) -> str:
    """The text of ``NAME_casadi.c``; `printed` are the programs by their C names."""
    text = [HEAD.format(symbol=parts[0].symbol, name=name)]
    return "".join(text + [_function(p, printed[p.core]) for p in parts])


def _function(part: Part, core) -> str:
    arguments = {p.at: k for k, p in enumerate(part.inputs) if p.at is not None}
    results = {p.at: k for k, p in enumerate(part.outputs) if p.at is not None}
    zeros = max((p.rows * p.columns for p in part.inputs if p.at is not None), default=0)
    align = max(core.align, 8)
    given = [f"    const double *in[{max(len(arguments), 1)}];\n"]
    lines = [f"    for (k = 0; k < {zeros}; k++) w[k] = 0;\n"]
    lines += [f"    in[{at}] = arg && arg[{k}] ? arg[{k}] : w;\n" for at, k in arguments.items()]
    outs = [f"    out[{at}] = res ? res[{k}] : NULL;\n" for at, k in results.items()]
    return FUNCTION.format(
        about=f"{part.symbol}: "
        + ", ".join(p.name for p in part.inputs)
        + " -> "
        + ", ".join(p.name for p in part.outputs),
        core=part.core,
        symbol=part.symbol,
        given="".join(given),
        n_results=max(len(results), 1),
        zeros="".join(lines),
        outs="".join(outs) + f"    w += {zeros};\n",
        align=align,
        n_in=len(part.inputs),
        n_out=len(part.outputs),
        names_in=", ".join(f'"{p.name}"' for p in part.inputs),
        names_out=", ".join(f'"{p.name}"' for p in part.outputs),
        patterns_in=_patterns(part.inputs),
        patterns_out=_patterns(part.outputs),
        doubles=zeros + -(-(core.work + align) // 8),
    )


def _patterns(ports: list[Port]) -> str:
    """A switch over patterns, each of which is stored once."""
    tables: dict[tuple, str] = {}
    cases = []
    for k, p in enumerate(ports):
        known = tables.setdefault(p.pattern, f"s{len(tables)}")
        cases.append(f"    case {k}: return {known};\n")
    lines = [
        f"    static const casadi_int {known}[] = {{{', '.join(map(str, pattern))}}};\n"
        for pattern, known in tables.items()
    ]
    return "".join([*lines, "    switch (i) {\n", *cases])
