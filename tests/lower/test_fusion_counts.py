"""Loops and buffers of the programs that benchmarks/fusion.py times: a fusion regression shows here.

The numbers are exact. Where a change makes one smaller, write the smaller one down; where it makes one
larger, something that was one pass over memory is several.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import flatgrad as fg
from flatgrad.lower import ir, lower
from flatgrad.lower.body import walk
from flatgrad.lower.nest import expressions
from tests.support.programs import graph_of

SUITE = Path(__file__).parent.parent.parent / "benchmarks" / "suite"


@pytest.fixture(scope="module")
def cases():
    spec = importlib.util.spec_from_file_location("bench_fused", SUITE / "fused.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks its module up
    spec.loader.exec_module(module)
    yield module.CASES
    del sys.modules[spec.name]


def program_of(case, sizes) -> ir.Program:
    def flat(*tensors):
        return fg.func.tree.flatten(case.function(*tensors))[0]

    return lower(graph_of(flat, *case.arguments(*sizes)))


def counts(program: ir.Program) -> tuple:
    """(loops and products at the top, all loops, buffers, bytes of the arena)."""
    outer = sum(isinstance(s, (ir.For, ir.Gemm, ir.Tile)) for s in program.body)
    loops = sum(isinstance(s, ir.For) for s, _ in walk(program.body))
    return outer, loops, len(program.place), program.arena_bytes


def calls(program: ir.Program, name: str) -> int:
    """How many different expressions call a scalar function."""
    found, stack = set(), [e for s, _ in walk(program.body) for e in expressions(s)]
    seen = set()
    while stack:
        e = stack.pop()
        if e not in seen:
            seen.add(e)
            stack.extend(e.args)
            if e.kind == "call" and e.arg == name:
                found.add(e)
    return len(found)


EXPECTED = {
    # Rows: the largest, the exponentials (in the result's memory), then the losses and how many count,
    # then the gradient, which needs that number. Kept between: a largest, a sum and a class a row.
    ("cross_entropy", (64, 512)): (3, 6, 3, 1024),
    # Two fills for the weights' gradients, then everything in one loop over rows, of which one is kept.
    ("layer_norm", (64, 512)): (3, 8, 1, 2048),
    # Statistics of columns are two barriers, the gradient's sum a third: four passes over the rows, with
    # fills of columns before and functions of columns after each.
    ("batch_norm", (64, 512)): (13, 17, 4, 8192),
    # One pass after the bias's gradient is filled.
    ("gelu", (64, 512)): (2, 3, 0, 0),
    # One loop over rows; the exponentials of a row are kept.
    ("logsumexp", (64, 512)): (1, 4, 1, 2048),
    ("huber", (64, 512)): (1, 1, 0, 0),
    # One loop over rows: three sums, and a loop for each gradient.
    ("cosine", (64, 512)): (1, 4, 0, 0),
    # Six products as register tiles, and two passes over the scores.
    ("attention", (64, 32)): (10, 26, 7, 49664),
    # Four gates, the new state and all gradients in one loop; nothing is stored twice.
    ("gates", (32, 64)): (1, 2, 0, 0),
    # Eight products, the loop of the gates between them, the bias's sum.
    ("lstm", (32, 64)): (15, 25, 5, 131072),
    # Short rows: functions run over all rows at once, so there are stages.
    ("cross_entropy", (8, 32)): (5, 9, 3, 192),
    ("logsumexp", (8, 32)): (5, 9, 2, 128),
    ("gates", (1, 16)): (1, 1, 0, 0),
}


@pytest.mark.parametrize(("name", "sizes"), EXPECTED)
def test_loops_and_buffers(cases, name, sizes):
    assert counts(program_of(cases[name], sizes)) == EXPECTED[name, sizes]


def test_every_program_is_counted(cases):
    assert {name for name, _ in EXPECTED} == set(cases)


@pytest.mark.parametrize("name", ["cross_entropy", "logsumexp", "attention"])
def test_value_and_gradient_share_their_exponentials(cases, name):
    """One expression; a second pass would compute it again at another index."""
    case = cases[name]
    assert calls(program_of(case, case.sizes[0]), "exp") == 1
