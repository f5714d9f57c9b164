"""The yardstick: figures against a plain reckoning, chance against random vectors, copies against libsndfile."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation import metrics, ranking, triplets, types
from e2vsearch.errors import AnalysisError, TooFewExamples

Vectors = NDArray[np.float32]
EMOTIONS = np.array(["anger", "calm", "fear"])


def labelled(n: int, seed: int = 0) -> tuple[list[str], list[str], list[str]]:
    """Emotions, speakers and texts, drawn independently."""
    rng = np.random.default_rng(seed)
    kinds = EMOTIONS[rng.integers(0, 3, n)]
    return kinds.tolist(), [f"s{x}" for x in rng.integers(0, 6, n)], [f"t{x}" for x in rng.integers(0, 4, n)]


def drawn(n: int, dim: int = 8, seed: int = 1) -> Vectors:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def one_hot(names: list[str]) -> Vectors:
    return np.eye(len(set(names)), dtype=np.float32)[np.unique(names, return_inverse=True)[1].reshape(-1)]


def naive(
    queries: Vectors, gallery: Vectors, emotions: list[str], may: Callable[[int, int], bool]
) -> tuple[float, list[float], float]:
    """Mean average precision, precision at 1, 5 and 10, and what is expected of a random order: item by item."""
    unit = [row / np.sqrt((row.astype(np.float64) ** 2).sum()) for row in queries]
    found = [row / np.sqrt((row.astype(np.float64) ** 2).sum()) for row in gallery]
    averages, precisions, shares = [], [], []
    for query in range(len(unit)):
        others = [item for item in range(len(unit)) if item != query and may(query, item)]
        others.sort(key=lambda item: -float(unit[query] @ found[item]))
        right = [emotions[item] == emotions[query] for item in others]
        if not any(right):
            continue
        averages.append(np.mean([sum(right[: at + 1]) / (at + 1) for at, hit in enumerate(right) if hit]))
        precisions.append([sum(right[:depth]) / min(depth, len(right)) for depth in (1, 5, 10)])
        shares.append(sum(right) / len(right))
    return float(np.mean(averages)), np.mean(precisions, axis=0).tolist(), float(np.mean(shares))


@pytest.mark.parametrize("among", ["the same", "another gallery"])
def test_figures_are_those_of_a_plain_reckoning(among: str) -> None:
    emotions, speakers, texts = labelled(70)
    vectors = drawn(70)
    gallery = vectors if among == "the same" else drawn(70, seed=9)
    found = metrics.measure(vectors, emotions, speakers, texts, gallery=gallery, draws=10)
    rules: list[tuple[types.Ranking | None, Callable[[int, int], bool]]] = [
        (found.everyone, lambda a, b: True),
        (found.other_speakers, lambda a, b: speakers[a] != speakers[b]),
        (found.other_speakers_and_texts, lambda a, b: speakers[a] != speakers[b] and texts[a] != texts[b]),
    ]
    for ranked, may in rules:
        assert ranked is not None
        average, precision, share = naive(vectors, gallery, emotions, may)
        assert ranked.map == pytest.approx(average, abs=1e-12)
        assert [ranked.precision_at_1, ranked.precision_at_5, ranked.precision_at_10] == pytest.approx(precision)
        assert ranked.precision_chance == pytest.approx(share)
        each = [ranked.by_emotion[name] for name in sorted(ranked.by_emotion)]
        assert sum(of.map * of.queries for of in each) / ranked.queries == pytest.approx(ranked.map)


def test_leak_is_that_of_a_plain_reckoning() -> None:
    emotions, speakers, texts = labelled(60)
    vectors = drawn(60)
    found = metrics.measure(vectors, emotions, speakers, texts, draws=10)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for leak, groups in ((found.same_speaker, speakers), (found.same_text, texts)):
        near, among = [], []
        for query in range(60):
            others = sorted((x for x in range(60) if x != query), key=lambda x: -float(unit[query] @ unit[x]))
            near.append(np.mean([groups[x] == groups[query] for x in others[:10]]))
            among.append(np.mean([groups[x] == groups[query] for x in others]))
        assert leak is not None
        assert leak.at_10 == pytest.approx(np.mean(near))
        assert leak.chance == pytest.approx(np.mean(among))
        assert leak.ratio == pytest.approx(np.mean(near) / np.mean(among))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    emotions, speakers, texts = labelled(90)
    whole = metrics.measure(drawn(90), emotions, speakers, texts, draws=300)
    monkeypatch.setattr(ranking, "_CELLS", 90 * 7)
    in_parts = metrics.measure(drawn(90), emotions, speakers, texts, draws=300)
    assert in_parts == whole


def test_random_vectors_score_as_chance() -> None:
    emotions, speakers, texts = labelled(900)
    found = metrics.measure(drawn(900, dim=64), emotions, speakers, texts)
    for ranked in (found.everyone, found.other_speakers, found.other_speakers_and_texts):
        assert ranked is not None
        assert ranked.map == pytest.approx(ranked.map_chance, abs=0.01)
        assert ranked.precision_at_10 == pytest.approx(ranked.precision_chance, abs=0.02)
    for leak in (found.same_speaker, found.same_text):
        assert leak is not None
        assert leak.ratio == pytest.approx(1.0, abs=0.1)
    assert all(each.accuracy == pytest.approx(0.5, abs=0.04) for each in found.triplets.values())
    assert set(found.triplets) == {"words", "voice", "both"}


@pytest.mark.parametrize(("wanted", "there"), [(1, 1), (1, 7), (3, 9), (5, 5), (2, 40)])
def test_expected_average_precision_is_the_mean_of_random_orders(wanted: int, there: int) -> None:
    rng = np.random.default_rng(0)
    hits = np.arange(there) < wanted
    precisions = []
    for _ in range(4000):
        order = rng.permutation(hits)
        precisions.append((np.cumsum(order) / np.arange(1, there + 1))[order].mean())
    said = ranking.expected_average_precision(np.array([wanted]), np.array([there]))
    assert said[0] == pytest.approx(np.mean(precisions), abs=0.01)


def test_equal_vectors_earn_nothing_from_the_order_of_the_file() -> None:
    emotions, speakers, texts = labelled(300)
    order = np.argsort(emotions)
    emotions, speakers, texts = ([each[at] for at in order] for each in (emotions, speakers, texts))
    same = np.ones((300, 5), np.float32)
    found = metrics.measure(same, emotions, speakers, texts)
    assert found.other_speakers is not None
    assert found.other_speakers.map == pytest.approx(found.other_speakers.map_chance, abs=0.03)
    assert {each.accuracy for each in found.triplets.values()} == {0.5}
    assert metrics.measure(same, emotions, speakers, texts) == found


def test_duplicates_of_one_recording_do_not_find_each_other() -> None:
    emotions, speakers, texts = labelled(40)
    vectors = drawn(40)
    twice = np.concatenate([vectors, vectors])
    recordings = [*range(40), *range(40)]
    apart = metrics.measure(twice, emotions * 2, speakers * 2, texts * 2, draws=5)
    own = metrics.measure(twice, emotions * 2, speakers * 2, texts * 2, recordings=recordings, draws=5)
    assert apart.everyone is not None
    assert own.everyone is not None
    assert apart.everyone.precision_at_1 == 1.0
    assert own.everyone.precision_at_1 < 0.8


@pytest.mark.parametrize("knows", ["emotion", "speaker", "text"])
def test_what_vectors_know_is_what_shows(knows: str) -> None:
    emotions, speakers, texts = labelled(240)
    vectors = (
        one_hot({"emotion": emotions, "speaker": speakers, "text": texts}[knows])
        + 0.01 * drawn(240, 6)[:, : len(set({"emotion": emotions, "speaker": speakers, "text": texts}[knows]))]
    )
    found = metrics.measure(vectors, emotions, speakers, texts)
    accuracy = {kind: each.accuracy for kind, each in found.triplets.items()}
    assert found.other_speakers is not None
    assert found.same_speaker is not None
    assert found.same_text is not None
    if knows == "emotion":
        assert found.other_speakers.map == pytest.approx(1.0)
        assert accuracy == {"words": 1.0, "voice": 1.0, "both": 1.0}
        assert found.same_speaker.at_10 == pytest.approx(found.same_speaker.perfect, abs=0.05)
    elif knows == "speaker":
        assert found.same_speaker.at_10 == pytest.approx(1.0)
        assert accuracy["voice"] == accuracy["both"] == 0.0
    else:
        assert found.same_text.at_10 == pytest.approx(1.0)
        assert accuracy["words"] == accuracy["both"] == 0.0


@pytest.mark.parametrize("kind", triplets.KINDS)
def test_triplets_are_of_their_kind_and_drawn_evenly(kind: types.TripletKind) -> None:
    emotions, speakers, texts = (np.unique(each, return_inverse=True)[1].astype(np.int32) for each in labelled(40))
    got = triplets.draw(kind, (emotions, speakers, texts), 40_000, np.random.default_rng(0))
    assert got is not None
    a, p, n = got.anchors, got.positives, got.negatives
    assert (emotions[a] == emotions[p]).all()
    assert (speakers[a] != speakers[p]).all()
    assert (texts[a] != texts[p]).all()
    assert (emotions[a] != emotions[n]).all()
    assert ((texts[a] == texts[n]) == (kind != "voice")).all()
    assert ((speakers[a] == speakers[n]) == (kind != "words")).all()
    anchor = a[0]
    positives = np.flatnonzero(
        (emotions == emotions[anchor]) & (speakers != speakers[anchor]) & (texts != texts[anchor])
    )
    counts = np.bincount(p[a == anchor], minlength=40)
    assert set(np.flatnonzero(counts)) == set(positives)
    assert counts[positives].min() > 0.6 * counts[positives].mean()
    possible = sum(
        bool(
            ((emotions == emotions[x]) & (speakers != speakers[x]) & (texts != texts[x])).any()
            and (
                (emotions != emotions[x])
                & ((texts == texts[x]) == (kind != "voice"))
                & ((speakers == speakers[x]) == (kind != "words"))
            ).any()
        )
        for x in range(40)
    )
    assert got.possible == possible == np.unique(a).size


def test_intervals_are_wider_for_few_speakers_than_for_items() -> None:
    emotions, _, texts = labelled(400)
    speakers = [f"s{at % 4}" for at in range(400)]
    emotion = one_hot(emotions)
    helped = np.array([speaker in ("s0", "s1") for speaker in speakers])[:, None]  # the others carry nothing
    found = metrics.measure(np.where(helped, emotion, drawn(400, 3)), emotions, speakers, texts)
    by_item = metrics.measure(np.where(helped, emotion, drawn(400, 3)), emotions, list(range(400)), texts)
    for ranked, other in ((found.other_speakers, by_item.other_speakers),):
        assert ranked is not None
        assert other is not None
        assert ranked.map_interval is not None
        assert other.map_interval is not None
        assert ranked.map_interval[0] < ranked.map < ranked.map_interval[1]
        assert np.ptp(ranked.map_interval) > 2 * np.ptp(other.map_interval)


def test_unknown_speakers_and_texts_are_left_out() -> None:
    emotions, speakers, texts = labelled(80)
    known = np.arange(80) % 4 > 0
    some = [speaker if ok else "" for speaker, ok in zip(speakers, known, strict=True)]
    found = metrics.measure(drawn(80), emotions, some, texts, draws=50)
    only = [np.array(each)[known].tolist() for each in (emotions, speakers, texts)]
    alone = metrics.measure(drawn(80)[known], only[0], only[1], only[2], draws=50)
    assert found.other_speakers == alone.other_speakers
    assert found.same_speaker == alone.same_speaker
    assert found.triplets == alone.triplets
    assert found.everyone is not None
    assert found.everyone.queries == 80
    none = metrics.measure(drawn(80), emotions)
    assert (none.other_speakers, none.same_speaker, none.same_text, none.triplets) == (None, None, None, {})


@pytest.mark.parametrize(
    ("vectors", "emotions", "error", "message"),
    [
        (drawn(3), ["a", "a", "a"], TooFewExamples, "two emotions"),
        (drawn(3), ["a", "b", "c"], TooFewExamples, "twice"),
        (drawn(0), [], TooFewExamples, "two emotions"),
        (drawn(4), ["a", "a", "b"], AnalysisError, "do not fit"),
        (np.full((3, 2), np.nan, np.float32), ["a", "a", "b"], AnalysisError, "NaN"),
    ],
)
def test_what_cannot_be_measured(vectors: Vectors, emotions: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        metrics.measure(vectors, emotions)


def test_gain_is_paired() -> None:
    emotions, speakers, texts = labelled(200)
    noise = drawn(200, 3)
    worse, better = one_hot(emotions) + noise, one_hot(emotions) + 0.7 * noise
    gained = metrics.gain(better, worse, emotions, speakers)
    a, b = (metrics.measure(each, emotions, speakers, texts, draws=1).other_speakers for each in (better, worse))
    assert a is not None
    assert b is not None
    assert gained.map == pytest.approx(a.map - b.map)
    assert gained.precision_at_10 == pytest.approx(a.precision_at_10 - b.precision_at_10)
    assert gained.map_interval is not None
    assert 0 < gained.map_interval[0] < gained.map < gained.map_interval[1]
    assert metrics.gain(worse, worse, emotions, speakers).map_interval == (0.0, 0.0)


@pytest.mark.slow
def test_thousands_take_seconds() -> None:
    emotions, speakers, texts = labelled(3000)
    started = time.process_time()  # not by the clock: others may be at work here
    metrics.measure(drawn(3000, 32), emotions, speakers, texts)
    assert time.process_time() - started < 20  # 1 s on one quiet core; the same in loops over pairs takes minutes


@pytest.mark.parametrize(
    ("classes", "emotions", "uar", "chance"),
    [
        (["angry", "happy", "other"], ["anger", "anger", "joy"], 0.75, 0.5),
        (["angry", "happy", "other"], ["anger", "anger", "boredom"], None, None),
        ([], ["anger", "joy", "joy"], None, None),
    ],
)
def test_recall_of_classes(classes: list[str], emotions: list[str], uar: float | None, chance: float | None) -> None:
    scores = np.array([[0.5, 0.1, 0.9], [0.1, 0.5, 0.0], [0.1, 0.2, 0.7]], np.float32)[:, : len(classes)]
    found = metrics.recall(scores, classes, emotions)
    assert (None if found is None else (found.uar, found.chance)) == (None if uar is None else (uar, chance))
