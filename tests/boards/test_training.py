"""Training on a microcontroller: within its memory, and with the desk's bits."""

import importlib.util
import re
from pathlib import Path

import pytest

from boards.emulated import board_named

pytestmark = pytest.mark.boards

EXAMPLE = Path(__file__).parents[2] / "examples" / "board_training.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    board_named("m4f")
    spec = importlib.util.spec_from_file_location("board_training", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("learn", [["head"], ["conv2", "head"], ["conv1", "conv2", "head"]])
def test_every_bit_is_the_desks(example, capsys, learn):
    short = ["--quiet", "--desk-steps", "40", "--steps", "12", "--learn", *learn]
    assert example.main(short) == 0
    shown = capsys.readouterr().out
    assert "every loss and weight has the desk's bits" in shown
    ram, stack = re.search(r"board: RAM ([\d,]+) bytes, ([\d,]+) of them stack", shown).groups()
    assert 0 < int(stack.replace(",", "")) < 4096
    assert int(ram.replace(",", "")) <= 256 * 1024


def test_a_wrong_bit_is_noticed(example, capsys, monkeypatch):
    right = example.main_c
    changed = lambda *given: right(*given).replace("0x1.", "0x1.0", 1)  # noqa: E731
    monkeypatch.setattr(example, "main_c", changed)
    assert example.main(["--quiet", "--desk-steps", "20", "--steps", "2", "--learn", "head"]) == 1
    assert "DOES NOT have" in capsys.readouterr().out
