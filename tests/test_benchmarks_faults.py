"""The benchmark of faults sees what it is there to see: losses, doubles, and what was made up."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from small_collection import make_collection

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from _fault_states import NOTHING, State, answers, compared, state_of


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def state(index: Path) -> State:
    return state_of(index / "catalog.db")


def test_a_sound_collection(index: Path, state: State) -> None:
    assert (len(state.recordings), len(state.segments), state.problems) == (4, 12, ())
    assert compared(state, state, state) == []
    assert compared(NOTHING, NOTHING, state) == []  # killed before the first commit
    assert answers(index) == []


def test_what_is_wrong(state: State) -> None:
    key, vector = next(iter(state.segments.items()))
    rest = {each: value for each, value in state.segments.items() if each != key}
    fewer = dict(list(state.recordings.items())[1:])
    kept = {each: value for each, value in state.segments.items() if each[0] in fewer}
    for found, problem in (
        (replace(state, segments=rest), "LOST: 1 segments of recordings that are there"),
        (replace(state, recordings=fewer, segments=kept), "LOST: 1 recordings"),
        (replace(state, segments={**rest, key: vector[::-1]}), "SILENT WRONG: 1 segments or vectors that never were"),
        (
            replace(state, recordings={**state.recordings, "0" * 64: "made up"}),
            "SILENT WRONG: 1 recordings that never were",
        ),
    ):
        assert compared(found, state, state) == [problem]


def test_what_is_wrong_in_a_file(index: Path, tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    with closing(sqlite3.connect(index / "catalog.db")) as source, closing(sqlite3.connect(file)) as copy:
        source.backup(copy)
        copy.execute("INSERT INTO change (op, segment_id, recording_id) VALUES ('-', 3, 1)")
        copy.execute("UPDATE segment SET start_s = (SELECT start_s FROM segment WHERE id = 1) WHERE id = 2")
        copy.execute("DELETE FROM vector WHERE segment_id = 9")
        copy.commit()
    kinds = [problem.partition(": ")[0] for problem in state_of(file).problems]
    assert kinds == ["DOUBLED", "LOST", "LOST"]
