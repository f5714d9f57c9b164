"""Two calls, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import save, speech


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.wav", "sub/b c.wav")):
        save(folder / name, speech(2.5, seed=number, pitch_hz=110 + 10 * number))
    (folder / "sub" / "bad.wav").write_text("no audio " * 100)
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_bytes((folder / "a.wav").read_bytes())
    return folder
