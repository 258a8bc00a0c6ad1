"""What the tests of boards share: boards or a loud skip, programs built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.boards import emulate
from tools.boards.machines import BOARDS, Board, missing

__all__ = ["STRICT", "board_named", "seen"]

# Nothing to say for any compiler, in any mode.
STRICT = ("-pedantic", "-Wall", "-Wextra", "-Werror")


def board_named(name: str) -> Board:
    """The board; the test is skipped where it can't be emulated."""
    board = BOARDS[name]
    lacking = missing(board)
    if lacking:
        pytest.skip(f"NOTHING WAS RUN for {name}: first {'; '.join(lacking)}")
    return board


def seen(folder: Path, name: str, board: str | Board, place: Path, *flags: str, **how):
    """(sections, what the program showed) of an export for a board, which must pass its self-test."""
    if isinstance(board, str):
        board = board_named(board)
    place.mkdir(parents=True, exist_ok=True)
    flags = (*(flags or ("-O2", "-ffp-contract=off")), *STRICT)
    made = emulate.build(folder, name, board, place, flags, **how)
    found = emulate.run(made)
    assert found.passed, f"{name} on {board.name}: {found.text}"
    return made.sections, found
