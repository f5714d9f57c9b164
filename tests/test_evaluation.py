"""The yardstick: figures against a plain reckoning, chance against random vectors, copies against libsndfile."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import save, silence, sine, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.analysis import evaluation
from e2vsearch.analysis.evaluation import Figures, Material, calls, conditions, ranking, recalls, triplets
from e2vsearch.catalog import projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AnalysisError, NotStored, SettingsError, SpaceMismatch, TooFewExamples
from e2vsearch.projections.parts import Parts

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
    found = evaluation.figures(vectors, emotions, speakers, texts, gallery=gallery, draws=10)
    rules: list[tuple[evaluation.Ranking | None, Callable[[int, int], bool]]] = [
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
    found = evaluation.figures(vectors, emotions, speakers, texts, draws=10)
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
    whole = evaluation.figures(drawn(90), emotions, speakers, texts, draws=300)
    monkeypatch.setattr(ranking, "_CELLS", 90 * 7)
    in_parts = evaluation.figures(drawn(90), emotions, speakers, texts, draws=300)
    assert in_parts == whole


def test_random_vectors_score_as_chance() -> None:
    emotions, speakers, texts = labelled(900)
    found = evaluation.figures(drawn(900, dim=64), emotions, speakers, texts)
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
    found = evaluation.figures(same, emotions, speakers, texts)
    assert found.other_speakers is not None
    assert found.other_speakers.map == pytest.approx(found.other_speakers.map_chance, abs=0.03)
    assert {each.accuracy for each in found.triplets.values()} == {0.5}
    assert evaluation.figures(same, emotions, speakers, texts) == found


def test_duplicates_of_one_recording_do_not_find_each_other() -> None:
    emotions, speakers, texts = labelled(40)
    vectors = drawn(40)
    twice = np.concatenate([vectors, vectors])
    recordings = [*range(40), *range(40)]
    apart = evaluation.figures(twice, emotions * 2, speakers * 2, texts * 2, draws=5)
    own = evaluation.figures(twice, emotions * 2, speakers * 2, texts * 2, recordings=recordings, draws=5)
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
    found = evaluation.figures(vectors, emotions, speakers, texts)
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
def test_triplets_are_of_their_kind_and_drawn_evenly(kind: evaluation.TripletKind) -> None:
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
    found = evaluation.figures(np.where(helped, emotion, drawn(400, 3)), emotions, speakers, texts)
    by_item = evaluation.figures(np.where(helped, emotion, drawn(400, 3)), emotions, list(range(400)), texts)
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
    found = evaluation.figures(drawn(80), emotions, some, texts, draws=50)
    only = [np.array(each)[known].tolist() for each in (emotions, speakers, texts)]
    alone = evaluation.figures(drawn(80)[known], only[0], only[1], only[2], draws=50)
    assert found.other_speakers == alone.other_speakers
    assert found.same_speaker == alone.same_speaker
    assert found.triplets == alone.triplets
    assert found.everyone is not None
    assert found.everyone.queries == 80
    none = evaluation.figures(drawn(80), emotions)
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
        evaluation.figures(vectors, emotions)


def test_gain_is_paired() -> None:
    emotions, speakers, texts = labelled(200)
    noise = drawn(200, 3)
    worse, better = one_hot(emotions) + noise, one_hot(emotions) + 0.7 * noise
    gained = evaluation.gain(better, worse, emotions, speakers)
    a, b = (evaluation.figures(each, emotions, speakers, texts, draws=1).other_speakers for each in (better, worse))
    assert a is not None
    assert b is not None
    assert gained.map == pytest.approx(a.map - b.map)
    assert gained.precision_at_10 == pytest.approx(a.precision_at_10 - b.precision_at_10)
    assert gained.map_interval is not None
    assert 0 < gained.map_interval[0] < gained.map < gained.map_interval[1]
    assert evaluation.gain(worse, worse, emotions, speakers).map_interval == (0.0, 0.0)


def test_thousands_take_seconds() -> None:
    emotions, speakers, texts = labelled(3000)
    started = time.perf_counter()
    evaluation.figures(drawn(3000, 32), emotions, speakers, texts)
    assert time.perf_counter() - started < 20  # 1 s on one quiet core; the same in loops over pairs takes minutes


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
    found = recalls.recall(scores, classes, emotions)
    assert (None if found is None else (found.uar, found.chance)) == (None if uar is None else (uar, chance))


# --- telephone copies


def test_mu_law_is_that_of_libsndfile(tmp_path: Path) -> None:
    import soundfile

    samples = (np.arange(-32_768, 32_768, dtype=np.int32) / 32_768).astype(np.float64)
    soundfile.write(tmp_path / "law.wav", (samples * 32_768).astype(np.int16), 8_000, subtype="ULAW")
    theirs, _ = soundfile.read(tmp_path / "law.wav", dtype="float64")
    ours = conditions.mu_law(samples)
    assert len(np.unique(ours)) == 255  # of 256 codes two are zero
    assert (ours == theirs).all()
    assert conditions.mu_law(ours) == pytest.approx(ours)


def test_telephone_copies_keep_the_band_and_the_length() -> None:
    rng = np.random.default_rng
    quiet = evaluation.TelephoneOptions(snr_db=(60, 60), loss=(0, 0))
    tones = sine(2.0, 100) + sine(2.0, 1000) + sine(2.0, 3800) + sine(2.0, 6000)
    copy = evaluation.telephone(tones, rng(0), quiet)
    assert copy.shape == tones.shape
    assert copy.dtype == np.float32
    power = np.abs(np.fft.rfft(copy)) ** 2
    at = {hz: power[hz * 2 - 4 : hz * 2 + 5].sum() for hz in (100, 1000, 3800, 6000)}
    assert all(at[hz] < 1e-3 * at[1000] for hz in (100, 3800, 6000))
    spoken = speech(2.0)
    assert (evaluation.telephone(spoken, rng(1)) == evaluation.telephone(spoken, rng(1))).all()
    assert (evaluation.telephone(spoken, rng(1)) != evaluation.telephone(spoken, rng(2))).any()
    assert not evaluation.telephone(silence(1.0), rng(0)).any()
    for samples in (1, 399, 16_001):
        assert evaluation.telephone(sine(2.0)[:samples], rng(0)).shape == (samples,)


@pytest.mark.parametrize("snr_db", [5.0, 15.0, 25.0])
def test_noise_is_at_the_level_that_was_drawn(snr_db: float) -> None:
    options = evaluation.TelephoneOptions(snr_db=(snr_db, snr_db), level_db=(-20, -20), loss=(0, 0))
    copy = evaluation.telephone(sine(4.0, 1000), np.random.default_rng(3), options)[8_000:-8_000]
    power = np.abs(np.fft.rfft(copy * np.hanning(copy.size))) ** 2
    tone = power[np.abs(np.fft.rfftfreq(copy.size, 1 / 16_000) - 1000) < 5].sum()
    assert 10 * np.log10(tone / (power.sum() - tone)) == pytest.approx(snr_db, abs=1.0)


def test_packets_are_lost_in_bursts_and_concealed() -> None:
    lost = conditions._losses(200_000, 0.05, 2.0, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(0.05, abs=0.004)
    starts = (lost[1:] & ~lost[:-1]).sum()
    assert lost.sum() / starts == pytest.approx(2.0, abs=0.1)
    line = np.ones(480)
    heard = conditions._concealed(line, np.array([False, True, True]))
    assert heard.reshape(3, 160)[:, 0].tolist() == [1.0, 0.5, 0.25]
    assert line.all()


# --- tables


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufefffile;Label;ACTOR;sentence_id;Session;channel\na.wav;Anger ;7;It is  ELEVEN;c1;1\n")
    (row,) = evaluation.read_labels(path).rows
    assert (row.path, row.emotion, row.speaker, row.text, row.call, row.channel, row.line) == (
        *("a.wav", "anger", "7", "it is eleven", "c1"),
        *(1, 2),
    )


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = "path,emotion,channel\na.wav,joy,\n,joy,\nb.wav,,\na.wav,fear,\nc.wav,joy,left\n\na.wav,joy,1\n"
    found = evaluation.read_labels(table(tmp_path, rows))
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
        evaluation.read_labels(path)


# --- from audio, and from a collection

PITCHES_HZ = {"s1": 105, "s2": 115, "s3": 125}
RATES_HZ = {"calm": 2.5, "anger": 6.0}


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
def material(corpus: Path) -> Material:
    return evaluation.listen(corpus / "meta" / "labels.csv", FakeEncoder(), ("clean", "telephone"), workers=2)


def test_evaluate_hears_files(corpus: Path, material: Material) -> None:
    seen: list[evaluation.Progress] = []
    found = evaluation.evaluate(
        corpus / "meta" / "labels.csv", FakeEncoder(), condition="all", draws=60, progress=seen.append
    )
    assert (found.n, found.speakers, found.texts, found.emotions) == (12, 3, 2, {"anger": 6, "calm": 6})
    assert list(found.figures) == ["clean", "telephone", "telephone_in_clean"]
    assert found.figures["clean"] != found.figures["telephone"]
    assert (found.failures, found.notes, found.projection) == ((), (), "raw")
    assert [each.done for each in seen] == list(range(1, 13))
    assert seen[-1].audio_s == pytest.approx(18.0)
    assert evaluation.evaluate(material, condition="all", draws=60) == found
    clean = found.figures["clean"].other_speakers
    assert clean is not None
    assert (found.map, found.precision_at_10) == (clean.map, clean.precision_at_10)
    assert found.uar is None  # low and high are no emotions


def test_a_copy_depends_on_nothing_but_seed_and_path(corpus: Path, material: Material, tmp_path: Path) -> None:
    lines = (corpus / "meta" / "labels.csv").read_text(encoding="utf-8").splitlines()
    (corpus / "meta" / "few.csv").write_text("\n".join([lines[0], lines[6], lines[3]]), encoding="utf-8")
    few = evaluation.listen(corpus / "meta" / "few.csv", FakeEncoder(), ("telephone",))
    assert (few.vectors["telephone"] == material.vectors["telephone"][[5, 2]]).all()
    other = evaluation.listen(corpus / "meta" / "few.csv", FakeEncoder(), ("telephone",), seed=1)
    assert (other.vectors["telephone"] != few.vectors["telephone"]).any()


def test_projections_are_applied_before_comparing(material: Material) -> None:
    def first_only(vectors: Vectors) -> Vectors:
        assert vectors.shape == (12, 16)
        return vectors[:, :1]

    found = evaluation.evaluate(material, project=first_only, draws=60)
    narrow = replace(material, vectors={"clean": material.vectors["clean"][:, :1]})
    expected = evaluation.evaluate(narrow, draws=60)
    assert found.figures == expected.figures
    assert found.projection == "first_only"


def test_by_call_takes_means(material: Material) -> None:
    made, notes = calls.by_call(material)
    assert len(made.rows) == 6
    assert notes == []
    assert {row.text for row in made.rows} == {""}  # two sentences each
    assert [row.speaker for row in made.rows] == ["s1", "s1", "s2", "s2", "s3", "s3"]
    pair = ranking.unit(material.vectors["clean"][:2])
    assert made.vectors["clean"][0] == pytest.approx(pair.mean(axis=0), abs=1e-6)
    found = evaluation.evaluate(material, by="call", draws=10)
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
    found = evaluation.listen(path, FakeEncoder())
    assert list(zip(found.files, found.channels, strict=True)) == [("one.wav", 0), ("two.wav", 0), ("two.wav", 1)]
    assert [row.emotion for row in found.rows] == ["calm", "calm", "anger"]
    assert found.lengths_s.tolist() == pytest.approx([1.5, 31.0, 31.0])
    failures = [(each.line, each.reason) for each in found.failures]
    assert failures == [(5, "empty"), (6, "empty"), (7, "bad-signal"), (8, "not-audio"), (9, "missing")]
    assert all(f"line {each.line}: " in each.message and "\n" not in each.message for each in found.failures)
    with pytest.raises(TooFewExamples, match="5 rows failed, the first: line 5"):
        evaluation.evaluate(table(tmp_path, path.read_text().replace("anger", "calm")), FakeEncoder())


@pytest.fixture
def collection(corpus: Path, tmp_path: Path) -> e2vsearch.Collection:
    with e2vsearch.open(tmp_path / "index", encoder="fake") as made:
        made.ingest(corpus, workers=1)
        return made


def test_stored_segments_are_joined_by_path(corpus: Path, collection: e2vsearch.Collection) -> None:
    found = collection.evaluate(corpus / "meta" / "labels.csv")
    assert found.n == collection.status().counts.segments == 12
    assert found.failures == ()
    stored = evaluation.recall(corpus / "meta" / "labels.csv", collection)
    batch = collection.catalog.feed().fetch(np.arange(1, 13))
    assert (stored.vectors["clean"] == batch.vectors).all()
    for row, file in zip(stored.rows, stored.files, strict=True):
        assert Path(collection.recording(file).uri).name == row.path
    named = evaluation.recall(
        table(collection.place.folder or corpus, "path,emotion\nx/s1_calm_0.wav,a\nno,b\n"), collection
    )
    assert [row.path for row in named.rows] == ["x/s1_calm_0.wav"]
    assert [(each.line, each.reason) for each in named.failures] == [(3, "missing")]


def test_a_collections_projection_is_what_is_compared(corpus: Path, collection: e2vsearch.Collection) -> None:
    labels = corpus / "meta" / "labels.csv"
    view = np.eye(16, 3, dtype=np.float32)
    mine = Parts("fitted", "mine", np.zeros(16, np.float32), view, view[:, :0], 0.0)
    kept = StoredProjection(mine.name, mine.kind, mine.revision, mine.pack(), {}, projections.now())
    projections.put(collection.catalog, kept)
    raw, named = collection.evaluate(labels), collection.evaluate(labels, "mine")
    expected = evaluation.evaluate(evaluation.recall(labels, collection), project=mine.apply)
    assert (named.projection, named.figures["clean"]) == ("mine", expected.figures["clean"])
    assert named.figures["raw"] == raw.figures["clean"]
    assert (raw.projection, raw.figures == named.figures) == ("raw", False)
    projections.use(collection.catalog, "mine")
    assert collection.evaluate(labels) == named
    assert collection.evaluate(labels, "raw") == raw


def test_telephone_copies_are_heard_by_the_collections_encoder(
    corpus: Path, collection: e2vsearch.Collection, material: Material
) -> None:
    found = collection.evaluate(corpus / "meta" / "labels.csv", condition="telephone")
    assert found.figures["telephone"] == evaluation.evaluate(material, condition="telephone").figures["telephone"]


def test_options_that_make_no_sense(corpus: Path, collection: e2vsearch.Collection, material: Material) -> None:
    labels = corpus / "meta" / "labels.csv"
    with pytest.raises(SettingsError, match="name an encoder"):
        evaluation.evaluate(labels, collection=collection, condition="all")
    with pytest.raises(SettingsError, match="need no encoder"):
        evaluation.evaluate(material, FakeEncoder())
    with pytest.raises(SettingsError, match="stored in a collection"):
        evaluation.evaluate(labels, FakeEncoder(), projection="mine")
    with pytest.raises(SettingsError, match="condition is"):
        evaluation.evaluate(material, condition="noisy")  # type: ignore[arg-type]
    with pytest.raises(NotStored, match="mine"):
        collection.evaluate(labels, "mine")
    with pytest.raises(SpaceMismatch):
        evaluation.evaluate(labels, FakeEncoder("fake-2"), collection=collection)


def test_emodb_as_measured(shared_audio: Path) -> None:
    """A tenth of EMO-DB with the encoder that ships: far from chance, and its telephone copies not far from that."""
    source = shared_audio / "emodb" / "labels.csv"
    table_ = evaluation.read_labels(source)
    some = evaluation.LabelTable(table_.folder, table_.rows[::9], ())
    from e2vsearch import encoders

    found = evaluation.evaluate(some, encoders.open("light"), condition="all")
    clean: Figures = found.figures["clean"]
    telephone: Figures = found.figures["telephone"]
    assert clean.other_speakers is not None
    assert telephone.other_speakers is not None
    assert clean.other_speakers.map > 2 * clean.other_speakers.map_chance
    assert telephone.other_speakers.map > 1.5 * telephone.other_speakers.map_chance
    assert found.uar is not None
    assert found.uar > 1.5 / 6
