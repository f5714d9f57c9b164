"""Six calls for workers to take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import save, silence, speech


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six calls of two turns each."""
    folder = tmp_path_factory.mktemp("queued") / "calls"
    folder.mkdir()
    for number in range(6):
        turns = [speech(1.5, seed=number * 10 + turn, pitch_hz=100 + 20 * number) for turn in range(2)]
        save(folder / f"{number}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.0))]))
    return folder
