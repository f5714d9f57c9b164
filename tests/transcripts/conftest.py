"""Made calls for each module of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_transcripts import make_calls


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A call of two turns, one of two channels, and silence."""
    return make_calls(tmp_path_factory.mktemp("calls"))
