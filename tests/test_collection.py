"""An open collection: every kind of reference, calls and moments, filters, comparison, export and import."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import RATE_HZ, call, save, silence, sine, speech, wav_bytes

import e2vsearch
from e2vsearch import audio
from e2vsearch.catalog import NewRecording, NewSegment, carry, projections, sides, texts
from e2vsearch.collection import transfer
from e2vsearch.collection.findings import Findings
from e2vsearch.collection.places import locate
from e2vsearch.errors import (
    AudioNotFound,
    BadFilter,
    ExportError,
    NoCollection,
    NotStored,
    QueryError,
    SettingsError,
    SpaceMismatch,
)
from e2vsearch.ingest import Collection
from e2vsearch.projections import unit
from e2vsearch.projections.parts import Parts
from e2vsearch.space import Space
from e2vsearch.speech import SpeechOptions
from e2vsearch.vectors import IndexOptions

PITCHES_HZ = (90.0, 130.0, 180.0)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three calls of one voice each, several turns long, and one of two voices."""
    folder = tmp_path_factory.mktemp("calls")
    for number, pitch in enumerate(PITCHES_HZ):
        turns = [speech(3.0, seed=number * 10 + turn, pitch_hz=pitch) for turn in range(3)]
        save(folder / f"voice{number}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.5))]))
    save(folder / "pair.flac", call([(0, 0.5, 4.0), (1, 5.0, 9.0), (0, 10.0, 13.0)], 14.0))
    return folder


@pytest.fixture
def collection(database_url: str, tmp_path: Path, calls: Path) -> Collection:
    with e2vsearch.open(database_url, encoder="fake") as collection:
        report = collection.ingest(calls)
        assert (report.stored, report.failures) == (4, ())
        yield collection


def test_a_cut_finds_its_call_and_moment(collection: Collection, calls: Path, tmp_path: Path) -> None:
    segment = collection.segments(collection.find(str(calls / "voice1.wav"))[0].id)[1]
    cut = save(tmp_path / "cut.wav", audio.cut(calls / "voice1.wav", segment.start_s, segment.end_s))
    result = collection.query(cut, k=3)
    assert result[0].name == "voice1"
    assert result[0].start_s < segment.end_s
    assert result[0].end_s > segment.start_s
    assert result[0].score > 0.999
    assert [hit.score for hit in result] == sorted((hit.score for hit in result), reverse=True)
    assert len({hit.recording for hit in result}) == 3
    assert result.searched == result.total == collection.status().counts.segments


def test_a_stored_segment_leaves_itself_out(collection: Collection) -> None:
    without = collection.query("seg:1", by="segment", k=100)
    assert "seg:1" not in [hit.segment for hit in without]
    assert len(without) == without.searched == collection.status().counts.segments - 1
    itself = collection.query("seg:1", by="segment", k=100, include_self=True)
    assert itself[0].segment == "seg:1"
    assert itself[0].score == pytest.approx(1.0, abs=1e-6)
    assert len(itself) == len(without) + 1
    # by call, only the segment is left out, not its call
    first = collection.query("seg:1", k=10)
    assert len(first) == 4
    assert all(hit.segment != "seg:1" for hit in first)


def test_a_stored_call_leaves_itself_out(collection: Collection) -> None:
    without = collection.query("call:1", k=10)
    assert "call:1" not in [hit.recording for hit in without]
    assert len(without) == 3
    itself = collection.query("call:1", k=10, include_self=True)
    assert itself[0].recording == "call:1"
    assert itself[0].score == pytest.approx(1.0, abs=1e-6)


def test_every_kind_of_reference_gives_the_same(collection: Collection, tmp_path: Path) -> None:
    clip = speech(3.0, seed=11, pitch_hz=130.0)
    path = save(tmp_path / "a clip.wav", clip, subtype="FLOAT")
    vectors = np.stack([moment.vector for moment in collection.hear(path).moments])
    assert len(vectors) == 1
    np.save(tmp_path / "ref.npy", vectors[0])
    expected = [(hit.segment, round(hit.score, 5)) for hit in collection.query(path)]
    for reference in (
        str(path),
        path.as_uri(),
        wav_bytes(clip, subtype="FLOAT"),
        clip,
        clip[None],
        tmp_path / "ref.npy",
        vectors,
        vectors[0].astype(np.float64),
        vectors[0].tolist(),
    ):
        hits = collection.query(reference)
        assert [(hit.segment, round(hit.score, 5)) for hit in hits] == expected, type(reference)


def test_late_interaction_is_the_mean_of_best_matches(collection: Collection) -> None:
    catalog = collection.catalog
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((3, 16)).astype(np.float32)
    ids, recordings = catalog.segments_of([1, 2, 3, 4])
    batch = catalog.feed().fetch(ids)
    unit = batch.vectors.astype(np.float64) / np.linalg.norm(batch.vectors.astype(np.float64), axis=1, keepdims=True)
    wanted = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    cosines = wanted @ unit.T
    scores = {f"call:{call}": cosines[:, recordings == call].max(axis=1).mean() for call in np.unique(recordings)}
    result = collection.query(reference, k=4)
    assert {hit.recording: hit.score for hit in result} == pytest.approx(scores, abs=1e-6)
    assert [hit.recording for hit in result] == sorted(scores, key=lambda call: -scores[call])
    for hit in result:
        own = ids[recordings == int(hit.recording.removeprefix("call:"))]
        best = own[np.argmax(cosines[:, np.isin(ids, own)].max(axis=0))]
        assert hit.segment == f"seg:{best}"
        assert hit.moment_score == pytest.approx(cosines[:, ids == best].max(), abs=1e-6)


def test_late_interaction_keeps_to_the_filter(collection: Collection) -> None:
    reference = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    hits = collection.query(reference, where="channel = 1", k=10)
    assert [hit.channel for hit in hits] == [1]
    [only] = hits
    ids = collection.catalog.select("channel = 1")
    cosines = collection.index().scores(reference, ids)
    assert only.score == pytest.approx(cosines.max(axis=1).mean(), abs=1e-6)


def test_several_references_count_as_one(collection: Collection) -> None:
    together = collection.query("seg:1", "seg:5", k=4)
    vectors = collection.catalog.feed().fetch(np.array([1, 5])).vectors
    excluded = {"seg:1", "seg:5"}
    assert not excluded & {hit.segment for hit in together}
    assert together.reference == ("seg:1", "seg:5")
    kept = collection.query(vectors, k=4)
    assert {hit.recording for hit in kept} == {hit.recording for hit in together}


def test_filters_hold_for_every_hit(collection: Collection) -> None:
    result = collection.query("seg:1", by="segment", where="channel = 1", k=50)
    assert len(result) >= 1
    assert {hit.channel for hit in result} == {1}
    assert result.searched == len(result) < result.total
    assert result.where == "channel = 1"
    assert len(collection.query("seg:1", where="name = voice2")) == 1
    assert len(collection.query("seg:1", where="name = nobody")) == 0
    with pytest.raises(BadFilter):
        collection.query("seg:1", where="nonsense")


def test_one_long_call_does_not_fill_the_list(collection: Collection) -> None:
    vector = np.ones(16, np.float32)
    rng = np.random.default_rng(0)
    near = tuple(
        NewSegment(0, float(at), at + 1.0, vector + 0.01 * rng.standard_normal(16).astype(np.float32))
        for at in range(1500)
    )
    recording = collection.find(where="name = voice0")[0]
    fields = {name: getattr(recording, name) for name in NewRecording.__slots__ if hasattr(recording, name)}
    fields |= {"uri": "/long.wav", "content_sha256": "f" * 64, "segments": near}
    collection.catalog.store(NewRecording(**fields))
    assert len(collection.query(vector, k=5)) == 5


BAD_REFERENCES: list[tuple[e2vsearch.collection.AudioQuery, type[Exception], str]] = [
    ("seg:999", NotStored, "seg:999"),
    ("call:999", NotStored, "call:999"),
    ("seg:x", NotStored, "seg:NUMBER"),
    ("no such.wav", AudioNotFound, "no such.wav"),
    ("s3://bucket/a.wav", QueryError, "file://"),
    (np.ones((2, 3, 4), np.float32), e2vsearch.E2vsearchError, ""),
    (np.full(16, np.nan, np.float32), QueryError, "NaN"),
    ([1.0, 2.0], QueryError, "2 numbers"),
    (wav_bytes(silence(3.0)), QueryError, "no speech"),
]


def test_references_that_cannot_be(collection: Collection) -> None:
    for reference, error, says in BAD_REFERENCES:
        with pytest.raises(error) as caught:
            collection.query(reference)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_queries_that_make_no_sense(collection: Collection) -> None:
    with pytest.raises(QueryError, match="reference"):
        collection.query()
    with pytest.raises(QueryError, match="k must be"):
        collection.query("seg:1", k=0)
    with pytest.raises(QueryError, match="by call or by segment"):
        collection.query("seg:1", by="agent")  # type: ignore[arg-type]


def test_vectors_of_another_dimension_are_refused(collection: Collection, tmp_path: Path) -> None:
    np.save(tmp_path / "ref.npy", np.ones(384, np.float32))
    with pytest.raises(e2vsearch.E2vsearchError, match="384"):
        collection.query(tmp_path / "ref.npy")


def test_another_encoder_is_refused(collection: Collection, database_url: str) -> None:
    from e2vsearch.encoders.fake import FakeEncoder

    with (
        e2vsearch.open(database_url, encoder=FakeEncoder("fake-2")) as other,
        pytest.raises(SpaceMismatch, match=r"--encoder fake.*--index"),
    ):
        other.query(sine(2.0))


def test_removed_calls_are_not_found(collection: Collection, calls: Path) -> None:
    vector = np.ones(16, np.float32)
    before = collection.query(vector, k=10)
    assert collection.remove(before[0].recording) == 1
    after = collection.query(vector, k=10)
    assert len(after) == len(before) - 1
    assert before[0].recording not in [hit.recording for hit in after]
    assert collection.remove(str(calls)) == 3
    for gone in ("call:1", str(calls)):
        with pytest.raises(NotStored, match="is not in"):
            collection.remove(gone)
    assert collection.status().counts.recordings == 0


def test_the_index_is_built_and_answers_the_same(collection: Collection) -> None:
    before = collection.query("seg:1", by="segment", k=100)
    collection.build("flat")
    assert collection.status().index.kind == "flat"
    assert collection.index().verify() == []
    after = collection.query("seg:1", by="segment", k=100)
    assert [(hit.segment, hit.score) for hit in after] == [(hit.segment, pytest.approx(hit.score)) for hit in before]


def test_compare(collection: Collection, calls: Path) -> None:
    same = collection.compare(calls / "voice0.wav", calls / "voice0.wav")
    assert same.score == pytest.approx(1.0)
    assert same.best == pytest.approx(1.0)
    other = collection.compare(calls / "voice0.wav", calls / "voice2.wav")
    assert other.score < 1.0
    assert (other.a.segments, other.b.segments) == (3, 3)
    assert other.a.emotion in ("low", "high")
    assert 0.5 <= other.a.emotion_score <= 1.0
    with pytest.raises(QueryError, match="no speech"):
        collection.compare(calls / "voice0.wav", wav_bytes(silence(2.0)))


def turned(dim: int) -> Parts:
    """A projection of random directions."""
    rng = np.random.default_rng(0)
    centre, directions = rng.random(dim, np.float32), rng.standard_normal((dim, 3)).astype(np.float32)
    return Parts("fitted", "turned", centre, directions, np.empty((dim, 0), np.float32), 0.0)


def use(collection: Collection, projection: Parts) -> None:
    stored = ("turned", projection.kind, projection.revision, projection.pack(), {}, projections.now())
    projections.put(collection.catalog, projections.StoredProjection(*stored))
    projections.use(collection.catalog, "turned")


def test_compare_goes_through_the_projection_in_use(collection: Collection, calls: Path) -> None:
    clips = calls / "voice0.wav", calls / "voice2.wav"
    raw = collection.compare(*clips)
    assert raw.space.projection == "raw"
    projection = turned(16)
    use(collection, projection)
    found = collection.compare(*clips)
    assert found.space.projection == f"turned@{projection.revision[:12]}"
    units = [
        unit(projection.apply(np.stack([moment.vector for moment in collection.hear(clip).moments]))) for clip in clips
    ]
    assert found.best == pytest.approx((units[0] @ units[1].T).max(), abs=1e-5)
    assert abs(found.score - raw.score) > 1e-3


def test_clips_are_compared_as_the_collection_at_hand_compares(run: Run, calls: Path, tmp_path: Path) -> None:
    """Through its projection where it has one and knows the encoder's vectors; raw otherwise, and told so."""
    clips = calls / "voice0.wav", calls / "voice2.wav"
    index = tmp_path / "index"

    def compared(*options: object) -> tuple[dict[str, Any], str]:
        done = run("compare", *clips, *options)
        assert done.code == 0, done.err
        return done.rows[0], done.err.strip()

    alone, said = compared("--encoder", "fake", "--index", index)
    assert alone["space"]["projection"] == "raw"
    assert said == f"compared raw, as the encoder made the vectors: no collection in {index}"
    with e2vsearch.open(index, encoder="fake") as collection:
        collection.ingest(calls)
        plain, said = compared("--index", index)
        assert (plain, said) == (alone, f"compared raw, as the encoder made the vectors: {index} uses no projection")
        use(collection, turned(16))
        expected = asdict(collection.compare(*clips))
    found, said = compared("--index", index)
    assert found == json.loads(json.dumps(expected))
    assert found["score"] != alone["score"]
    name = found["space"]["projection"]
    assert name.startswith("turned@")
    assert said == f"compared through {name}: {index} uses the projection turned"
    table = run("compare", *clips, "--index", index, "-f", "table", "-q")
    assert f"{found['score']:.4f}" in table.out
    assert f", {name})" in table.out.splitlines()[0]
    assert table.err == ""
    with e2vsearch.open(tmp_path / "other") as other:
        other.catalog.pin(Space("fake", "another revision", 16, ("low", "high")), "fake")
    strange, said = compared("--encoder", "fake", "--index", tmp_path / "other")
    assert strange == alone
    assert "other holds vectors of another space: fake@another" in said
    with e2vsearch.open(tmp_path / "empty"):
        pass
    empty, said = compared("--encoder", "fake", "--index", tmp_path / "empty")
    assert (empty, said.endswith("empty holds no recordings yet")) == (alone, True)


def test_export_and_import_are_lossless(collection: Collection, tmp_path: Path) -> None:
    first = collection.find(where="name = voice0")[0]
    collection.catalog.annotate(int(first.id.removeprefix("call:")), {"agent": "Kïm", "price": "3.50"})
    done = transfer.export(collection.catalog, tmp_path / "export")
    assert (done.recordings, done.segments) == (4, collection.status().counts.segments)
    with e2vsearch.open(tmp_path / "copy") as copy:
        assert transfer.load(copy.catalog, tmp_path / "export").segments == done.segments
        again = transfer.load(copy.catalog, tmp_path / "export")
        assert (again.recordings, again.already) == (0, 4)
        assert copy.space == collection.space
        transfer.export(copy.catalog, tmp_path / "again")
        assert [_without_ids(tmp_path / "again", name) for name in ("recordings", "segments")] == [
            _without_ids(tmp_path / "export", name) for name in ("recordings", "segments")
        ]
        for name in ("vectors.npy", "scores.npy"):
            assert np.array_equal(np.load(tmp_path / "again" / name), np.load(tmp_path / "export" / name))
        hits = copy.query("seg:1", k=3)
        assert [hit.score for hit in hits] == [hit.score for hit in collection.query("seg:1", k=3)]


@pytest.fixture
def other_url(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a second empty database of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    import psycopg

    postgres_url = request.getfixturevalue("postgres_url")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE other TEMPLATE template0")
        try:
            yield postgres_url.replace("/postgres?", "/other?")
        finally:
            connection.execute("DROP DATABASE other WITH (FORCE)")


@pytest.fixture
def found(collection: Collection) -> Collection:
    """A collection in which people found something: transcripts, labels, classifiers, side vectors."""
    catalog = collection.catalog
    texts.put(catalog, 1, {1: "I want a refund", 2: '我要退款 "now"'})
    when = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
    vector = np.arange(16, dtype="<f4")
    carry.add_examples(
        catalog,
        [
            carry.Example("hesitant", 1, None, "seg:1", "Kim", when),
            carry.Example("calm", None, vector.tobytes(), "/elsewhere/a.wav@1.0-2.0", None, when),
            carry.Example("hesitant", 3, None, "seg:3", None, when),
            carry.Example("calm", None, (vector + 1).tobytes(), "/elsewhere/a.wav@3.0-4.0", "Lee", when),
        ],
    )
    for version in (1, 2):
        parameters = io.BytesIO()
        np.savez(parameters, weights=np.full((2, 16), version))
        classifier = carry.Classifier(
            "labels", version, ("calm", "hesitant"), parameters.getvalue(), {"accuracy": 0.5, "n": [1]}, 0.25, when
        )
        number, _ = carry.add_classifier(catalog, classifier)
    carry.add_said(catalog, number, [carry.Said(2, "calm", 0.75), carry.Said(4, "hesitant", 0.5)])
    collection.attach("text", [1, 2, 5], np.arange(9).reshape(3, 3))
    collection.attach("screen", [4], np.ones((1, 2)))
    return collection


def _findings(collection: Collection) -> dict[str, object]:
    """All of it, a segment being called by where it is."""
    catalog = collection.catalog
    where = {
        number: (collection.recording(segment.recording).name, segment.channel, segment.start_s)
        for number, segment in catalog.segments()
    }
    classifiers = carry.classifiers(catalog)
    return {
        "texts": {where[number]: segment.text for number, segment in catalog.segments() if segment.text},
        "examples": [(where.get(each.segment or 0), replace(each, segment=0)) for each in carry.examples(catalog)],
        "classifiers": [classifier for _, classifier in classifiers],
        "said": [
            [(where[each.segment], each.label, each.score) for each in carry.said_by(catalog, number)]
            for number, _ in classifiers
        ],
        "sides": [
            (
                side,
                [
                    (where[number], row.tolist())
                    for ids, rows in sides.batches(catalog, side)
                    for number, row in zip(ids.tolist(), rows, strict=True)
                ],
            )
            for side in collection.sides()
        ],
    }


def test_what_was_found_is_exported_and_imported(found: Collection, tmp_path: Path, other_url: str) -> None:
    done = transfer.export(found.catalog, tmp_path / "export")
    assert done.found == Findings(labels=4, classifiers=2, sides=2)
    with e2vsearch.open(other_url) as copy:
        # ids are others here: something was there before
        copy.catalog.pin(found.space, "fake")
        before = tuple(NewSegment(0, float(at), at + 1.0, np.ones(16, np.float32)) for at in range(7))
        when = datetime(2024, 3, 1, tzinfo=UTC)
        copy.catalog.store(NewRecording("/b.wav", "b", "b" * 64, 1, 1, when, 9.0, 1, 8000, "WAV", before))
        assert transfer.load(copy.catalog, tmp_path / "export").found == done.found
        copy.remove(where="name = b")
        assert _findings(copy) == _findings(found)
        again = transfer.load(copy.catalog, tmp_path / "export")
        assert (again.already, again.found) == (4, Findings())
        assert _findings(copy) == _findings(found)
        assert [hit.segment for hit in copy.query("emotion:low", text="refund", by="segment")] == [
            segment.id for _, segment in copy.catalog.segments() if segment.text == "I want a refund"
        ]


def test_an_import_adds_what_is_missing_and_changes_nothing(found: Collection, tmp_path: Path) -> None:
    transfer.export(found.catalog, tmp_path / "export")
    wanted = _findings(found)
    catalog = found.catalog
    texts.put(catalog, 1, {1: "Something else"})
    found.detach("screen")
    found.attach("text", [1], np.full((1, 3), 7.0))
    transfer.load(catalog, tmp_path / "export")
    now = _findings(found)
    assert sorted(now["texts"].values()) == ["Something else", '我要退款 "now"']
    assert [side.name for side in found.sides()] == ["screen", "text"]
    text = {side.name: dict(rows) for side, rows in now["sides"]}["text"]
    assert [7.0, 7.0, 7.0] in text.values()
    assert (now["examples"], now["classifiers"]) == (wanted["examples"], wanted["classifiers"])


def test_a_classifier_of_the_same_version_becomes_the_next(found: Collection, tmp_path: Path) -> None:
    transfer.export(found.catalog, tmp_path / "export")
    with e2vsearch.open(tmp_path / "copy") as copy:
        copy.catalog.pin(found.space, "fake")
        [(_, one), _] = carry.classifiers(found.catalog)
        carry.add_classifier(copy.catalog, replace(one, parameters=b"another"))
        assert transfer.load(copy.catalog, tmp_path / "export").found.classifiers == 2
        assert [each.version for _, each in carry.classifiers(copy.catalog)] == [1, 2, 3]


def test_an_export_of_format_1_is_read(found: Collection, tmp_path: Path) -> None:
    transfer.export(found.catalog, tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text(encoding="utf-8"))
    kept = {"recordings.jsonl", "segments.jsonl", "vectors.npy", "scores.npy"}
    manifest |= {"format": 1, "sha256": {name: manifest["sha256"][name] for name in kept}}
    lines = (tmp_path / "export" / "segments.jsonl").read_text(encoding="utf-8").splitlines()
    plain = [{key: value for key, value in json.loads(line).items() if key != "text"} for line in lines]
    (tmp_path / "old").mkdir()
    for name in kept - {"segments.jsonl"}:
        shutil.copy(tmp_path / "export" / name, tmp_path / "old" / name)
    old = "".join(json.dumps(row) + "\n" for row in plain)
    (tmp_path / "old" / "segments.jsonl").write_text(old, encoding="utf-8")
    manifest["sha256"]["segments.jsonl"] = hashlib.sha256(old.encode()).hexdigest()
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with e2vsearch.open(tmp_path / "copy") as copy:
        done = transfer.load(copy.catalog, tmp_path / "old")
        assert (done.recordings, done.found) == (4, Findings())
        assert copy.status().transcribed == 0
    manifest["format"] = 3
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ExportError, match="format 3, this version reads up to 2"):
        transfer.read_space(tmp_path / "old")


def _without_ids(folder: Path, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "id"} for line in lines]


def test_damaged_exports_are_refused(collection: Collection, tmp_path: Path) -> None:
    transfer.export(collection.catalog, tmp_path / "export")
    with pytest.raises(ExportError, match="exists already"):
        transfer.export(collection.catalog, tmp_path / "export")
    with (tmp_path / "export" / "vectors.npy").open("r+b") as file:
        file.seek(-4, io.SEEK_END)
        file.write(b"\0\0\0\1")
    with (
        e2vsearch.open(tmp_path / "copy") as copy,
        pytest.raises(ExportError, match=r"vectors\.npy is missing or damaged"),
    ):
        transfer.load(copy.catalog, tmp_path / "export")
    with pytest.raises(ExportError, match="no export"):
        transfer.read_space(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_places(tmp_path: Path) -> None:
    assert locate(tmp_path / "x").folder == tmp_path / "x"
    place = locate("postgresql://me:secret@host/x")
    assert (place.folder, place.named) == (None, "postgresql://me:***@host/x")
    assert place.cached(str(tmp_path), "uuid") == tmp_path / "uuid"
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="is a file"):
        locate(tmp_path / "file")
    with pytest.raises(e2vsearch.E2vsearchError, match="mysql is not supported"):
        locate("mysql://host/x")


def test_a_folder_may_have_any_name(tmp_path: Path, calls: Path) -> None:
    folder = tmp_path / "50% calls? #1 ünïcode"
    with e2vsearch.open(folder, encoder="fake") as collection:
        collection.ingest(calls / "voice0.wav")
    assert (folder / "catalog.db").is_file()
    with e2vsearch.open(folder) as collection:
        assert collection.status().counts.recordings == 1


def test_opening_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoCollection, match="e2vsearch ingest"):
        e2vsearch.open(tmp_path / "index", create=False)
    assert list(tmp_path.iterdir()) == []


def test_opening_and_ingesting_makes_a_collection(tmp_path: Path, calls: Path) -> None:
    collection = e2vsearch.open(tmp_path / "new" / "index", encoder="fake")
    with pytest.raises(NoCollection, match="no recordings yet"):
        collection.query(np.ones(16, np.float32))
    assert collection.ingest(calls / "voice0.wav").stored == 1
    assert len(collection.query("seg:1", include_self=True)) == 1
    collection.close()


def test_settings_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2vsearch import settings

    assert settings.load(folder=tmp_path).index == "index"
    (tmp_path / "e2vsearch.toml").write_text('index = "from file"\nworkers = 3\n')
    assert settings.load(folder=tmp_path).index == "from file"
    monkeypatch.setenv("E2VSEARCH_INDEX", "from environment")
    assert settings.load(folder=tmp_path).index == "from environment"
    assert settings.load(folder=tmp_path, index="from flag") == settings.Settings(index="from flag", workers=3)
    for text, says in (("indx = 'x'", "did you mean index"), ("workers = 'many'", "whole number"), ("x", "TOML")):
        (tmp_path / "e2vsearch.toml").write_text(text)
        with pytest.raises(SettingsError, match=says):
            settings.load(folder=tmp_path)


def test_speech_options_are_the_collections(calls: Path, tmp_path: Path) -> None:
    options = SpeechOptions(max_s=2.5)
    with e2vsearch.open(tmp_path / "index", encoder="fake", speech=options) as collection:
        collection.ingest(calls / "voice0.wav")
        lengths = [segment.end_s - segment.start_s for segment in collection.segments("call:1")]
        assert len(lengths) > 3
        assert max(lengths) <= 2.5 + 1 / RATE_HZ


def test_a_collection_above_the_threshold_goes_through_the_index(database_url: str) -> None:
    """Built when due, by call and by moment the same as exactly, and fresh rows are found before the next build."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 16))

    def recording(number: int) -> NewRecording:
        made = (centres[rng.integers(40, size=30)] + 0.4 * rng.standard_normal((30, 16))).astype(np.float32)
        segments = tuple(NewSegment(0, 2.0 * at, 2.0 * at + 1.5, vector) for at, vector in enumerate(made))
        when = datetime(2024, 1, 1, tzinfo=UTC)
        return NewRecording(f"/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 1, 8000, "WAV", segments)

    options = IndexOptions(exact_below=2000)
    with e2vsearch.open(database_url, index_options=options) as collection:
        collection.catalog.pin(Space("saved", "made", 16), "saved")
        for number in range(100):
            collection.catalog.store(recording(number))
        assert "no index yet" in str(collection.index().due())
        manifest = collection.maintain()
        assert manifest is not None
        assert manifest.kind == "ivf-rabitq"
        assert manifest.tuned.recall >= 0.95
        assert collection.index().due() is None
        assert collection.index().verify() == []
        for by in ("segment", "call"):
            near = collection.query("seg:7", by=by, k=10)
            true = collection.query("seg:7", by=by, k=10, exact=True)
            assert not near.exact
            assert true.exact
            assert len({hit.segment for hit in near} & {hit.segment for hit in true}) >= 9
            assert all(
                hit.score == pytest.approx(other.score, abs=1e-6)
                for hit in near
                for other in true
                if hit.segment == other.segment
            )
        new = collection.catalog.store(recording(100)).id
        collection.catalog.remove([3])
        hits = collection.query(f"call:{new}", include_self=True, k=5)
        assert hits[0].recording == f"call:{new}"
        assert "call:3" not in {hit.recording for hit in collection.query("seg:7", k=99)}
        filtered = collection.query("seg:7", where="recording between 10 and 12", k=99)
        assert {hit.recording for hit in filtered} == {"call:10", "call:11", "call:12"}
