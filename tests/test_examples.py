"""The examples run, and print what they say they print."""

import importlib.util
import re
from pathlib import Path

import pytest

import flatgrad as fg

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _same_settings():
    before = fg.get_compile()
    yield
    fg.set_compile(before)


def test_first_steps_print_what_their_comments_say(capsys):
    module = load("first_steps")
    text = (EXAMPLES / "first_steps.py").read_text()
    for part in ("gradient_by_backward", "gradient_by_grad", "tensors_from_numpy", "variables"):
        body = re.search(rf"def {part}\(.*?(?=\ndef )", text, re.S)[0]
        stated = re.findall(r"print\(.*\)  # (.*)", body)
        getattr(module, part)()
        assert capsys.readouterr().out.splitlines() == stated
        assert stated


def test_first_steps_show_weights_and_gradients(capsys):
    module = load("first_steps")
    text = (EXAMPLES / "first_steps.py").read_text()
    stated = re.findall(r"^    # (.*)", text.partition("def weights_and_gradients")[2], re.M)
    module.weights_and_gradients()
    shown = capsys.readouterr().out.splitlines()
    assert shown == stated and len(shown) == 5


def test_digits_quick(capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    digits = load("digits")
    reached = digits.main(
        ["--epochs", "2", "--batch", "128", "--compile", "never", "--steps", "3", "--quiet"]
    )
    shown = capsys.readouterr().out
    assert reached > 0.8
    for words in ("test accuracy", "tier", "a step interpreted"):
        assert words in shown
    options = digits.arguments(["--dtype", "float64"])
    assert options.dtype == "float64" and options.compile == "auto"
    with pytest.raises(SystemExit):
        digits.arguments(["--help"])
    assert "--epochs" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["never", pytest.param("always", marks=pytest.mark.slow)])
def test_digits_reach_97_percent(mode, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    digits = load("digits")
    reached = digits.main(["--compile", mode, "--steps", "3", "--quiet"])
    assert reached >= 0.97
    shown = capsys.readouterr().out
    assert ("compiled" if mode == "always" else "interpreted") in shown


def test_board_training_on_the_desk(capsys, monkeypatch):
    """A few steps; the board is not run here (tests/boards/test_training.py does that)."""
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    module = load("board_training")
    monkeypatch.setattr(module, "missing", lambda board: ["nothing"])
    short = ["--quiet", "--desk-steps", "60", "--steps", "20"]
    assert module.main([*short, "--learn", "head"]) == 0
    shown = capsys.readouterr().out
    assert "board: NOT RUN; needs nothing" in shown
    sizes = [int(n.replace(",", "")) for n in re.findall(r"RAM ([\d,]+) bytes", shown)]
    assert sizes[0] < sizes[1] / 2 < 128 * 1024  # a sparse update takes less
    first, last = re.search(r"loss over 20 steps: ([\d.]+) to ([\d.]+)", shown).groups()
    assert float(last) < float(first) / 2
    with pytest.raises(fg.errors.BudgetError):
        module.main([*short, "--learn", "conv1", "conv2", "head", "--max-ram", "20K"])
