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
from ..graph.dtypes import float64
from ..tensor import Tensor, wrap
from ..transform.call import call
from .form import Form, form_of
from .names import identifier

__all__ = ["Part", "parts_of", "wrapper"]


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
    inputs : list of (name, rows, columns, position among the arguments of `core` or None)
        None: CasADi gives it, and nobody needs it.
    outputs : list of (name, rows, columns, position among the results of `core` or None)
        None: zero by structure.
    """

    symbol: str
    core: str
    form: Form
    inputs: list[tuple]
    outputs: list[tuple]


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
    n, m = len(ins), len(outs)

    def jacobians(f: Callable, count: int) -> Callable:
        """All blocks of the Jacobian by the first `count` arguments, each column after column."""
        every = dense_jacobian(f, tuple(range(count)))

        def blocks(*columns):
            return [b.T.reshape(-1) for row in every(*columns) for b in row]

        return blocks

    def forward(*columns):
        return jvp(lambda *x: tuple(value(*x)), columns[:n], columns[n:])[1]

    def adjoint(*columns):
        return vjp(lambda *x: tuple(value(*x)), *columns[:n])[1](tuple(columns[n:]))

    unused = [(f"out_{o}", r, c, None) for o, r, c in outs]
    given = [(i, r, c, k) for k, (i, r, c) in enumerate(ins)]
    seeds = [(f"adj_{o}", r, c, n + k) for k, (o, r, c) in enumerate(outs)]
    adjoints = [(f"adj_{i}", r, c) for i, r, c in ins]
    found = [
        ("", "value", value, given, _numbered(outs)),
        (
            "jac_",
            "jac",
            jacobians(value, n),
            [*given, *unused],
            _numbered([(f"jac_{o}_{i}", r * c, p * q) for o, r, c in outs for i, p, q in ins]),
        ),
        (
            "fwd1_",
            "fwd",
            forward,
            [*given, *unused, *[(f"fwd_{i}", r, c, n + k) for k, (i, r, c) in enumerate(ins)]],
            _numbered([(f"fwd_{o}", r, c) for o, r, c in outs]),
        ),
        ("adj1_", "adj", adjoint, [*given, *unused, *seeds], _numbered(adjoints)),
        (
            "jac_adj1_",
            "adjjac",
            jacobians(adjoint, n + m),
            [*given, *unused, *seeds, *[(f"out_{a}", r, c, None) for a, r, c in adjoints]],
            _second_order(ins, outs, adjoints),
        ),
    ]
    examples = [e.T.reshape(-1) if e.ndim == 2 else e.reshape(-1) for e in form.examples]
    rows = [prod(node.shape) for node in form.graph.outputs]
    parts = []
    for prefix, ending, function, inputs, results in found:
        more = {"fwd": examples, "adj": rows, "adjjac": rows}.get(ending, [])
        more = [np.ones(s if isinstance(s, int) else s.size) for s in more]
        core = f"{name}_casadi_{ending}"
        parts.append(
            Part(prefix + symbol, core, form_of(function, (*examples, *more), {}), inputs, results)
        )
    return parts


def _numbered(rows: list) -> list[tuple]:
    return [(*row, k) for k, row in enumerate(rows)]


def _second_order(ins: list, outs: list, adjoints: list) -> list[tuple]:
    """Blocks of the adjoint's Jacobian: by the arguments, by the (unused) results, by the seeds."""
    found, count = [], 0
    for a, r, c in adjoints:
        for kind, side in (("", ins), ("out_", outs), ("adj_", outs)):
            for i, p, q in side:
                at = None if kind == "out_" else count
                count += kind != "out_"
                found.append((f"jac_{a}_{kind}{i}", r * c, p * q, at))
    return found


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
    arguments = {at: k for k, (_, _, _, at) in enumerate(part.inputs) if at is not None}
    results = {at: k for k, (_, _, _, at) in enumerate(part.outputs) if at is not None}
    zeros = max((r * c for _, r, c, at in part.inputs if at is not None), default=0)
    align = max(core.align, 8)
    given = [f"    const double *in[{max(len(arguments), 1)}];\n"]
    lines = [f"    for (k = 0; k < {zeros}; k++) w[k] = 0;\n"]
    lines += [f"    in[{at}] = arg && arg[{k}] ? arg[{k}] : w;\n" for at, k in arguments.items()]
    outs = [f"    out[{at}] = res ? res[{k}] : NULL;\n" for at, k in results.items()]
    return FUNCTION.format(
        about=f"{part.symbol}: "
        + ", ".join(row[0] for row in part.inputs)
        + " -> "
        + ", ".join(row[0] for row in part.outputs),
        core=part.core,
        symbol=part.symbol,
        given="".join(given),
        n_results=max(len(results), 1),
        zeros="".join(lines),
        outs="".join(outs) + f"    w += {zeros};\n",
        align=align,
        n_in=len(part.inputs),
        n_out=len(part.outputs),
        names_in=", ".join(f'"{row[0]}"' for row in part.inputs),
        names_out=", ".join(f'"{row[0]}"' for row in part.outputs),
        patterns_in=_patterns(part.inputs),
        patterns_out=_patterns(part.outputs),
        doubles=zeros + -(-(core.work + align) // 8),
    )


def _patterns(rows: list[tuple]) -> str:
    """A switch over dense patterns, and empty ones of what is not there."""
    tables: dict[tuple, str] = {}
    cases = []
    for k, (_, r, c, at) in enumerate(rows):
        pattern = (r, c, 1) if at is not None else (r, c, *[0] * (c + 1))
        known = tables.setdefault(pattern, f"s{len(tables)}")
        cases.append(f"    case {k}: return {known};\n")
    lines = [
        f"    static const casadi_int {known}[] = {{{', '.join(map(str, pattern))}}};\n"
        for pattern, known in tables.items()
    ]
    return "".join([*lines, "    switch (i) {\n", *cases])
