"""Several writers, readers and a builder at once, killed at random. `stress` says what is looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import stress

SECONDS = float(os.environ.get("E2VSEARCH_TEST_STRESS_S", "4"))
PROCESSES = 4 if SECONDS > 60 else 2


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_made_up(database_url: str, tmp_path: Path) -> None:
    outcome = stress.run(database_url, tmp_path, SECONDS, PROCESSES, PROCESSES, kill_every_s=1.0)
    assert outcome.wrong == []
    assert outcome.stored > stress.FIRST
    assert outcome.asked
    assert outcome.killed.total()
