"""The pages that explain quote figures that are measured, and list every decision."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = REPOSITORY / "docs" / "explanation"
DECISIONS = sorted((PAGES / "decisions").glob("0*.md"))
HEADINGS = ["Context", "Decision", "Consequences"]


def read(*parts: str) -> str:
    return REPOSITORY.joinpath(*parts).read_text(encoding="utf-8")


def shares(text: str) -> set[float]:
    """Figures such as .662 and 0.662: three digits after the point and nothing before it."""
    return {float(found) for found in re.findall(r"(?<![\w.])0?\.\d{3}\b", text)}


@pytest.mark.parametrize("page", ["faithfulness.md", "decisions/0007-centring-and-anchored-adaptation.md"])
def test_figures_of_the_training_are_quoted_as_they_are(page: str) -> None:
    quoted = shares(read("docs", "explanation", page))
    assert len(quoted) >= 5
    sources = read("training", "README.md") + read("e2vsearch", "projections", "network.py")
    assert quoted - shares(sources) == set()


@pytest.mark.parametrize("page", ["recall.md", "decisions/0003-ivf-rabitq-and-rerank.md"])
def test_figures_of_recall_are_quoted_as_they_are(page: str) -> None:
    quoted = shares(read("docs", "explanation", page))
    assert len(quoted) >= 3
    known = shares(read("e2vsearch", "vectors", "faiss", "ivf.py"))
    for path in (REPOSITORY / "benchmarks" / "results").glob("index-*.json"):
        known |= {row["value"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert quoted - known == set()


def test_decisions_are_numbered_listed_and_of_one_form() -> None:
    listed = read("docs", "explanation", "decisions", "index.md")
    for number, path in enumerate(DECISIONS, 1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert text.startswith(f"# {number}. ")
        assert f"({path.name})" in listed
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS, path.name
        assert re.search(r"^Status: ", text, re.MULTILINE), path.name
    assert len(DECISIONS) >= 10
