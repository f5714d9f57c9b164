"""The commands that faults are injected into, each with the collection it begins with and its undisturbed outcome."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _fault_states import NOTHING, State, state_of
from _injector import Fault, apart, command

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.types import Space

DIM, PER_RECORDING = 16, 5
SPACE = Space("fake", "fake-1", DIM, ("low", "high"))
LARGE = 3_000  # segments: enough for lists
SMALL = 200
_SLOW = ("ingest, new", "index rebuild", "index tune", "embed", "db upgrade")  # left out of a quick run
_CALLS = Path(__file__).parent.parent / "samples" / "calls"
_AUDIO = ("cancel-angry.ogg", "booking-cheerful.ogg", "bereavement-sad.ogg")
_OLD = "0005"  # a schema from which `db upgrade` has several steps to go


@dataclass(frozen=True, slots=True)
class Scenario:
    """One command, run in a folder that is a copy of a template."""

    name: str
    words: tuple[str, ...]
    template: str
    made: str = "index"  # the collection that the command changes
    target: str | None = None  # what it writes beside, and refuses to write twice
    calls: int = 0  # that write, in an undisturbed run
    before: State = NOTHING
    after: State = NOTHING


@dataclass(frozen=True)
class Campaign:
    """Templates below one folder, and the scenarios on them."""

    folder: Path
    scenarios: list[Scenario] = field(default_factory=list)

    def copied(self, template: str) -> Path:
        """Return a fresh copy of a template."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(self.folder / template, work)
        return work


def prepare(folder: Path, *, quick: bool = False) -> Campaign:
    """Make the templates, and run each command once undisturbed; some of both if it has to be quick."""
    campaign = Campaign(folder)
    for name, segments in (("empty", 0), ("small", SMALL), ("large", LARGE)):
        place = folder / name
        (place / "calls").mkdir(parents=True)
        for call in _AUDIO:
            shutil.copy(_CALLS / call, place / "calls" / call)
        if segments:
            apart(lambda place=place, segments=segments: fill(place / "index", segments), place)  # type: ignore[misc]
    _steps(folder, "indexed", "large", ("index", "build", "--kind", "ivf-flat"))
    _steps(folder, "exported", "small", ("export", "export"), ("label", "calm", "seg:1", "seg:2"))
    labels = [
        ("label", name, *(f"call:{number}" for number in range(at, 40, 4))) for at, name in enumerate(("a", "b"), 1)
    ]
    if importlib.util.find_spec("sklearn") is not None and not quick:
        _steps(folder, "labelled", "small", *labels)
        _steps(folder, "trained", "labelled", ("train", "mood"))
    shutil.copytree(folder / "empty", folder / "old")
    apart(lambda: _old(folder / "old" / "index"), folder / "old")
    for scenario in _scenarios():
        if (folder / scenario.template).is_dir() and not (quick and scenario.name in _SLOW):
            campaign.scenarios.append(_undisturbed(campaign, scenario))
    return campaign


def _scenarios() -> list[Scenario]:
    fake = ("--encoder", "fake", "--workers", "1")
    return [
        Scenario("ingest, new", ("ingest", "calls", *fake), "empty"),
        Scenario("ingest, more", ("ingest", "calls", *fake), "small"),
        Scenario("index build", ("index", "build", "--kind", "ivf-flat"), "large"),
        Scenario("index rebuild", ("index", "build", "--retrain"), "indexed"),
        Scenario("index tune", ("index", "tune"), "indexed"),
        Scenario("index drop", ("index", "drop", "--yes"), "indexed"),
        Scenario("query", ("query", "seg:7", "-k", "5"), "indexed"),
        Scenario("remove", ("remove", "call:3", "call:5", "call:7", "--yes"), "indexed"),
        Scenario("export", ("export", "out"), "small", target="out"),
        Scenario("import", ("import", "export", "--index", "copy"), "exported", made="copy"),
        Scenario("backup", ("backup", "out.db"), "small", target="out.db"),
        Scenario("label", ("label", "angry", "seg:1", "seg:2", "call:3"), "small"),
        Scenario("train", ("train", "mood"), "labelled"),
        Scenario("classify", ("classify", "mood"), "trained"),
        Scenario("classifier export", ("classifier", "export", "mood", "out.npz"), "trained", target="out.npz"),
        Scenario("projection fit", ("projection", "fit", "--force"), "labelled"),
        Scenario("db upgrade", ("db", "upgrade"), "old"),
        Scenario("embed", ("embed", "calls", "-o", "out", "--encoder", "fake"), "empty"),
    ]


def _undisturbed(campaign: Campaign, scenario: Scenario) -> Scenario:
    work = campaign.copied(scenario.template)
    before = state_of(work / scenario.made / "catalog.db")
    ended = command(scenario.words, work, Fault("count"))
    if ended.code:
        raise RuntimeError(f"{scenario.name} fails undisturbed: {ended.err}")
    after = state_of(work / scenario.made / "catalog.db")
    return Scenario(
        scenario.name,
        scenario.words,
        scenario.template,
        scenario.made,
        scenario.target,
        ended.calls,
        before,
        after,
    )


def _steps(folder: Path, name: str, template: str, *steps: Sequence[str]) -> None:
    shutil.copytree(folder / template, folder / name)
    for words in steps:
        ended = command(words, folder / name)
        if ended.code:
            raise RuntimeError(f"e2vsearch {' '.join(words)} fails undisturbed: {ended.err}")


def fill(index: Path, segments: int) -> None:
    """Make a collection of so many made-up segments, around 40 centres as calls are."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, DIM))
    with e2vsearch.open(index, create=True) as collection:
        collection.catalog.pin(SPACE, "fake")
        for number in range(segments // PER_RECORDING):
            collection.catalog.store(recording(number, rng, centres))


def recording(number: int, rng: np.random.Generator, centres: np.ndarray) -> NewRecording:
    """Return a made-up recording of a few segments."""
    vectors = centres[number % len(centres)] + 0.4 * rng.standard_normal((PER_RECORDING, DIM))
    high = rng.uniform(0.1, 0.9, PER_RECORDING)
    spoken = tuple(
        NewSegment(0, 5.0 * at, 5.0 * at + 4.0, vector.astype(np.float32), np.array([1 - p, p], np.float32), -20.0)
        for at, (vector, p) in enumerate(zip(vectors, high, strict=True))
    )
    uri = f"/made/{number}.wav"
    digest = hashlib.sha256(uri.encode()).hexdigest()
    when = datetime(2024, 1, 1, tzinfo=UTC)
    metadata = {"agent": f"agent {number % 7}", "queue": "billing" if number % 2 else "sales"}
    return NewRecording(uri, str(number), digest, 1, 1, when, 25.0, 1, 8000, "made up", spoken, metadata)


def _old(index: Path) -> None:
    """Make a collection of an older schema, by the statements of that time."""
    from alembic import command as alembic
    from sqlalchemy import text

    from e2vsearch.catalog import upgrade
    from e2vsearch.catalog.database import connect

    index.mkdir()
    engine = connect(f"sqlite:///{index}/catalog.db")
    config = upgrade._config()
    with engine.execution_options(e2vsearch_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, _OLD)
        rng = np.random.default_rng(0)
        now = "2024-01-01 00:00:00"
        rows = [
            "INSERT INTO space (id, encoder, revision, dim, labels, projection, source, created_at) "
            f"VALUES (1, 'fake', 'fake-1', {DIM}, '[\"low\", \"high\"]', 'raw', 'fake', '{now}')",
            f"INSERT INTO collection (id, uuid, space_id, created_at) VALUES (1, 'a-uuid', 1, '{now}')",
        ]
        for number in range(1, 41):
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            rows.append(
                "INSERT INTO recording (id, space_id, content_sha256, uri, name, size_bytes, mtime_ns, recorded_at, "
                "added_at, duration_s, channels, sampling_rate_hz, format, note) VALUES "
                f"({number}, 1, '{digest}', '/{number}.wav', '{number}', 1, 1, '{now}', '{now}', 9, 1, 8000, 'WAV', '')"
            )
            rows.append(
                "INSERT INTO segment (id, recording_id, channel, start_s, end_s, label, label_score) "
                f"VALUES ({number}, {number}, 0, 0, 4, 'low', 0.6)"
            )
            rows.append(
                f"INSERT INTO vector (segment_id, vector) VALUES ({number}, x'"
                f"{rng.standard_normal(DIM).astype('<f4').tobytes().hex()}')"
            )
            rows.append(f"INSERT INTO change (op, segment_id, recording_id) VALUES ('+', {number}, {number})")
        for row in rows:
            connection.execute(text(row.replace(":", r"\:")))
    engine.dispose()
    with closing(engine.raw_connection()) as last:
        last.close()
