"""An ingest that is killed or interrupted loses and repeats nothing."""

from __future__ import annotations

import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from made import save, speech

import e2vsearch
from e2vsearch.collection import Collection

PAUSE = threading.Event()  # between two looks at another process, which needs the core as well


def names(collection: Collection) -> list[str]:
    return sorted(recording.name for _, recording in collection.catalog.recordings())


@pytest.mark.slow
def test_kill_9_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """At 20 random moments; the runs go on from each other's remains."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(60):
        save(folder / f"{number:02d}.wav", speech(1.5, seed=number))
    index = tmp_path / "index"
    command = [
        sys.executable,
        "-m",
        "e2vsearch",
        "ingest",
        str(folder),
        "--index",
        str(index),
        "--encoder",
        "fake",
        "-q",
    ]
    rng = random.Random(0)
    killed = 0
    for _ in range(20):
        process = subprocess.Popen(command)
        started = time.monotonic()
        catalog = index / "catalog.db-wal"
        while process.poll() is None and not catalog.exists() and time.monotonic() - started < 60:
            PAUSE.wait(0.002)
        try:
            process.wait(rng.uniform(0.0, 0.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 10
    assert subprocess.run(command, check=False).returncode == 0
    with e2vsearch.open(index, create=True) as collection:
        assert names(collection) == [f"{number:02d}" for number in range(60)]
        for recording in collection.recordings(where="channel = 0"):
            assert collection.segments(recording.id), recording.name
        collection.index.build("flat")
        assert collection.index.engine.verify() == []


def stored_in(database: Path) -> int:
    """How many recordings another process has committed; 0 while there is no table yet."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM recording").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 calls, so that a command is still at work when it is interrupted."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(120):
        save(folder / f"{number:03d}.wav", speech(1.5, seed=number))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly_and_a_rerun_goes_on(many: Path, tmp_path: Path, signal_: signal.Signals) -> None:
    command = [sys.executable, "-m", "e2vsearch", "ingest", str(many), "--index", str(tmp_path / "index")]
    command += ["--encoder", "fake", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and stored_in(tmp_path / "index" / "catalog.db") < 3:
        PAUSE.wait(0.005)
    process.send_signal(signal_)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert re.search(r"^stopping after \d+ recordings in work, Ctrl-C again to stop now$", said, re.MULTILINE)
    assert "run it again to go on" in said
    assert "Traceback" not in said
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        stored = len(names(collection))
        assert 0 < stored < 120
        report = collection.ingest(many)
        assert (report.stored, report.already) == (120 - stored, stored)


STUCK = """
import os, signal, sys
from e2vsearch.cli.signals import ended_by_signals
ended = []
with ended_by_signals(lambda *_: ended.append(1)):
    os.kill(os.getpid(), signal.SIGTERM)
    assert ended == [1]
    os.kill(os.getpid(), int(sys.argv[1]))
    print("still there")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_command_at_once(signal_: signal.Signals, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", STUCK, str(int(signal_))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
