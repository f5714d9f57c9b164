"""`benchmarks/former.py`: ratios of the rounds, and what it says without a checkout to compare with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import former


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    before = [{"query, processor time": each, "query, peak memory": 100.0} for each in (0.001, 0.002, 0.010)]
    now = [{"query, processor time": each, "query, peak memory": 110.0} for each in (0.001, 0.003, 0.005)]
    time, memory = former.compared(before, now)
    assert (time.value, time.unit, time.ratio) == (3.0, "ms", 1.0)
    assert time.beside == "2 ms before (0.50 to 1.50)"
    assert (memory.value, memory.unit, memory.ratio) == (110.0, "MB", pytest.approx(1.1))  # type: ignore[comparison-overlap]


def test_without_a_checkout_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["former.py", "--quick"])
    assert former.main() == former.CANNOT_RUN
    assert "--before" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["former.py", "--before", str(tmp_path)])
    assert former.main() == 1
    assert "no checkout of e2vsearch" in capsys.readouterr().err
