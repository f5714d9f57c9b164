"""The yardstick from tables, from the audio that they name, and from a collection."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made import save, silence, sine, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.analysis.evaluation import dataset, evaluate, labels_table, pooling, types
from e2vsearch.analysis.evaluation.dataset import EvaluationSet
from e2vsearch.analysis.evaluation.types import Figures
from e2vsearch.catalog import projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import NotStored, SettingsError, SpaceMismatch, TooFewExamples
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.vectors.exact import unit32

Vectors = NDArray[np.float32]
PITCHES_HZ = {"s1": 105, "s2": 115, "s3": 125}
RATES_HZ = {"calm": 2.5, "anger": 6.0}


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufefffile;Label;ACTOR;sentence_id;Session;channel\na.wav;Anger ;7;It is  ELEVEN;c1;1\n")
    (row,) = labels_table.read(path).rows
    assert (row.path, row.emotion, row.speaker, row.text, row.call, row.channel, row.line) == (
        *("a.wav", "anger", "7", "it is eleven", "c1"),
        *(1, 2),
    )


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = "path,emotion,channel\na.wav,joy,\n,joy,\nb.wav,,\na.wav,fear,\nc.wav,joy,left\n\na.wav,joy,1\n"
    found = labels_table.read(table(tmp_path, rows))
    assert [row.line for row in found.rows] == [2, 8]
    reasons = [(each.line, each.reason) for each in found.failures]
    assert reasons == [(3, "no-path"), (4, "no-emotion"), (5, "twice"), (6, "bad-channel")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no column 'path'"), ("path,speaker\na,b\n", "no column 'emotion'"), (None, "cannot be read")],
)
def test_tables_that_are_none(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "none.csv" if text is None else table(tmp_path, text)
    with pytest.raises(SettingsError, match=message):
        labels_table.read(path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers, two emotions (low and high), two texts; labels one folder below the audio's."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "meta").mkdir()
    rows = []
    for speaker, pitch in PITCHES_HZ.items():
        for emotion, rate in RATES_HZ.items():
            for text in (0, 1):
                name = f"{speaker}_{emotion}_{text}.wav"
                save(folder / name, speech(1.5, seed=text, pitch_hz=pitch, syllables_hz=rate))
                rows.append((name, emotion, speaker, f"text {text}", f"{speaker}-{emotion}"))
    with (folder / "meta" / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "emotion", "speaker", "text", "call"), *rows])
    return folder


@pytest.fixture(scope="module")
def material(corpus: Path) -> EvaluationSet:
    return dataset.embed_table(corpus / "meta" / "labels.csv", FakeEncoder(), ("clean", "telephone"), workers=2)


def test_evaluate_hears_files(corpus: Path, material: EvaluationSet) -> None:
    seen: list[types.Progress] = []
    found = evaluate.evaluate(
        corpus / "meta" / "labels.csv", FakeEncoder(), condition="all", draws=60, progress=seen.append
    )
    assert (found.n, found.speakers, found.texts, found.emotions) == (12, 3, 2, {"anger": 6, "calm": 6})
    assert list(found.figures) == ["clean", "telephone", "telephone_in_clean"]
    assert found.figures["clean"] != found.figures["telephone"]
    assert (found.failures, found.projection) == ((), "raw")
    assert found.notes == (
        "one mood per voice is left out: 4 voices and two emotions are needed, not 3 and 2",
        "fitted on 8 of 10 neutral is left out: no item is labelled neutral",
    )
    assert [each.name for each in found.splits] == ["fitted on 8 of 10 angry", "fitted on all angry"]
    assert [(each.gain, each.queries, each.adapted_on) for each in found.splits] == [(0.0, 12, 7), (0.0, 12, 6)]
    assert [each.done for each in seen] == list(range(1, 13))
    assert seen[-1].audio_s == pytest.approx(18.0)
    assert evaluate.evaluate(material, condition="all", draws=60) == found
    clean = found.figures["clean"].other_speakers
    assert clean is not None
    assert (found.map, found.precision_at_10) == (clean.map, clean.precision_at_10)
    assert found.uar is None  # low and high are no emotions


def test_a_copy_depends_on_nothing_but_seed_and_path(corpus: Path, material: EvaluationSet, tmp_path: Path) -> None:
    lines = (corpus / "meta" / "labels.csv").read_text(encoding="utf-8").splitlines()
    (corpus / "meta" / "few.csv").write_text("\n".join([lines[0], lines[6], lines[3]]), encoding="utf-8")
    few = dataset.embed_table(corpus / "meta" / "few.csv", FakeEncoder(), ("telephone",))
    assert (few.vectors["telephone"] == material.vectors["telephone"][[5, 2]]).all()
    other = dataset.embed_table(corpus / "meta" / "few.csv", FakeEncoder(), ("telephone",), seed=1)
    assert (other.vectors["telephone"] != few.vectors["telephone"]).any()


def test_projections_are_applied_before_comparing(material: EvaluationSet) -> None:
    def first_only(vectors: Vectors) -> Vectors:
        assert vectors.shape == (12, 16)
        return vectors[:, :1]

    found = evaluate.evaluate(material, project=first_only, draws=60)
    narrow = replace(material, vectors={"clean": material.vectors["clean"][:, :1]})
    expected = evaluate.evaluate(narrow, draws=60)
    assert found.figures == expected.figures
    assert found.projection == "first_only"


def test_by_recording_takes_means(material: EvaluationSet) -> None:
    made, notes = pooling.by_recording(material)
    assert len(made.rows) == 6
    assert notes == []
    assert {row.text for row in made.rows} == {""}  # two sentences each
    assert [row.speaker for row in made.rows] == ["s1", "s1", "s2", "s2", "s3", "s3"]
    pair = unit32(material.vectors["clean"][:2])
    assert made.vectors["clean"][0] == pytest.approx(pair.mean(axis=0), abs=1e-6)
    found = evaluate.evaluate(material, by="recording", draws=10)
    assert (found.n, found.texts) == (6, 0)
    assert found.triplets == {"words": None, "voice": None, "both": None}
    assert any("no item names its text" in note for note in found.notes)


def test_channels_stay_apart_and_bad_files_do_not_stop_the_rest(corpus: Path, tmp_path: Path) -> None:
    stereo = np.stack([speech(1.5, seed=3), silence(1.5)])
    save(tmp_path / "one.wav", stereo)
    save(tmp_path / "two.wav", np.stack([speech(31.0, seed=4), speech(31.0, seed=5, pitch_hz=180)]))
    save(tmp_path / "mute.wav", silence(1.0))
    save(tmp_path / "short.wav", sine(0.01))
    (tmp_path / "text.wav").write_text("no sound")
    path = table(
        tmp_path,
        "path,emotion,speaker,channel\none.wav,calm,a,\ntwo.wav,calm,b,0\ntwo.wav,anger,c,1\none.wav,anger,d,1\n"
        "mute.wav,calm,a,\nshort.wav,calm,a,\ntext.wav,calm,a,\ngone.wav,calm,a,\n",
    )
    found = dataset.embed_table(path, FakeEncoder())
    assert list(zip(found.files, found.channels, strict=True)) == [("one.wav", 0), ("two.wav", 0), ("two.wav", 1)]
    assert [row.emotion for row in found.rows] == ["calm", "calm", "anger"]
    assert found.lengths_s.tolist() == pytest.approx([1.5, 31.0, 31.0])
    failures = [(each.line, each.reason) for each in found.failures]
    assert failures == [(5, "empty"), (6, "empty"), (7, "bad-signal"), (8, "not-audio"), (9, "missing")]
    assert all(f"line {each.line}: " in each.message and "\n" not in each.message for each in found.failures)
    with pytest.raises(TooFewExamples, match="5 rows failed, the first: line 5"):
        evaluate.evaluate(table(tmp_path, path.read_text().replace("anger", "calm")), FakeEncoder())


@pytest.fixture
def collection(corpus: Path, tmp_path: Path) -> Iterator[e2vsearch.Collection]:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as made:
        made.ingest(corpus, workers=1)
        yield made


def test_stored_segments_are_joined_by_path(corpus: Path, collection: e2vsearch.Collection) -> None:
    found = collection.evaluate(corpus / "meta" / "labels.csv")
    assert found.n == collection.status().counts.segments == 12
    assert found.failures == ()
    stored = dataset.load_stored(corpus / "meta" / "labels.csv", collection)  # type: ignore[arg-type]
    batch = collection.catalog.feed().fetch(np.arange(1, 13))
    assert (stored.vectors["clean"] == batch.vectors).all()
    for row, file in zip(stored.rows, stored.files, strict=True):
        assert Path(collection.recordings(file)[0].uri).name == row.path
    named = dataset.load_stored(
        table(collection.location.folder or corpus, "path,emotion\nx/s1_calm_0.wav,a\nno,b\n"),
        collection,  # type: ignore[arg-type]
    )
    assert [row.path for row in named.rows] == ["x/s1_calm_0.wav"]
    assert [(each.line, each.reason) for each in named.failures] == [(3, "missing")]


def test_a_collections_projection_is_what_is_compared(corpus: Path, collection: e2vsearch.Collection) -> None:
    labels = corpus / "meta" / "labels.csv"
    view = np.eye(16, 3, dtype=np.float32)
    mine = LinearProjection("fitted", "mine", np.zeros(16, np.float32), view, view[:, :0], 0.0)
    kept = StoredProjection(mine.name, mine.kind, mine.revision, mine.pack(), {}, datetime.now(UTC))
    projections.put(collection.catalog, kept)
    raw, named = collection.evaluate(labels), collection.evaluate(labels, "mine")
    expected = evaluate.evaluate(dataset.load_stored(labels, collection.projections), project=mine.apply)
    assert (named.projection, named.figures["clean"]) == ("mine", expected.figures["clean"])
    assert named.figures["raw"] == raw.figures["clean"]
    assert (raw.projection, raw.figures == named.figures) == ("raw", False)
    projections.use(collection.catalog, "mine")
    assert collection.evaluate(labels) == named
    assert collection.evaluate(labels, "raw") == raw


def test_telephone_copies_are_heard_by_the_collections_encoder(
    corpus: Path, collection: e2vsearch.Collection, material: EvaluationSet
) -> None:
    found = collection.evaluate(corpus / "meta" / "labels.csv", condition="telephone")
    assert found.figures["telephone"] == evaluate.evaluate(material, condition="telephone").figures["telephone"]


def test_options_that_make_no_sense(corpus: Path, collection: e2vsearch.Collection, material: EvaluationSet) -> None:
    labels = corpus / "meta" / "labels.csv"
    with pytest.raises(SettingsError, match="name an encoder"):
        evaluate.evaluate(dataset.load_stored(labels_table.read(labels), collection.projections), condition="all")
    with pytest.raises(SettingsError, match="need no encoder"):
        evaluate.evaluate(material, FakeEncoder())
    with pytest.raises(SettingsError, match="stored in a collection"):
        evaluate.evaluate(labels, FakeEncoder(), projection="mine")
    with pytest.raises(SettingsError, match="condition is"):
        evaluate.evaluate(material, condition="noisy")  # type: ignore[arg-type]
    with pytest.raises(NotStored, match="mine"):
        collection.evaluate(labels, "mine")
    with pytest.raises(SpaceMismatch):
        evaluate.evaluate(labels, FakeEncoder("fake-2"), context=collection.projections)


@pytest.mark.slow
def test_emodb_as_measured(shared_audio: Path) -> None:
    """A tenth of EMO-DB with the encoder that ships: far from chance, and its telephone copies not far from that."""
    source = shared_audio / "emodb" / "labels.csv"
    table_ = labels_table.read(source)
    some = labels_table.LabelTable(table_.folder, table_.rows[::9], ())
    from e2vsearch.encoders import registry

    found = evaluate.evaluate(some, registry.open("light"), condition="all")
    clean: Figures = found.figures["clean"]
    telephone: Figures = found.figures["telephone"]
    assert clean.other_speakers is not None
    assert telephone.other_speakers is not None
    assert clean.other_speakers.map > 2 * clean.other_speakers.map_chance
    assert telephone.other_speakers.map > 1.5 * telephone.other_speakers.map_chance
    assert found.uar is not None
    assert found.uar > 1.5 / 6
