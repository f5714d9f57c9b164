"""docs/benchmarks.md, its plots and the README's table are what benchmarks/results holds."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[1] / "docs"))

import _figures
import _page
import _plots
import _results
import pictures
from _table import Row

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = _results.read()


def test_the_page_and_its_plots_are_current() -> None:
    assert _page.outdated(RESULTS) == []


def test_a_row_that_changed_is_seen() -> None:
    retrieval = RESULTS["retrieval"]
    rows = tuple(dataclasses.replace(row, value=0.7) if row.name == "emodb" else row for row in retrieval.rows)
    changed = {**RESULTS, "retrieval": dataclasses.replace(retrieval, rows=rows)}
    assert _page.outdated(changed) == ["docs/images/benchmarks-retrieval.svg"]
    assert "| 0.700 |" in _page.figures(changed)


def test_every_result_says_where_it_is_from_and_is_shown() -> None:
    shown = {each.result for section in _figures.words().sections for each in section.figures}
    assert set(RESULTS) == shown
    for result in RESULTS.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", result.date)
        assert result.machine
        assert re.match(r"quick$|full$|carried over from (the README|training/README\.md) of 2026-12-01$", result.run)
        script = REPOSITORY / result.command.split()[1]
        assert script.is_file(), result.command
        options = set(re.findall(r"--[a-z-]+", result.command)) - {"--quick", "--json"}
        code = script.read_text(encoding="utf-8")
        assert [option for option in options if f'"{option}"' not in code] == []


def test_every_figure_has_a_limit() -> None:
    said = _figures.words()
    every = [each for section in said.sections for each in section.figures]
    assert [each.what for each in (*every, *said.readme["en"], *said.readme["zh"]) if not each.limit] == []
    assert len(said.readme["en"]) == 5


def test_carried_rows_are_those_of_the_training() -> None:
    training = (REPOSITORY / "training" / "README.md").read_text(encoding="utf-8")
    row = r"^\| ((?:emodb|crema15|cremad)[^|]*?) \| (\.\d+) \((\.\d+) to (\.\d+)\) \| (\.\d+) \|"
    found = re.findall(row, training, re.MULTILINE)
    assert len(found) == 17
    for name, value, low, high, raw in found:
        kept = RESULTS["retrieval"].row(name)
        assert (kept.value, kept.unit) == (float(value), f"(0{low} to 0{high})")
        assert RESULTS["retrieval"].row(f"{name}: raw").value == float(raw)


@pytest.mark.parametrize(("document", "language"), [("README.md", "en"), ("README.zh.md", "zh")])
def test_the_readme_shows_the_same(document: str, language: str) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    placed = _page.placed(text, RESULTS, language)
    if placed is None:
        pytest.skip(f"{document} has no markers of the table")
    assert placed == text


def test_a_table_goes_between_the_markers_alone() -> None:
    text = f"before\n\n{_page.BEGIN}\nold\n{_page.END}\n\nafter\n"
    placed = _page.placed(text, RESULTS, "en")
    assert placed is not None
    assert placed.startswith(f"before\n\n{_page.BEGIN}\n\n| what | figure | limit | from |\n")
    assert placed.endswith(f"|\n\n{_page.END}\n\nafter\n")
    assert _page.placed(placed, RESULTS, "en") == placed
    assert _page.placed("nothing", RESULTS, "en") is None


def test_rows_are_recorded_with_machine_and_date(tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"
    made = [Row("light", 12.3456789, "s", 0.5, "plain"), Row("  of it", 1.0, "s"), Row("plain", 24.0, "s")]
    rows.write_text(json.dumps([dataclasses.asdict(row) for row in made]), encoding="utf-8")
    _results.record(rows, "made", "python benchmarks/made.py --quick", quick=True, folder=tmp_path / "kept")
    (result,) = _results.read(tmp_path / "kept").values()
    assert (result.name, result.run, result.row("light").value) == ("made", "quick", 12.3457)
    assert result.row("light > of it").value == 1.0
    assert "cores" in result.machine
    with pytest.raises(_results.UnknownResult, match=r"made\.json has no row 'dark'"):
        result.row("dark")


@pytest.mark.slow  # imports Matplotlib
def test_plots_are_drawn_in_both_schemes() -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra 'map'")
    for plot in _plots.PLOTS:
        drawn = _plots.draw(plot, RESULTS)
        assert "prefers-color-scheme: dark" in drawn
        assert not re.search(r"#0[1-5]0[1-5]0[1-5]", drawn)
        assert _plots.fingerprint(plot, RESULTS) in drawn
        assert len(drawn) < 40_000
    assert drawn == _plots.draw(plot, RESULTS)


def test_the_words_are_toml_and_the_drawing_is_current() -> None:
    tomllib.loads(_figures.WORDS.read_text(encoding="utf-8"))
    assert pictures.TARGET.read_text(encoding="utf-8") == pictures.drawing()
