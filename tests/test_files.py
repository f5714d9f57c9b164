"""Files written aside and renamed: what a failing disk, or a killed process, leaves."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource, clustered

from e2vsearch import files
from e2vsearch.vectors.faiss.index import FaissEngine

posix = pytest.mark.skipif(os.name == "nt", reason="folders are not synced there, nor processes looked up")


def failing_sync(monkeypatch: pytest.MonkeyPatch, after: Path) -> None:
    """Let folders fail to sync once a file is there."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if after.exists() and os.path.samestat(os.fstat(descriptor), after.parent.stat()):
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@posix
def test_what_was_renamed_is_kept_though_its_folder_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_sync(monkeypatch, tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        files.atomic_write(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert "check that disk" in caplog.text


@posix
def test_an_index_whose_last_sync_fails_is_the_one_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = MemorySource(clustered(50, 8))
    index = FaissEngine(tmp_path, source)
    failing_sync(monkeypatch, tmp_path / "generations" / "CURRENT")
    with caplog.at_level(logging.WARNING):
        index.build("flat")
    assert "check that disk" in caplog.text
    again = FaissEngine(tmp_path, source)
    assert again.verify() == []
    assert again.status().kind == "flat"
    np.testing.assert_array_equal(again.search(clustered(1, 8, seed=2), 3).ids.shape, (1, 3))


@posix
def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from e2vsearch.files import atomic_path\n"
        "for name in sys.argv[1:]:\n"
        "    aside = atomic_path(pathlib.Path(name)).__enter__()\n"
        "    aside.mkdir() if name.endswith('export') else aside.write_bytes(b'half')\n"
        "os.kill(os.getpid(), 9)"
    )
    paths = [tmp_path / "export", tmp_path / "a.db", tmp_path / "other.db"]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=False)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 3
    Path(f"{left[0]}-wal").touch()
    with files.atomic_path(tmp_path / "a.db") as mine:  # of a process that lives
        mine.write_bytes(b"mine")
        for path in paths[:2]:
            files.clear_abandoned(path)
        assert sorted(tmp_path.iterdir()) == sorted([mine, next(each for each in left if "other" in each.name)])
