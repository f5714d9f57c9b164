"""Classifiers applied to what is stored and to clips, and moments suggested to be labelled next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made import save, silence, speech
from made_labels import A_CALL, CALLS, FEELINGS, feeling, give_all, made_call

from e2vsearch.analysis.labels import types
from e2vsearch.catalog import labels as rows
from e2vsearch.catalog.schema import ClassifierRow
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError, BadFilter, NotStored, QueryError

# --- applying


def test_classifying_the_collection(collection: Collection, trained: types.ClassifierReport) -> None:
    steps: list[tuple[int, int]] = []
    done = collection.labels.classify(progress=lambda *step: steps.append(step))
    total = CALLS * A_CALL
    assert (done.classifier, done.version, done.scored, done.skipped) == ("mood", 1, total, 0)
    assert steps[-1] == (total, total)
    assert sum(done.labels.values()) == done.stored
    right = [segment.label == feeling(number) for number, segment in collection.catalog.segments()]
    assert np.mean(right) > 0.85
    # stored labels are filters, a person's word before a classifier's
    hesitant = set(collection.catalog.select('label = "hesitant"').tolist())
    assert len(hesitant & set(range(2, total, 3))) > 0.8 * total / 3
    [wrong] = [number for number in sorted(hesitant) if number not in rows.labelled(collection.catalog)][:1]
    collection.labels.add("calm", f"seg:{wrong}")
    assert wrong not in collection.catalog.select('label = "hesitant"')
    assert wrong in collection.catalog.select("label = calm and label_score = 1")
    assert set(collection.catalog.select("label_score >= 0.99")) <= set(collection.catalog.select("label is not null"))
    sure = collection.catalog.select('label in (calm, "testing the water") and label_score > 0.9')
    assert 0 < sure.size < total
    hits = collection.query("seg:1", by="segment", k=200, where='label = "testing the water"')
    assert {hit.label for hit in hits} == {"testing the water"}
    with pytest.raises(BadFilter):
        collection.catalog.select("labell = calm")


def test_a_rerun_looks_at_new_segments_only(collection: Collection, trained: types.ClassifierReport) -> None:
    total = CALLS * A_CALL
    first = collection.labels.classify()
    again = collection.labels.classify("mood")
    assert again.labels == first.labels
    # on Postgres what came just before may be told twice, which changes nothing
    assert again.scored + again.skipped == total
    collection.catalog.store(made_call(CALLS))
    collection.remove("call:2")
    later = collection.labels.classify()
    assert A_CALL <= later.scored <= total
    assert later.scored + later.skipped == total
    assert sum(later.labels.values()) <= total
    judged = collection.catalog.select(f"recording = {CALLS + 1} and label is not null")
    assert judged.size >= A_CALL - 2
    stricter = collection.labels.classify(min_score=0.99)  # another threshold means all of them again
    assert stricter.scored == total
    assert sum(stricter.labels.values()) < sum(later.labels.values())


@pytest.mark.slow
def test_a_new_version_replaces_the_old(collection: Collection, trained: types.ClassifierReport) -> None:
    collection.labels.classify()
    collection.labels.train("other one", labels=["calm", "hesitant"])
    assert collection.labels.classify().classifier == "other one"  # the one trained last
    collection.labels.train("mood", labels=["calm", "testing the water"])
    part = collection.labels.classify("mood", where="recording <= 2")
    assert (part.version, part.scored) == (2, 2 * A_CALL)
    versions = lambda: {  # noqa: E731
        (row.name, row.version)
        for row in rows.classifiers(collection.catalog)
        if rows.predicted(collection.catalog, row.id)
    }
    assert versions() == {("mood", 2), ("other one", 1)}  # type: ignore[no-untyped-call]
    whole = collection.labels.classify("mood")
    assert whole.scored == CALLS * A_CALL
    with collection.catalog.reading() as connection:
        ids = {
            row.version: row.id for row in connection.execute(ClassifierRow.__table__.select()) if row.name == "mood"
        }
    assert rows.predicted(collection.catalog, ids[1]) == {}
    collection.labels.remove_classifier("other one")
    assert versions() == {("mood", 2)}  # type: ignore[no-untyped-call]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "none"}, NotStored, "known: mood"),
        ({"min_score": 1.5}, QueryError, "min_score"),
        ({"where": "label ="}, BadFilter, "is invalid"),
    ],
)
def test_classifying_refuses(local: Collection, arguments: dict[str, object], error: type, says: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(NotStored, match="e2vsearch train"):
        local.labels.classify()
    give_all(local)
    local.labels.train("mood")
    with pytest.raises(error, match=says):
        local.labels.classify(**arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_more_segments_than_a_batch(local: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(local)
    local.catalog.store(made_call(50, moments=4500))
    local.labels.train()
    steps: list[tuple[int, int]] = []
    done = local.labels.classify(min_score=0.0, progress=lambda *step: steps.append(step))
    assert len(steps) > 1
    assert done.scored == done.stored == CALLS * A_CALL + 4500
    filtered = local.labels.classify(where="start_s >= 0", min_score=0.0)
    assert filtered.labels == done.labels


def test_classifying_a_clip_stores_nothing(heard: Collection, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    for label, pitch in (("low", 100.0), ("high", 200.0)):
        for seed in range(3):
            heard.labels.add(label, speech(2.5, seed=seed, pitch_hz=pitch))
    assert heard.labels.train().groups == 6
    path = save(tmp_path / "clip.wav", speech(2.5, seed=9, pitch_hz=105.0))
    [moment] = heard.labels.classify_audio(path)
    assert moment == heard.labels.classify_audio(path.as_uri(), "labels")[0]
    assert moment.score == max(moment.probabilities.values()) == moment.probabilities[moment.label]
    assert sum(moment.probabilities.values()) == pytest.approx(1)
    assert {each.channel for each in heard.labels.classify_audio("call:1")} <= {0, 1}
    assert len(heard.labels.classify_audio("seg:1")) == 1
    assert heard.labels.list() == (types.LabelCount("high", 3, 0, 0), types.LabelCount("low", 3, 0, 0))
    with pytest.raises(QueryError, match="no speech"):
        heard.labels.classify_audio(silence(2.0))
    with pytest.raises(NotStored):
        heard.labels.classify_audio("seg:999")


@pytest.mark.slow
def test_a_damaged_classifier_is_named(local: Collection) -> None:
    pytest.importorskip("sklearn")
    give_all(local)
    local.labels.train("mood")
    with local.catalog.writing() as connection:
        connection.execute(ClassifierRow.__table__.update().values(parameters=b"PK nonsense"))
    with pytest.raises(AnalysisError, match=r"'mood' is damaged .* train it again"):
        local.labels.classify()
    with local.catalog.writing() as connection:
        connection.execute(ClassifierRow.__table__.update().values(report={"space": 3}))
    with pytest.raises(AnalysisError, match="'mood' is damaged"):
        local.labels.classifiers()


# --- suggesting


def test_suggestions_without_anything_stand_for_the_most(local: Collection) -> None:
    pytest.importorskip("sklearn")
    found = local.labels.suggest(3)
    assert len({each.segment for each in found}) == 3
    assert {feeling(int(each.segment[4:])) for each in found} == set(FEELINGS)
    assert all("stands for about" in each.why and each.label is None for each in found)
    assert all(each.kind == "typical" and each.share and f"{each.share:.0%}" in each.why for each in found)
    assert local.labels.suggest(3) == found
    one = local.labels.suggest(5, where="recording = 3 and channel = 1")
    assert {(each.recording, each.channel) for each in one} == {("call:3", 1)}


def test_suggestions_between_labels(collection: Collection) -> None:
    collection.labels.add("hesitant", "seg:2", "seg:5")
    alike = collection.labels.suggest(4)
    assert {feeling(int(each.segment[4:])) for each in alike} == {"hesitant"}
    assert all("like the examples of hesitant" in each.why for each in alike)
    assert {(each.kind, each.label, each.other) for each in alike} == {("alike", "hesitant", None)}
    collection.labels.add("calm", "seg:1", "seg:4")
    between = collection.labels.suggest(4)
    assert all(each.why.startswith("between ") for each in between)
    assert {(each.kind, *sorted((str(each.label), str(each.other)))) for each in between} == {
        ("between", "calm", "hesitant")
    }
    assert all(
        (each.emotion, each.emotion_score) == (of.emotion, of.emotion_score)
        for each in between
        for of in collection.segments(each.segment)
    )
    assert not {each.segment for each in between} & {"seg:1", "seg:2", "seg:4", "seg:5"}
    assert len({each.recording for each in between}) == 4
    with pytest.raises(QueryError, match="k must be"):
        collection.labels.suggest(0)


def test_suggestions_by_a_classifiers_doubts(collection: Collection, trained: types.ClassifierReport) -> None:
    found = collection.labels.suggest(8)
    labelled = {f"seg:{number}" for number in rows.labelled(collection.catalog)}
    assert len({each.segment for each in found} - labelled) == 8
    assert len({each.recording for each in found}) == 8  # one a recording while there are others
    assert all(each.why.startswith("undecided: ") and each.label in FEELINGS for each in found)
    assert all(each.kind == "undecided" and each.other in set(FEELINGS) - {each.label} for each in found)
    margins = [each.margin for each in found if each.margin is not None]
    everything = collection.labels.suggest(500)
    assert len(everything) == CALLS * A_CALL - 36
    assert np.mean(margins) < np.mean([each.margin for each in everything if each.margin is not None])
    with pytest.raises(NotStored, match="known: mood"):
        collection.labels.suggest(classifier="none")
    assert collection.labels.suggest(where="segment < 0") == ()
