"""Labels of one's own: examples, splits by voice, honest figures, classifiers applied, suggested, carried elsewhere."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import call, save, silence, speech, wav_bytes

import e2vsearch
from e2vsearch.analysis import labels
from e2vsearch.analysis.labels import fitting, groups, judging
from e2vsearch.analysis.labels.model import Model, unpack
from e2vsearch.catalog import NewRecording, NewSegment
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.tables import ClassifierRow
from e2vsearch.errors import (
    AnalysisError,
    BadFilter,
    ExportError,
    MissingExtra,
    NotStored,
    QueryError,
    SettingsError,
    SpaceMismatch,
    TooFewExamples,
)
from e2vsearch.ingest import Collection
from e2vsearch.space import Space

DIM = 16
FEELINGS = ("calm", "hesitant", "testing the water")
SPACE = Space("saved", "made", DIM, ("low", "high"))
CALLS, A_CALL = 12, 9  # calls of six agents, two each; moments of a call, feelings in turn


def made_call(number: int, moments: int = A_CALL, voice: float = 1.0, feeling: float = 1.0) -> NewRecording:
    """Moments of every feeling in turn, in the voice of agent ``number // 2``."""
    rng = np.random.default_rng(number)
    centres = np.random.default_rng(99).standard_normal((len(FEELINGS), DIM)) * 3 * feeling
    agent = np.random.default_rng(1000 + number // 2).standard_normal(DIM) * voice
    segments = []
    for at in range(moments):
        vector = 1.0 + centres[at % 3] + agent + rng.standard_normal(DIM)
        high = np.float32(0.5 + at / 100)
        scores = np.array([1 - high, high], np.float32)
        segments.append(NewSegment(at % 2, 4.0 * at, 4.0 * at + 3.0, vector.astype(np.float32), scores))
    when = datetime(2024, 1, 1 + number % 28, tzinfo=UTC)
    meta = {"agent": f"agent{number // 2}"}
    about = (f"/calls/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 2, 8000, "WAV")
    return NewRecording(*about, tuple(segments), meta)


def fill(collection: Collection, calls: int = CALLS, **how: float) -> Collection:
    collection.catalog.pin(SPACE, "saved")
    for number in range(calls):
        collection.catalog.store(made_call(number, **how))
    return collection


def feeling(segment: int) -> str:
    """Of a stored segment: they are numbered from 1, a call's together, feelings in turn."""
    return FEELINGS[(segment - 1) % A_CALL % 3]


def give_all(collection: Collection, calls: int = CALLS, of: tuple[str, ...] = FEELINGS) -> None:
    """One example of each feeling from every call."""
    for each in of:
        at = FEELINGS.index(each) + 1
        labels.add_examples(collection, each, *(f"seg:{number * A_CALL + at}" for number in range(calls)))


@pytest.fixture
def collection(database_url: str) -> Iterator[Collection]:
    with e2vsearch.open(database_url) as collection:
        yield fill(collection)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Collection]:
    """The same on SQLite alone, where the database makes no difference."""
    with e2vsearch.open(tmp_path / "local") as collection:
        yield fill(collection)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Collection]:
    """A call of two voices and a call of one, heard by the fake encoder."""
    folder = tmp_path / "calls"
    folder.mkdir()
    save(folder / "pair.wav", call([(0, 0.5, 4.0), (1, 5.0, 9.0)], 10.0))
    save(folder / "one.wav", np.concatenate([speech(3.0, seed=5), silence(1.5), speech(3.0, seed=6)]))
    with e2vsearch.open(tmp_path / "heard", encoder="fake") as collection:
        assert collection.ingest(folder).stored == 2
        yield collection


# --- examples


def test_a_moment_has_one_label(collection: Collection) -> None:
    first = labels.add_examples(collection, "hesitant", "seg:2", "seg:5", "seg:2", speaker="Kim")
    assert (first.examples, first.added, first.already, first.replaced) == (("seg:2", "seg:5"), 2, 0, ())
    again = labels.add_examples(collection, " hesitant ", "seg:5")
    assert (again.label, again.added, again.already) == ("hesitant", 0, 1)
    other = labels.add_examples(collection, "calm", "seg:2", "seg:1")
    assert other.added == 1
    assert other.replaced == (labels.Replaced("seg:2", "hesitant"),)
    assert labels.list_labels(collection) == (labels.LabelCount("calm", 2, 0), labels.LabelCount("hesitant", 1, 0))
    assert labels.list_examples(collection, "calm") == (
        labels.LabelledExample("calm", "seg:2", "call:1", "Kim"),  # who speaks does not change with the label
        labels.LabelledExample("calm", "seg:1", "call:1", None),
    )
    segment = collection.segment("seg:2")
    assert (segment.label, segment.label_score) == ("calm", 1.0)


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("call:1", [f"seg:{n}" for n in range(1, 10)]),
        ("call:1@0-7", ["seg:1", "seg:2"]),
        ("call:1@4.0-15.2#1", ["seg:2", "seg:4"]),
        ("call:1@2.0-9", ["seg:2"]),  # a third of the first, a third of the third
        ("call:1@4.5-5", ["seg:2"]),  # a moment inside a segment stands for it
        ("/calls/1.wav@0-3", ["seg:10"]),  # by the path it was ingested from, though the file is gone
    ],
)
def test_spans_pick_the_moments_in_them(local: Collection, example: str, expected: list[str]) -> None:
    assert list(labels.add_examples(local, "x", example).examples) == expected


@pytest.mark.parametrize(
    ("example", "reason", "says"),
    [
        ("seg:999", "not-stored", "seg:999"),
        ("seg:x", "not-stored", "no id"),
        ("call:99", "not-stored", "call:99"),
        ("call:1@3.1-3.9", "not-stored", "no spoken moment"),
        ("call:1@9-2", "query", "start comes first"),
        ("nothing.wav", "missing", "nothing.wav"),
        ("http://host/a.wav", "query", "download it"),
    ],
)
def test_what_cannot_be_taken_stops_nothing(local: Collection, example: str, reason: str, says: str) -> None:
    report = labels.add_examples(local, "x", example, "seg:1")
    assert report.examples == ("seg:1",)
    [failure] = report.failures
    assert (failure.example, failure.reason) == (example, reason)
    assert says in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, 'say "no"', "a\x00b", "a\x1b[31m"])
def test_a_label_needs_a_name_that_filters_can_write(local: Collection, name: str) -> None:
    with pytest.raises(QueryError, match="name of a label"):
        labels.add_examples(local, name, "seg:1")


def test_removing(collection: Collection) -> None:
    labels.add_examples(collection, "calm", "seg:1", "seg:4")
    labels.add_examples(collection, "hesitant", "seg:2", "seg:5")
    assert labels.remove_examples(collection, label="calm", segments=["seg:1", "seg:2"]) == 1
    assert labels.remove_examples(collection, segments=["seg:2"]) == 1
    assert labels.remove_examples(collection, label="hesitant") == 1
    assert labels.list_labels(collection) == (labels.LabelCount("calm", 1, 0),)
    with pytest.raises(NotStored, match="labels: calm"):
        labels.remove_examples(collection, label="hesitant")
    with pytest.raises(QueryError, match="name the label"):
        labels.remove_examples(collection)
    collection.remove("call:1")  # takes its examples with it
    assert labels.list_labels(collection) == ()


def test_a_stored_file_stands_for_its_segments(heard: Collection, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.wav").write_bytes((tmp_path / "calls" / "one.wav").read_bytes())
    ids = {each.id for each in heard.segments(heard.find(str(tmp_path / "calls" / "one.wav"))[0].id)}
    for path in (tmp_path / "calls" / "one.wav", tmp_path / "elsewhere.wav"):
        assert set(labels.add_examples(heard, "x", path).examples) == ids
    channel = labels.add_examples(heard, "x", f"{tmp_path / 'calls' / 'pair.wav'}@0-10#1").examples
    assert [heard.segment(each).channel for each in channel] == [1]


def test_other_audio_is_kept_as_vectors(heard: Collection, tmp_path: Path) -> None:
    clip = np.concatenate([speech(3.0, seed=1), silence(2.0), speech(3.0, seed=2)])
    path = save(tmp_path / "clip.wav", clip, subtype="FLOAT")
    first = labels.add_examples(heard, "hesitant", path, speaker="Lee")
    assert first.added == 2
    assert all(each.startswith(f"{path}@") for each in first.examples)
    moved = labels.add_examples(heard, "calm", path)
    assert [(each.example, each.before) for each in moved.replaced] == [(each, "hesitant") for each in first.examples]
    part = labels.add_examples(heard, "part", f"{path}@4.5-8.5")
    [source] = part.examples
    start_s = float(source.rpartition("@")[2].partition("-")[0])
    assert 4.9 < start_s < 5.6
    whole = labels.add_examples(heard, "bytes", wav_bytes(clip), speech(2.0, seed=3))
    assert (whole.added, whole.failures) == (3, ())
    stored = {each.label: each for each in rows.examples(heard.catalog)}
    expected = heard.hear(path).moments[1].vector
    np.testing.assert_array_equal(stored["calm"].vector, expected)
    assert (stored["calm"].segment, stored["calm"].recording, stored["calm"].speaker) == (None, None, "Lee")
    assert labels.remove_examples(heard, label="calm", segments=[str(path)]) == 2
    silent = labels.add_examples(heard, "x", silence(2.0))
    assert [each.reason for each in silent.failures] == ["query"]


def test_a_folder_stands_for_its_files(heard: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    save(folder / "a.wav", speech(2.0, seed=1))
    (folder / "b.wav").write_bytes(b"no audio at all, but long enough to be looked at")
    report = labels.add_examples(heard, "x", folder)
    assert report.added == 1
    assert [Path(each.example).name for each in report.failures] == ["b.wav"]


def test_a_table_of_labels(heard: Collection, tmp_path: Path) -> None:
    save(tmp_path / "clip.wav", speech(3.0, seed=1))
    table = tmp_path / "labels.csv"
    lines = [
        "label;path;segment;start_s;end_s;channel;speaker",
        "calm;;seg:1;;;;Kim",
        "calm;;2;;;;",
        "hesitant;clip.wav;;;;;Lee",
        "hesitant;calls/pair.wav;;5;9;1;",
        "hesitant;gone.wav;;;;;",
        "hesitant;;;;;;",
        "hesitant;clip.wav;;one;;;",
        ";;seg:1;;;;",
    ]
    table.write_text("\n".join(lines), encoding="utf-8")
    calm, hesitant, nameless = labels.add_examples_from(heard, table)
    assert (calm.label, calm.examples, calm.failures) == ("calm", ("seg:1", "seg:2"), ())
    assert hesitant.added + len(hesitant.replaced) == 2
    assert [each.example for each in hesitant.failures] == [
        f"{table} line 7",
        f"{table} line 8",
        str(tmp_path / "gone.wav") if (tmp_path / "gone.wav").exists() else "gone.wav",
    ]
    assert nameless.examples == ()
    assert "line 9" in nameless.failures[0].message
    assert labels.list_examples(heard, "calm")[0].speaker == "Kim"


@pytest.mark.parametrize("text", ["name,path\nx,y\n", "label\nx\n", "", b"\xff\xfe\x00"])
def test_a_table_without_its_columns_is_refused(local: Collection, tmp_path: Path, text: str | bytes) -> None:
    table = tmp_path / "labels.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=r"labels\.csv"):
        labels.add_examples_from(local, table)


# --- splits and figures


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 12), max_size=3), min_size=1, max_size=20))
def test_groups_share_nothing(ties: list[list[int]]) -> None:
    numbers = groups.join(ties)
    for a, one in enumerate(ties):
        for b, other in enumerate(ties):
            if set(one) & set(other):
                assert numbers[a] == numbers[b]
    assert set(numbers) == set(range(len(set(numbers))))
    untied = [at for at, tied in enumerate(ties) if not tied]
    assert len({int(numbers[at]) for at in untied}) == len(untied)


@pytest.mark.parametrize("seed", range(5))
def test_splits_keep_groups_together(seed: int) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(seed)
    voices = rng.integers(0, 9, 60)
    truth = rng.integers(0, 3, 60)
    splits = groups.split(truth, voices, seed)
    assert len(splits) >= 2
    assert sorted(np.concatenate([test for _, test in splits]).tolist()) == list(range(60))
    for train, test in splits:
        assert not set(voices[train]) & set(voices[test])
        assert set(truth[train]) == {0, 1, 2}
    assert groups.split(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), seed) == []


def test_figures_are_what_they_say() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200)
    probabilities[np.arange(150), truth[:150]] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    judged = judging.judge(truth, probabilities, np.arange(200) // 10, seed=1)
    said = probabilities.argmax(axis=1)
    assert judged.accuracy == pytest.approx(metrics.accuracy_score(truth, said))
    assert judged.uar == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    np.testing.assert_array_equal(judged.confusion, metrics.confusion_matrix(truth, said))
    low, high = judged.uar_interval
    assert 0.6 < low < judged.uar < high < 1.0
    assert judging.judge(truth, probabilities, np.arange(200) // 10, seed=1).uar_interval == judged.uar_interval
    one_voice = judging.judge(truth, probabilities, np.zeros(200, np.int64))
    assert one_voice.uar_interval == pytest.approx((judged.uar, judged.uar))


def test_calibration_error() -> None:
    truth = np.array([0, 0, 0, 1])  # the second label weighs as much as the three of the first
    sure = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    assert judging.calibration_error(truth, sure) == pytest.approx(0.5)
    assert judging.calibration_error(truth, np.full((4, 2), 0.5)) == pytest.approx(0.0)


def test_probabilities_are_calibrated_and_labels_weigh_the_same() -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    truth = (rng.random(600) < 0.1).astype(np.int64)  # one in ten
    vectors = np.ones((600, DIM)) * 3 + rng.standard_normal((600, DIM))
    vectors[:, 0] += 1.2 * truth
    voices = np.arange(600) // 6
    held_out = fitting.out_of_fold(vectors.astype(np.float32), truth, voices, seed=0)
    assert held_out is not None
    probabilities, folds = held_out
    assert folds == 5
    recalls = [(probabilities.argmax(axis=1) == truth)[truth == label].mean() for label in (0, 1)]
    assert min(recalls) > 0.5  # unweighted, the rare one would never be said
    assert judging.calibration_error(truth, probabilities) < 0.1


# --- training


@pytest.fixture
def trained(collection: Collection) -> labels.ClassifierReport:
    pytest.importorskip("sklearn")
    give_all(collection)
    return labels.train(collection, "mood", speaker_keys=["agent"])


def test_a_report_says_how_it_was_judged(collection: Collection, trained: labels.ClassifierReport) -> None:
    assert (trained.name, trained.version, trained.labels) == ("mood", 1, FEELINGS)
    assert (trained.examples, trained.groups, trained.folds) == (36, 6, 5)  # agents, of two calls each
    assert trained.uar is not None
    assert trained.uar > 0.8
    assert (trained.uar_chance, trained.accuracy_chance) == pytest.approx((1 / 3, 1 / 3))
    assert [(each.label, each.examples, each.groups) for each in trained.classes] == [(n, 12, 6) for n in FEELINGS]
    assert [each.recall for each in trained.classes] == pytest.approx(
        [row[at] / 12 for at, row in enumerate(trained.confusion)]
    )
    assert sum(map(sum, trained.confusion)) == 36
    assert trained.calibration_error is not None
    assert trained.calibration_error < 0.3
    assert trained.contrast is None
    assert trained.warnings == ()
    assert labels.classifiers(collection) == (trained,)
    json.dumps(trained.confusion)


def test_training_again_is_the_next_version_and_the_same(
    collection: Collection, trained: labels.ClassifierReport
) -> None:
    again = labels.train(collection, "mood", speaker_keys=["agent"])
    assert replace(again, version=1, created_at=trained.created_at) == trained
    assert again.version == 2
    with collection.catalog.reading() as connection:
        first, second = connection.execute(ClassifierRow.__table__.select()).all()
    assert first.parameters == second.parameters
    labels.add_examples(collection, "calm", "seg:4")
    assert labels.train(collection, "mood", labels=["calm", "hesitant"]).labels == ("calm", "hesitant")
    assert labels.remove_classifier(collection, "mood") == 3
    with pytest.raises(NotStored, match="train one with"):
        labels.remove_classifier(collection, "mood")


def test_a_voice_that_is_known_flatters_nobody(tmp_path: Path) -> None:
    """Vectors that tell voices and nothing else: split by recording alone it looks perfect, by voice it is not."""
    pytest.importorskip("sklearn")
    with e2vsearch.open(tmp_path / "voices") as collection:
        fill(collection, 24, voice=4.0, feeling=0.0)
        for number in range(24):
            agent = number // 2
            labels.add_examples(collection, "ab"[agent % 2], *(f"seg:{number * A_CALL + at}" for at in (1, 2)))
        by_call = labels.train(collection)
        by_agent = labels.train(collection, speaker_keys=["agent"])
        assert (by_call.groups, by_agent.groups) == (24, 12)
        assert by_call.uar is not None
        assert by_agent.uar is not None
        assert by_call.uar > 0.9
        assert by_agent.uar < 0.75
        assert by_agent.uar_interval is not None
        assert by_agent.uar_interval[0] < 0.5
        # a speaker who is named with the example counts as much as one in the metadata
        for number in range(24):
            names = [f"seg:{number * A_CALL + at}" for at in (1, 2)]
            labels.add_examples(collection, "ab"[number // 2 % 2], *names, speaker=f"agent{number // 2}")
        assert labels.train(collection).uar == by_agent.uar


def test_too_few_examples(local: Collection) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(TooFewExamples, match="nothing is labelled"):
        labels.train(local)
    labels.add_examples(local, "calm", "seg:1", "seg:4", "seg:7")
    labels.add_examples(local, "hesitant", "seg:2", "seg:5")
    with pytest.raises(TooFewExamples, match="'hesitant' has 2 of the 3"):
        labels.train(local)
    with pytest.raises(NotStored, match="'calmer'"):
        labels.train(local, labels=["calm", "calmer"])
    with pytest.raises(AnalysisError, match="did you mean agent"):
        labels.train(local, speaker_keys=["agnet"])
    labels.add_examples(local, "hesitant", "seg:8")
    report = labels.train(local)  # all of one call: there is a classifier, and no figure
    assert (report.accuracy, report.uar, report.uar_interval, report.confusion) == (None, None, None, ())
    assert report.folds == 0
    said = " ".join(report.warnings)
    for words in ("'calm' has 3 examples", "may be the voice", "no figures", "not calibrated"):
        assert words in said
    assert labels.classify(local).looked_at == CALLS * A_CALL


def test_one_label_is_told_from_the_rest(collection: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(collection, of=("hesitant",))
    report = labels.train(collection, "hesitation")
    assert (report.labels, report.contrast) == (("hesitant", "other"), "other")
    assert report.examples == 12 + CALLS * A_CALL - 12
    assert any("drawn at random" in each for each in report.warnings)
    done = labels.classify(collection)
    assert set(done.labels) == {"hesitant"}
    assert done.stored == done.labels["hesitant"] < done.looked_at
    labels.remove_examples(collection, label="hesitant")
    labels.add_examples(collection, "other", "seg:1", "seg:2", "seg:3")
    with pytest.raises(TooFewExamples, match="other than"):
        labels.train(collection)


def test_without_scikit_learn_the_extra_is_named(local: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    give_all(local)
    for name in [each for each in sys.modules if each.startswith("sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"e2vsearch\[labels\]"):
        labels.train(local)
    labels.remove_examples(local, segments=[f"seg:{n}" for n in range(1, 1 + CALLS * A_CALL)])
    with pytest.raises(MissingExtra, match=r"e2vsearch\[labels\]"):
        labels.suggest(local)


# --- applying


def test_classifying_the_collection(collection: Collection, trained: labels.ClassifierReport) -> None:
    steps: list[tuple[int, int]] = []
    done = labels.classify(collection, progress=lambda *step: steps.append(step))
    total = CALLS * A_CALL
    assert (done.classifier, done.version, done.looked_at, done.skipped) == ("mood", 1, total, 0)
    assert steps[-1] == (total, total)
    assert sum(done.labels.values()) == done.stored
    right = [segment.label == feeling(number) for number, segment in collection.catalog.segments()]
    assert np.mean(right) > 0.85
    # stored labels are filters, a person's word before a classifier's
    hesitant = set(collection.catalog.select('label = "hesitant"').tolist())
    assert len(hesitant & set(range(2, total, 3))) > 0.8 * total / 3
    [wrong] = [number for number in sorted(hesitant) if number not in rows.labelled(collection.catalog)][:1]
    labels.add_examples(collection, "calm", f"seg:{wrong}")
    assert wrong not in collection.catalog.select('label = "hesitant"')
    assert wrong in collection.catalog.select("label = calm and label_score = 1")
    assert set(collection.catalog.select("label_score >= 0.99")) <= set(collection.catalog.select("label is not null"))
    sure = collection.catalog.select('label in (calm, "testing the water") and label_score > 0.9')
    assert 0 < sure.size < total
    hits = collection.query("seg:1", by="segment", k=200, where='label = "testing the water"')
    assert {hit.label for hit in hits} == {"testing the water"}
    with pytest.raises(BadFilter):
        collection.catalog.select("labell = calm")


def test_a_rerun_looks_at_new_segments_only(collection: Collection, trained: labels.ClassifierReport) -> None:
    total = CALLS * A_CALL
    first = labels.classify(collection)
    again = labels.classify(collection, "mood")
    assert again.labels == first.labels
    # on Postgres what came just before may be told twice, which changes nothing
    assert again.looked_at + again.skipped == total
    collection.catalog.store(made_call(CALLS))
    collection.remove("call:2")
    later = labels.classify(collection)
    assert A_CALL <= later.looked_at <= total
    assert later.looked_at + later.skipped == total
    assert sum(later.labels.values()) <= total
    judged = collection.catalog.select(f"recording = {CALLS + 1} and label is not null")
    assert judged.size >= A_CALL - 2
    stricter = labels.classify(collection, min_score=0.99)  # another threshold means all of them again
    assert stricter.looked_at == total
    assert sum(stricter.labels.values()) < sum(later.labels.values())


def test_a_new_version_replaces_the_old(collection: Collection, trained: labels.ClassifierReport) -> None:
    labels.classify(collection)
    labels.train(collection, "other one", labels=["calm", "hesitant"])
    assert labels.classify(collection).classifier == "other one"  # the one trained last
    labels.train(collection, "mood", labels=["calm", "testing the water"])
    part = labels.classify(collection, "mood", where="recording <= 2")
    assert (part.version, part.looked_at) == (2, 2 * A_CALL)
    versions = lambda: {  # noqa: E731
        (row.name, row.version)
        for row in rows.classifiers(collection.catalog)
        if rows.predicted(collection.catalog, row.id)
    }
    assert versions() == {("mood", 2), ("other one", 1)}
    whole = labels.classify(collection, "mood")
    assert whole.looked_at == CALLS * A_CALL
    with collection.catalog.reading() as connection:
        ids = {
            row.version: row.id for row in connection.execute(ClassifierRow.__table__.select()) if row.name == "mood"
        }
    assert rows.predicted(collection.catalog, ids[1]) == {}
    labels.remove_classifier(collection, "other one")
    assert versions() == {("mood", 2)}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "none"}, NotStored, "known: mood"),
        ({"min_score": 1.5}, QueryError, "min_score"),
        ({"where": "label ="}, BadFilter, "makes no sense"),
    ],
)
def test_classifying_refuses(local: Collection, arguments: dict[str, object], error: type, says: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(NotStored, match="e2vsearch train"):
        labels.classify(local)
    give_all(local)
    labels.train(local, "mood")
    with pytest.raises(error, match=says):
        labels.classify(local, **arguments)  # type: ignore[arg-type]


def test_more_segments_than_a_batch(local: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(local)
    local.catalog.store(made_call(50, moments=4500))
    labels.train(local)
    steps: list[tuple[int, int]] = []
    done = labels.classify(local, min_score=0.0, progress=lambda *step: steps.append(step))
    assert len(steps) > 1
    assert done.looked_at == done.stored == CALLS * A_CALL + 4500
    filtered = labels.classify(local, where="start_s >= 0", min_score=0.0)
    assert filtered.labels == done.labels


def test_classifying_a_clip_stores_nothing(heard: Collection, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for label, pitch in (("low", 100.0), ("high", 200.0)):
        for seed in range(3):
            labels.add_examples(heard, label, speech(2.5, seed=seed, pitch_hz=pitch))
    assert labels.train(heard).groups == 6
    path = save(tmp_path / "clip.wav", speech(2.5, seed=9, pitch_hz=105.0))
    [moment] = labels.classify_audio(heard, path)
    assert moment == labels.classify_audio(heard, path.as_uri(), "labels")[0]
    assert moment.score == max(moment.probabilities.values()) == moment.probabilities[moment.label]
    assert sum(moment.probabilities.values()) == pytest.approx(1)
    assert {each.channel for each in labels.classify_audio(heard, "call:1")} <= {0, 1}
    assert len(labels.classify_audio(heard, "seg:1")) == 1
    assert labels.list_labels(heard) == (labels.LabelCount("high", 3, 0), labels.LabelCount("low", 3, 0))
    with pytest.raises(QueryError, match="no speech"):
        labels.classify_audio(heard, silence(2.0))
    with pytest.raises(NotStored):
        labels.classify_audio(heard, "seg:999")


def test_a_damaged_classifier_is_named(local: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(local)
    labels.train(local, "mood")
    with local.catalog.writing() as connection:
        connection.execute(ClassifierRow.__table__.update().values(parameters=b"PK nonsense"))
    with pytest.raises(AnalysisError, match=r"'mood' is damaged .* train it again"):
        labels.classify(local)
    with local.catalog.writing() as connection:
        connection.execute(ClassifierRow.__table__.update().values(report={"space": 3}))
    with pytest.raises(AnalysisError, match="'mood' is damaged"):
        labels.classifiers(local)


# --- suggesting


def test_suggestions_without_anything_stand_for_the_most(local: Collection) -> None:
    pytest.importorskip("sklearn")
    found = labels.suggest(local, 3)
    assert len({each.segment for each in found}) == 3
    assert {feeling(int(each.segment[4:])) for each in found} == set(FEELINGS)
    assert all("stands for about" in each.why and each.label is None for each in found)
    assert labels.suggest(local, 3) == found
    one = labels.suggest(local, 5, where="recording = 3 and channel = 1")
    assert {(each.recording, each.channel) for each in one} == {("call:3", 1)}


def test_suggestions_between_labels(collection: Collection) -> None:
    labels.add_examples(collection, "hesitant", "seg:2", "seg:5")
    alike = labels.suggest(collection, 4)
    assert {feeling(int(each.segment[4:])) for each in alike} == {"hesitant"}
    assert all("like the examples of hesitant" in each.why for each in alike)
    labels.add_examples(collection, "calm", "seg:1", "seg:4")
    between = labels.suggest(collection, 4)
    assert all(each.why.startswith("between ") for each in between)
    assert not {each.segment for each in between} & {"seg:1", "seg:2", "seg:4", "seg:5"}
    assert len({each.recording for each in between}) == 4
    with pytest.raises(QueryError, match="k must be"):
        labels.suggest(collection, 0)


def test_suggestions_by_a_classifiers_doubts(collection: Collection, trained: labels.ClassifierReport) -> None:
    found = labels.suggest(collection, 8)
    labelled = {f"seg:{number}" for number in rows.labelled(collection.catalog)}
    assert len({each.segment for each in found} - labelled) == 8
    assert len({each.recording for each in found}) == 8  # one a recording while there are others
    assert all(each.why.startswith("undecided: ") and each.label in FEELINGS for each in found)
    margins = [each.margin for each in found if each.margin is not None]
    everything = labels.suggest(collection, 500)
    assert len(everything) == CALLS * A_CALL - 36
    assert np.mean(margins) < np.mean([each.margin for each in everything if each.margin is not None])
    with pytest.raises(NotStored, match="known: mood"):
        labels.suggest(collection, classifier="none")
    assert labels.suggest(collection, where="segment < 0") == ()


# --- elsewhere


def test_export_and_import(collection: Collection, trained: labels.ClassifierReport, tmp_path: Path) -> None:
    file = tmp_path / "mood.npz"
    assert labels.export_classifier(collection, "mood", file) == trained
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["weights"].shape == (3, DIM)
    with pytest.raises(ExportError, match="exists already"):
        labels.export_classifier(collection, "mood", file)
    with pytest.raises(ExportError, match="cannot be written"):
        labels.export_classifier(collection, "mood", tmp_path / "none" / "x.npz")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with e2vsearch.open(tmp_path / "copy") as copy:
        fill(copy)
        came = labels.import_classifier(copy, file)
        assert came.imported
        assert replace(came, imported=False, created_at=trained.created_at) == trained
        assert labels.import_classifier(copy, file, "again").name == "again"
        ours, theirs = labels.classify(collection, "mood"), labels.classify(copy, "mood")
        assert ours.labels == theirs.labels
    with e2vsearch.open(tmp_path / "other") as other:
        other.catalog.pin(Space("saved", "another", DIM), "saved")
        with pytest.raises(SpaceMismatch, match="takes vectors of saved@made"):
            labels.import_classifier(other, file)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def _npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def _lying(content: bytes) -> bytes:
    return content.replace(b"(3, 16)", b"(9, 99)")


HOSTILE: dict[str, Callable[[dict[str, bytes]], dict[str, bytes] | bytes]] = {
    "not a zip": lambda members: b"PK\x03\x04" + bytes(200),
    "empty": lambda members: b"",
    "no header": lambda members: {name: each for name, each in members.items() if name != "classifier.json"},
    "no weights": lambda members: {name: each for name, each in members.items() if name != "weights.npy"},
    "header is no JSON": lambda members: members | {"classifier.json": b"{"},
    "header is a list": lambda members: members | {"classifier.json": b"[]"},
    "header is deep": lambda members: members | {"classifier.json": b"[" * 200_000},
    "header is huge": lambda members: members | {"classifier.json": b" " * (2 << 20)},
    "pickled": lambda members: members | {"weights.npy": _npy(np.array([Bomb()], object))},
    "a pickle": lambda members: members | {"weights.npy": pickle.dumps(Bomb())},
    "wrong shape": lambda members: members | {"weights.npy": _npy(np.zeros((3, 15), np.float32))},
    "wrong type": lambda members: members | {"bias.npy": _npy(np.zeros(3, np.float64))},
    "not finite": lambda members: members | {"bias.npy": _npy(np.full(3, np.nan, np.float32))},
    "cut off": lambda members: members | {"weights.npy": members["weights.npy"][:-4]},
    "lies about its shape": lambda members: members | {"weights.npy": _lying(members["weights.npy"])},
    "too much": lambda members: members | {"weights.npy": members["weights.npy"] + bytes(1 << 20)},
}


def _header(**changes: object) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(members: dict[str, bytes]) -> dict[str, bytes]:
        header = json.loads(members["classifier.json"])
        for name, value in changes.items():
            within = header["report"] if name in header["report"] and name not in header else header
            within[name] = value
        return members | {"classifier.json": json.dumps(header).encode()}

    return change


HOSTILE |= {
    "labels twice": _header(labels=["calm", "calm", "hesitant"]),
    "labels are numbers": _header(labels=[1, 2, 3]),
    "one label": _header(labels=["calm"]),
    "label moves the cursor": _header(labels=["calm", "hesitant", "\x1b[2J"]),
    "no space": _header(space=None),
    "space of no size": _header(space={"encoder": "a", "revision": "b", "projection": "raw", "dim": -1, "labels": []}),
    "another format": _header(format="e2vsearch-classifier-9"),
    "name too long": _header(name="x" * 999),
    "no date": _header(created_at="yesterday"),
    "no report": _header(report=None),
    "report without figures": _header(report={"space": "x"}),
    "accuracy is text": _header(accuracy="very"),
    "accuracy is infinite": _header(accuracy=float("inf")),
    "confusion is ragged": _header(confusion=[[1], [2, 3], []]),
    "contrast is none of them": _header(contrast="something"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a sound file."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("exported")
    with e2vsearch.open(folder / "index") as collection:
        give_all(fill(collection))
        labels.train(collection, "mood")
        labels.export_classifier(collection, None, folder / "mood.npz")
    with zipfile.ZipFile(folder / "mood.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(
    tmp_path: Path, exported: dict[str, bytes], empty: Collection, kind: str
) -> None:
    file = tmp_path / "mood.npz"
    made = HOSTILE[kind](exported)
    if isinstance(made, bytes):
        file.write_bytes(made)
    else:
        written(file, made)
    with pytest.raises(ExportError, match=r"mood\.npz is no classifier") as caught:
        labels.import_classifier(empty, file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not Path("exploded").exists()
    assert labels.classifiers(empty) == ()


def test_the_same_file_unharmed_is_taken(tmp_path: Path, exported: dict[str, bytes], empty: Collection) -> None:
    file = written(tmp_path / "mood.npz", exported)
    assert labels.import_classifier(empty, file).labels == FEELINGS
    assert labels.remove_classifier(empty, "mood") == 1


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A pinned collection with nothing in it."""
    with e2vsearch.open(tmp_path_factory.mktemp("empty") / "index") as collection:
        yield fill(collection, 0)


def test_a_file_that_is_not_there(local: Collection, tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(ExportError, match="cannot be read"):
            labels.import_classifier(local, path)


def test_a_model_is_the_same_after_packing() -> None:
    rng = np.random.default_rng(0)
    model = Model(rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal(3).astype(np.float32))
    vectors = rng.standard_normal((4, 5)).astype(np.float32)
    probabilities = model.probabilities(vectors)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    np.testing.assert_array_equal(unpack(model.pack(), 3, 5).probabilities(vectors), probabilities)
    np.testing.assert_allclose(model.probabilities(vectors * 7), probabilities, rtol=1e-6)  # only direction counts
    assert model.pack() == model.pack()
