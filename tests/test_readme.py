"""README.md and docs/ are true: their examples run, their commands and links exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import flatgrad as fg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_print_what_they_say(page):
    outcome = doctest.testfile(
        str(page),
        module_relative=False,
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert outcome.failed == 0
    if page.name not in ("index.md", "design.md", "numerics.md", "performance.md", "boards.md"):
        assert outcome.attempted


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_first_screen():
    """One sentence, an install command, a short example, the main job, the tests; no more."""
    first = README.split("\n## ")[0]
    title, sentence, *blocks = [b for b in re.split(r"\n\n(?=\S)|\n\n$", first) if b.strip()]
    assert title == "# flatgrad"
    assert sentence.count(". ") == 0 and sentence.rstrip().endswith(".")
    code = re.findall(r"```(\w+)\n(.*?)```", first, re.S)
    assert [language for language, _ in code] == ["sh", "python", "sh"]
    assert code[0][1].strip() == "pip install ."
    assert len(code[1][1].splitlines()) <= 12
    job, tests = code[2][1].strip().splitlines()
    assert "python examples/digits.py" in job
    assert "python -m pytest" in tests
    assert len(first.splitlines()) <= 40
    assert blocks


def test_commands_name_files_that_exist():
    for name in re.findall(r"\b(?:python|bash) ([\w./]+\.py|\.ci/\w+)", README):
        assert (ROOT / name).exists(), name


def test_every_error_class_is_documented():
    text = (ROOT / "docs" / "errors.md").read_text()
    for name in fg.errors.__all__:
        assert name in text, name


def test_figures_name_their_command():
    figures = re.search(r"<!-- figures: begin -->(.*?)<!-- figures: end -->", README, re.S)[1]
    performance = (ROOT / "docs" / "performance.md").read_text()
    for text in (figures, performance):
        assert "|" in text and "python benchmarks/peers.py" in text
    # One run: every row of the README's table starts a row of the full one.
    rows = [line for line in figures.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows:
        assert row.removesuffix("|").rstrip() in performance
