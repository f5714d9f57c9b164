"""Re-embedding: what comes out is what an ingest by the new encoder would store, and nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, speech
from numpy.typing import NDArray
from sqlalchemy import func, select

import e2vsearch
from e2vsearch.catalog import integrity, labels, spaces
from e2vsearch.catalog.beside import BesideSegmentRow, BesideVectorRow
from e2vsearch.catalog.schema import VectorRow
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import SettingsError, SpaceChanged, SpaceMismatch
from e2vsearch.ingest.activity import Activity
from e2vsearch.ingest.worker import JobReport, WorkerOptions
from e2vsearch.types import Space


class Loudness(Encoder):
    """Another space than the fake's: fewer numbers, other classes."""

    def __init__(self, revision: str = "loud-1") -> None:
        self.space = Space("loudness", revision, 5, ("calm", "loud", "odd"))

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        vectors = np.array(
            [[np.abs(x).mean(), x.std(), np.abs(np.diff(x)).mean(), np.abs(x).max(), 0.1] for x in signals], np.float32
        )
        scores = np.exp(vectors[:, :3] * 20)
        return Embeddings(vectors, (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for number in range(4):
        both = np.stack([speech(4.0, seed=number), speech(4.0, seed=9 + number, level=0.1 + 0.1 * number)])
        save(folder / f"{number}.wav", both, rate_hz=16_000)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def filled(place: object, calls: Path, encoder: Encoder | None = None) -> Collection:
    collection = e2vsearch.open(str(place), encoder=encoder or FakeEncoder(), create=True)
    collection.ingest(calls, workers=1)
    return collection


def content(collection: Collection) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What is stored of each segment in the space in use."""
    catalog = collection.catalog
    names = {recording.id: recording.name for _, recording in catalog.recordings()}
    segments = dict(catalog.segments())
    batch = catalog.feed().fetch(np.array(list(segments), np.int64))
    vectors = dict(zip(batch.ids.tolist(), batch.vectors.tolist(), strict=True))
    return {
        (names[each.recording], each.channel, each.start_s): (
            *(vectors[number], each.end_s, each.emotion, each.emotion_score, each.scores),
            *(each.arousal, each.valence, each.level_db),
        )
        for number, each in segments.items()
    }


def rows_of(collection: Collection, table: Any) -> int:
    with collection.catalog.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def generations(collection: Collection) -> list[Path]:
    return sorted(collection._views.root().rglob("generations"))


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_what_comes_out_is_what_an_ingest_stores(database_url: str, calls: Path, tmp_path: Path) -> None:
    with filled(database_url, calls) as collection, filled(tmp_path / "fresh", calls, Loudness()) as fresh:
        for each in (collection, fresh):
            each.labels.add("mine", str(save(tmp_path / "outside.wav", speech(3.0, seed=50))))
        collection.labels.add("mine", "seg:1")
        before = {each.id: each.recording for each in collection.segments()}
        collection.index.build()
        assert collection.query("seg:1")
        report = collection.spaces.reembed(Loudness(), workers=2)
        assert (report.switched, report.recordings, report.already, report.missing) == (True, 4, 0, ())
        assert report.segments == len(before)
        assert collection.space == Loudness().space
        assert content(collection) == content(fresh)
        assert {each.id: each.recording for each in collection.segments()} == before
        assert [hit.name for hit in collection.query("seg:1", k=3)] == [hit.name for hit in fresh.query("seg:1", k=3)]
        assert [each.label for each in collection.segments("seg:1")] == ["mine"]
        assert all(check.ok for check in integrity.verify(collection.catalog))
        ours, theirs = (labels.examples(each.catalog)[0] for each in (collection, fresh))
        np.testing.assert_allclose(ours.vector, theirs.vector, rtol=0.02)
        # the former space is gone, and the index is of the new one
        assert rows_of(collection, VectorRow) == rows_of(collection, BesideSegmentRow) == 0
        assert rows_of(collection, BesideVectorRow) == len(before)
        assert spaces.beside(collection.catalog) is None
        assert [path.parent.name for path in generations(collection)] == ["beside"]
        status = collection.index.status()
        assert (status.n, status.tail, status.damage) == (len(before), 0, None)
        # and back, to the first table
        again = collection.spaces.reembed(FakeEncoder())
        assert (again.switched, again.recordings, collection.space) == (True, 4, FakeEncoder().space)
        assert rows_of(collection, BesideVectorRow) == 0
        assert [path.parent.name for path in generations(collection)] != ["beside"]


@pytest.mark.usefixtures("cache")
def test_queries_are_answered_throughout(database_url: str, calls: Path) -> None:
    """Another process' worth of a collection asks on and on: each answer is wholly of the one space or the other."""
    with filled(database_url, calls) as collection, e2vsearch.open(database_url) as other:
        expected = {"before": scored(collection)}
        answers: list[list[tuple[str, float]]] = []
        stop, failed = threading.Event(), []

        def ask() -> None:
            try:
                while not stop.is_set():
                    answers.append(scored(other))
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            report = collection.spaces.reembed(Loudness())
            expected["after"] = scored(collection)
            seen = len(answers)
            while len(answers) < seen + 3 and thread.is_alive():
                stop.wait(0.01)
        finally:
            stop.set()
            thread.join()
        assert report.switched
        assert not failed
        assert expected["before"] != expected["after"]
        assert all(answer in expected.values() for answer in answers)
        assert (answers[0], answers[-1]) == (expected["before"], expected["after"])
        assert other.space == Loudness().space


def scored(collection: Collection) -> list[tuple[str, float]]:
    return [(hit.segment, round(hit.score or 0, 5)) for hit in collection.query("seg:1", k=20, by="segment")]


@pytest.mark.usefixtures("cache")
def test_what_comes_and_goes_meanwhile_is_caught_up_with(database_url: str, calls: Path, tmp_path: Path) -> None:
    late = save(tmp_path / "late.wav", speech(3.0, seed=77))
    with filled(database_url, calls) as collection, e2vsearch.open(database_url, encoder=FakeEncoder()) as other:
        collection.index.build()
        done: list[str] = []

        def meanwhile(stage: str, _done: int, _total: int) -> None:
            if stage != "recordings" and not done:  # the new index is being built: all before has its vectors
                done.append(stage)
                other.ingest(late)
                other.remove("call:2")

        report = collection.spaces.reembed(Loudness(), progress=meanwhile)
        assert done
        assert report.switched
        with filled(tmp_path / "fresh", calls, Loudness()) as fresh:
            fresh.ingest(late)
            fresh.remove("call:2")
            assert content(collection) == content(fresh)
        names = {hit.name for hit in collection.query("seg:1", k=9, include_self=True)}
        assert names == {"0", "2", "3", "late"}
        assert all(check.ok for check in integrity.verify(collection.catalog))
        assert collection.index.status().damage is None


@pytest.mark.usefixtures("cache")
def test_an_ingest_with_the_former_encoder_ends_in_one_line(database_url: str, calls: Path, tmp_path: Path) -> None:
    late = save(tmp_path / "late.wav", speech(3.0, seed=77))
    with filled(database_url, calls) as collection, e2vsearch.open(database_url, encoder=FakeEncoder()) as stale:
        done: list[bool] = []

        def switch(activity: Activity) -> None:
            if activity.at_work and not done:  # it is being read, with the former encoder
                done.append(collection.spaces.reembed(Loudness()).switched)

        with pytest.raises(SpaceChanged, match=r"was re-embedded meanwhile.*run this again, with --encoder loudness"):
            stale.ingest(late, workers=1, activity=switch)
        assert done == [True]
        assert len(collection.recordings()) == 4
        with (
            e2vsearch.open(database_url, encoder=FakeEncoder()) as again,
            pytest.raises(SpaceMismatch, match=r"not of fake@.*e2vsearch reembed --encoder fake"),
        ):
            again.ingest(late)


@pytest.mark.usefixtures("cache")
def test_a_worker_gives_back_what_it_has_read_with_the_former_encoder(
    database_url: str, calls: Path, tmp_path: Path
) -> None:
    late = [save(tmp_path / f"late-{number}.wav", speech(3.0, seed=70 + number)) for number in range(2)]
    with filled(database_url, calls) as collection, e2vsearch.open(database_url, encoder=FakeEncoder()) as stale:
        stale.queue.add(*late)
        done: list[str] = []

        def switch(report: JobReport) -> None:
            if not done:
                done.append(report.outcome)
                collection.spaces.reembed(Loudness())

        with pytest.raises(SpaceChanged, match="was re-embedded meanwhile"):
            stale.queue.work(WorkerOptions(workers=1, drain=True), done=switch)
        assert done == ["stored"]
        depth = collection.queue.state().depth
        assert (depth.queued, depth.leased, depth.dead_letters) == (1, 0, 0)
        assert len(collection.recordings()) == 5
        assert collection.queue.work(WorkerOptions(workers=1, drain=True)).stored == 1
        assert all(check.ok for check in integrity.verify(collection.catalog))


@pytest.mark.usefixtures("cache")
def test_missing_audio_is_named_and_holds_up_the_switch(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    for path in calls.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    outside = save(tmp_path / "outside.wav", speech(3.0, seed=50))
    with filled(database_url, folder) as collection:
        collection.labels.add("mine", str(outside))
        collection.labels.add("mine", "seg:1")
        assert len(spaces.file_examples(collection.catalog)) == 1
        (folder / "1.wav").unlink()
        save(folder / "2.wav", speech(4.0, seed=99))
        planned = collection.spaces.plan(Loudness())
        assert [Path(each.uri).name for each in planned.missing] == ["1.wav"]
        held = collection.spaces.reembed(Loudness())
        assert not held.switched
        assert [(each.message.partition(":")[0], each.reason) for each in held.missing] == [("call", "missing")] * 2
        assert "holds something else" in held.missing[1].message
        assert collection.space == FakeEncoder().space
        assert len(collection.query("seg:1", k=9)) == 4
        outside.unlink()
        done = collection.spaces.reembed(Loudness(), allow_missing=True)
        assert (done.switched, done.recordings, done.already, done.removed) == (True, 0, 2, 3)
        assert sorted(each.name for each in collection.recordings()) == ["0", "3"]
        assert not spaces.file_examples(collection.catalog)
        assert all(check.ok for check in integrity.verify(collection.catalog))
        assert collection.ingest(folder, workers=1).stored == 1  # what came back is added again
    for path in folder.iterdir():
        path.unlink()
    with (
        e2vsearch.open(database_url) as collection,
        pytest.raises(SettingsError, match="is a disk or share missing"),
    ):
        collection.spaces.reembed(FakeEncoder(), allow_missing=True)


@pytest.mark.usefixtures("cache")
def test_what_is_kept_is_gone_back_to_at_once(database_url: str, calls: Path) -> None:
    with filled(database_url, calls) as collection:
        collection.index.build()
        before = content(collection)
        kept = collection.spaces.reembed(Loudness(), keep_old=True)
        assert (kept.switched, kept.kept) == (True, True)
        after = content(collection)
        with pytest.raises(SettingsError, match=r"still holds vectors of fake.*--discard"):
            collection.spaces.reembed(Loudness("loud-2"))
        assert all(check.ok for check in integrity.verify(collection.catalog))
        back = collection.spaces.reembed(FakeEncoder(), keep_old=True)
        assert (back.switched, back.recordings, back.already) == (True, 0, 4)
        assert content(collection) == before
        collection.spaces.reembed(Loudness(), keep_old=True)
        assert content(collection) == after
        assert str(collection.spaces.discard()) == str(FakeEncoder().space)
        assert rows_of(collection, VectorRow) == rows_of(collection, BesideSegmentRow) == 0
        assert collection.spaces.discard() is None


@pytest.mark.usefixtures("cache")
def test_what_is_forgotten_is_gone_from_both_spaces(calls: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "index", calls) as collection:
        collection.index.build()
        collection.spaces.reembed(Loudness(), keep_old=True)
        gone = collection.catalog.segments_of([1])[0].tolist()
        assert len(collection.index.generations_with(gone)) == 2
        proof = collection.forget("call:1").proof
        assert proof is not None
        assert (proof.traces > 0, proof.left) == (True, ())
        assert collection.index.generations_with(gone) == []
        stored = collection.catalog.segment_count()
        assert rows_of(collection, VectorRow) == rows_of(collection, BesideVectorRow) == stored
        assert collection.spaces.reembed(FakeEncoder()).switched  # its index is built again


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import e2vsearch
from e2vsearch.spaces import run
from test_reembed import Loudness

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

when = sys.argv[2]
def progress(stage, done, total):
    if (when == "middle" and stage == "recordings" and done == 2) or (when == "index" and stage != "recordings"):
        kill()
if when == "switched":
    run.clean = lambda catalog, index: kill() if run.spaces.beside(catalog) is not None else ""
with e2vsearch.open(sys.argv[1]) as collection:
    collection.spaces.reembed(Loudness(), workers=1, progress=progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["middle", "index", "switched"])
def test_kill_9_loses_nothing(calls: Path, tmp_path: Path, when: str) -> None:
    place = tmp_path / "index"
    with filled(place, calls) as collection:
        collection.index.build()
    script = KILLED.format(tests=str(Path(__file__).parent))
    ran = subprocess.run([sys.executable, "-c", script, str(place), when], env=dict(os.environ), capture_output=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    with e2vsearch.open(place) as collection:
        assert len(scored(collection)) > 4
        used = Loudness() if when == "switched" else FakeEncoder()
        assert collection.space == used.space
        assert rows_of(collection, VectorRow) > 0 < rows_of(collection, BesideVectorRow)
        done = collection.spaces.reembed(Loudness())
        assert done.switched
        assert (done.recordings, done.already) == {"middle": (2, 2), "index": (0, 4), "switched": (0, 4)}[when]
        assert rows_of(collection, VectorRow) == rows_of(collection, BesideSegmentRow) == 0
        assert [path.parent.name for path in generations(collection)] == ["beside"]
        assert all(check.ok for check in integrity.verify(collection.catalog))
        with filled(tmp_path / "fresh", calls, Loudness()) as fresh:
            assert content(collection) == content(fresh)


def test_stopped_it_goes_on(calls: Path, tmp_path: Path) -> None:
    with filled(tmp_path / "index", calls) as collection:
        stop = threading.Event()
        report = collection.spaces.reembed(Loudness(), workers=1, stop=stop, progress=lambda *_: stop.set())
        assert (report.interrupted, report.switched, collection.space) == (True, False, FakeEncoder().space)
        status = collection.status()
        assert f"re-embedding to {Loudness().space}: {report.recordings} of 4 recordings" in status.beside
        with pytest.raises(SettingsError, match=r"is being re-embedded to loudness.*--encoder loudness.*--discard"):
            collection.spaces.reembed(Loudness("loud-2"))
        assert collection.spaces.reembed(Loudness()).already == report.recordings


@pytest.mark.slow
def test_command_line(run: Run, calls: Path, tmp_path: Path) -> None:
    place = tmp_path / "index"
    filled(place, calls).close()
    index = ("--index", place)
    assert run("reembed", *index).code == 2
    plan = run("reembed", "--encoder", "light", "--dry-run", *index)
    assert (plan.code, plan.rows[0]["recordings"], plan.rows[0]["missing"]) == (0, 4, [])
    done = run("reembed", "--encoder", "light", "--workers", 2, "--keep-old", *index)
    assert (done.code, done.rows[0]["switched"], done.rows[0]["kept"]) == (0, True, True)
    assert "reembed --discard" in done.err
    status = run("status", *index, "--format", "table")
    assert "light@" in status.out
    assert "fake@" in status.out
    assert run("query", calls / "0.wav", *index).rows[0]["name"] == "0"
    gone = run("reembed", "--discard", *index)
    assert (gone.code, gone.rows[0]["deleted"][:5]) == (0, "fake@")
    again = run("reembed", "--encoder", "light", *index)
    assert (again.code, again.rows[0]["already"]) == (0, 4)
