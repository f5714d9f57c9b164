"""Blocks and projections: rows beside `figures` and `evaluate`, heads that least squares gives back, and refusals."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from command import Run
from made import save, speech
from numpy.typing import NDArray
from opened_emotion2vec import NEEDED, opened
from planted import Planted
from random_emotion2vec import write_model

from e2vsearch.analysis.evaluation import evaluate, layers, metrics
from e2vsearch.analysis.evaluation.types import Figures
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import EncoderError, SettingsError, TooFewExamples
from e2vsearch.projections import adapt
from e2vsearch.projections.base import softmax
from e2vsearch.projections.head import recover_head
from e2vsearch.types import Head
from e2vsearch.vectors.exact import unit

Vectors = NDArray[np.float32]
NAMES = ("raw", "log-posteriors", "head", "adapted")
SPEAKERS, TEXTS = 5, 3


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five speakers, two emotions (slow and fast), three texts: 30 clips."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [("path", "emotion", "speaker", "text")]
    for speaker in range(SPEAKERS):
        for emotion, rate in (("calm", 2.5), ("anger", 6.0)):
            for text in range(TEXTS):
                name = f"{speaker}_{emotion}_{text}.wav"
                save(folder / name, speech(0.8, seed=text, pitch_hz=95 + 10 * speaker, syllables_hz=rate))
                rows.append((name, emotion, f"s{speaker}", f"t{text}"))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


class Blocks(FakeEncoder):
    """The fake encoder with a head, and three blocks: mirrored, noise of the signal's own, and its vector."""

    blocks = 3

    def head(self) -> Head | None:
        rng = np.random.default_rng(3)
        return Head(rng.standard_normal((5, 16)).astype(np.float32), rng.standard_normal(5).astype(np.float32))

    def _layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        (vector,) = self._encode([signal]).vectors
        noise = np.random.default_rng(abs(int(1e6 * vector[0]))).standard_normal(16)
        return np.stack([-vector[::-1], noise, vector]).astype(np.float32)


class Headless(Blocks):
    """Blocks without a classifier."""

    def head(self) -> Head | None:
        return None


# -------------------------------------------------------------------------------------------------------------- arrays


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted(192)


@pytest.fixture(scope="module")
def stacked(planted: Planted) -> Vectors:
    """Three blocks: voices and words without emotion, the vectors turned, and the vectors themselves."""
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((192, 192)))[0]
    without = planted.vectors - planted.vectors @ planted.emotion.T @ planted.emotion
    return np.stack([without, planted.vectors @ turn, planted.vectors], axis=1).astype(np.float32)


def figures_of(planted: Planted, queries: Vectors, gallery: Vectors | None = None) -> Figures:
    return metrics.measure(queries, planted.emotions, planted.voices, planted.texts, gallery=gallery, draws=200)


def map_of(figures: Figures) -> float:
    assert figures.other_speakers is not None
    return figures.other_speakers.map


def test_folds_are_of_one_size_and_the_same_for_a_seed() -> None:
    folds = layers.folds_of(52, 1)
    assert np.bincount(folds).tolist() == [11, 11, 10, 10, 10]
    assert (folds == layers.folds_of(52, 1)).all()
    assert (folds != layers.folds_of(52, 2)).any()
    assert (np.diff(folds[:20]) != np.diff(folds[:20])[0]).any()  # not every fifth: tables are in some order


def test_heads_are_fitted_to_other_folds_of_every_block_but_the_last(planted: Planted, stacked: Vectors) -> None:
    of, folds = planted.head_beside(0.05), layers.folds_of(len(stacked), 0)
    blind, turned, last = layers.heads(stacked, of, folds)
    assert last == [of]
    assert len(blind) == len(turned) == layers.FOLDS
    told = softmax(planted.vectors @ of.weights.T.astype(np.float64) + of.biases)
    for fold, (unseeing, found) in enumerate(zip(blind, turned, strict=True)):
        out = folds == fold
        again = softmax(stacked[out, 1] @ found.weights.T.astype(np.float64) + found.biases)
        np.testing.assert_allclose(again, told[out], atol=0.02)
        expected = recover_head(stacked[~out, 0], told[~out])
        np.testing.assert_allclose(unseeing.weights, expected.weights, atol=1e-4)
    assert layers.heads(planted.vectors[:5, None], of, folds[:5]) == [[of]]
    with pytest.raises(TooFewExamples, match="scored segments are too few"):
        layers.heads(stacked[:20], of, folds[:20])


@pytest.mark.slow
def test_a_block_that_is_the_last_one_turned_has_its_figures_and_one_without_emotion_has_none(
    planted: Planted, stacked: Vectors
) -> None:
    of, folds = planted.head_beside(0.05), layers.folds_of(len(stacked), 0)
    made = [[layers.projections_of(each) for each in heads] for heads in layers.heads(stacked, of, folds)]
    rows = layers.layer_figures(stacked, made, folds, partial(figures_of, planted))
    found = {(block, name): map_of(figures) for block, name, figures in rows}
    assert list(found) == [(block, name) for block in (1, 2, 3) for name in NAMES]
    for name in NAMES:
        assert found[1, name] < 0.25  # of five emotions
        assert found[2, name] == pytest.approx(found[3, name], abs=0.02)
    assert found[3, "head"] > found[3, "raw"] + 0.3
    assert found[3, "adapted"] > found[3, "head"]


@pytest.mark.slow
def test_a_head_fitted_to_its_own_queries_finds_what_is_not_in_their_vectors() -> None:
    planted = Planted()  # 480 items of 1,024 numbers
    of, folds = planted.head_beside(0.05), layers.folds_of(len(planted.vectors), 0)
    without = (planted.vectors - planted.vectors @ planted.emotion.T @ planted.emotion).astype(np.float32)
    told = softmax(planted.vectors @ of.weights.T.astype(np.float64) + of.biases)
    raw = map_of(figures_of(planted, without))
    own = adapt.log_posteriors(recover_head(without, told), without).apply(without)
    heads = layers.heads(np.stack([without, planted.vectors], axis=1), of, folds)[0]

    def log_posteriors(head: Head) -> layers.Projections:
        return lambda vectors: {"log-posteriors": adapt.log_posteriors(head, vectors)}

    made = [[log_posteriors(each) for each in heads]]
    _, (*_, others) = layers.layer_figures(without[:, None], made, folds, partial(figures_of, planted))
    found = [round(each, 2) for each in (map_of(figures_of(planted, own)), map_of(others), raw)]
    assert found == pytest.approx([0.76, 0.26, 0.21], abs=0.011)


@pytest.mark.slow
def test_each_query_is_compared_through_the_head_of_its_own_fold(planted: Planted, stacked: Vectors) -> None:
    """By loops: each query's average precision among other voices, through the projection that its fold has."""
    of, folds = planted.head_beside(0.05), layers.folds_of(len(stacked), 0)
    heads = layers.heads(stacked, of, folds)[:1]
    made = [[layers.projections_of(each) for each in heads[0]]]
    rows = layers.layer_figures(stacked[:, :1], made, folds, partial(figures_of, planted))
    found = {name: map_of(figures) for _, name, figures in rows}
    own = stacked[:, 0]
    of_folds = [each(own) for each in made[0]]
    for name in ("log-posteriors", "adapted"):
        sides = [unit(each[name].apply(own)) for each in of_folds]
        averages = []
        for query in range(len(own)):
            others = np.flatnonzero(planted.voices != planted.voices[query])
            side = sides[folds[query]]
            order = others[np.argsort(-(side[others] @ side[query]))]
            right = planted.emotions[order] == planted.emotions[query]
            averages.append((right.cumsum() / np.arange(1, len(right) + 1))[right].mean())
        assert found[name] == pytest.approx(np.mean(averages), abs=1e-4)


def test_raw_figures_are_those_of_the_blocks_own_vectors(planted: Planted, stacked: Vectors) -> None:
    folds = layers.folds_of(len(stacked), 0)
    found = list(layers.layer_figures(stacked, [[], [], []], folds, partial(figures_of, planted)))
    assert [(block, name) for block, name, _ in found] == [(1, "raw"), (2, "raw"), (3, "raw")]
    for block, _, figures in found:
        assert figures == figures_of(planted, stacked[:, block - 1])


# --------------------------------------------------------------------------------------------------------------- audio


@NEEDED
def test_the_last_block_has_the_figures_of_evaluate(labels: Path, folder: Path) -> None:
    encoder = opened(folder)
    found = layers.evaluate_layers(labels, encoder, draws=50)
    assert [(row.block, row.projection) for row in found.rows] == [(block, name) for block in (1, 2) for name in NAMES]
    assert (found.n, found.speakers, found.texts, found.failures) == (30, 5, 3, ())
    assert (found.emotions, found.space) == ({"anger": 15, "calm": 15}, encoder.space)
    rows = {row.projection: row for row in found.rows if row.block == 2}
    whole = evaluate.evaluate(labels, encoder, draws=50)
    for name, condition in (("raw", "raw"), ("adapted", "clean")):
        figures, row = whole.figures[condition], rows[name]
        assert figures.other_speakers is not None
        assert figures.same_speaker is not None
        assert row.map == pytest.approx(figures.other_speakers.map, abs=1e-6)
        assert row.map_chance == pytest.approx(figures.other_speakers.map_chance)
        assert row.map_interval == pytest.approx(figures.other_speakers.map_interval, abs=1e-6)
        assert row.triplets == pytest.approx({kind: each.accuracy for kind, each in figures.triplets.items()})
        assert row.leak == pytest.approx(figures.same_speaker.ratio)
    alone = layers.evaluate_layers(labels, encoder, layers=False, draws=50)
    for row in alone.rows:
        assert row.block == 2
        assert row.map == pytest.approx(rows[row.projection].map, abs=1e-6)
    assert len(alone.rows) == 4


@NEEDED
def test_notes_name_fitted_heads_and_rows_that_are_alike(labels: Path, folder: Path) -> None:
    encoder = opened(folder)
    fitted, same = layers.evaluate_layers(labels, encoder, draws=50).notes
    assert fitted.startswith("the head is that of block 2: for other blocks heads are fitted by least squares to its")
    assert same.startswith("adapted is as head: a head is adapted to more than 200 clips")
    (alone,) = layers.evaluate_layers(labels, encoder, layers=False, draws=50).notes
    assert alone == same
    assert layers.evaluate_layers(labels, encoder, projections=False, draws=50).notes == ()


def test_every_block_of_any_encoder_is_measured(labels: Path) -> None:
    found = layers.evaluate_layers(labels, Blocks(), draws=50)
    by = {(row.block, row.projection): row for row in found.rows}
    assert len(by) == 12
    assert by[1, "raw"].map == pytest.approx(by[3, "raw"].map)  # mirrored
    assert by[1, "raw"].map != pytest.approx(by[2, "raw"].map)


def test_without_projections_every_block_is_raw_and_needs_no_head(labels: Path) -> None:
    found = layers.evaluate_layers(labels, Headless(), projections=False, draws=50)
    assert [(row.block, row.projection) for row in found.rows] == [(1, "raw"), (2, "raw"), (3, "raw")]


@pytest.mark.slow
def test_what_ships_with_an_encoder_stands_beside_raw_vectors(labels: Path) -> None:
    found = layers.evaluate_layers(labels, "light", layers=False, draws=50)
    whole = evaluate.evaluate(labels, "light", draws=50)
    for row, condition in zip(found.rows, ("raw", "clean"), strict=True):
        ranking = whole.figures[condition].other_speakers
        assert ranking is not None
        name = "raw" if condition == "raw" else whole.projection
        assert (row.block, row.projection, row.map) == (None, name, ranking.map)


def test_speakers_and_texts_that_are_not_named_leave_figures_out(labels: Path, tmp_path: Path) -> None:
    lines = [line.rsplit(",", 2)[0] for line in labels.read_text(encoding="utf-8").splitlines()]
    bare = labels.parent / "bare.csv"
    bare.write_text("\n".join([*lines, "gone.wav,calm"]), encoding="utf-8")
    found = layers.evaluate_layers(bare, Blocks(), draws=50)
    assert {(row.map, row.map_interval, row.map_chance, row.leak) for row in found.rows} == {(None, None, None, None)}
    assert found.rows[0].triplets == {"words": None, "voice": None, "both": None}
    assert "no item names its speaker: left out wherever speakers count" in found.notes
    assert [each.reason for each in found.failures] == ["missing"]


@pytest.mark.parametrize(
    ("encoder", "every", "message"),
    [
        ("light", True, "light gives one vector a clip and none a block - leave layers out, or take emotion2vec"),
        (Headless(), True, "fake has no head that projections are made of - leave projections out"),
        ("fake", False, "fake has no head that projections are made of - leave projections out"),
    ],
)
def test_encoders_that_cannot(labels: Path, encoder: str | Headless, every: bool, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        layers.evaluate_layers(labels, encoder, layers=every)


def test_too_few_clips_are_told_with_the_first_failure(labels: Path, tmp_path: Path) -> None:
    few = labels.parent / "few.csv"
    few.write_text("\n".join([*labels.read_text(encoding="utf-8").splitlines()[:10], "gone.wav,calm,s,t"]), "utf-8")
    with pytest.raises(TooFewExamples, match=r"9 clips are too few .* - label 25 .*; 1 rows failed"):
        layers.evaluate_layers(few, Blocks())
    few.write_text("path,emotion\ngone.wav,calm\n", encoding="utf-8")
    with pytest.raises(TooFewExamples, match=r"0 labelled segments .*; 1 rows failed, the first: line 2"):
        layers.evaluate_layers(few, Blocks(), projections=False)
    with pytest.raises(TooFewExamples, match=r"0 clips .* label 20 or more"):
        layers.evaluate_layers(few, Blocks(), layers=False)
    with pytest.raises(SettingsError, match="draws must be 1 or more, not 0"):
        layers.evaluate_layers(labels, Blocks(), draws=0)


# -------------------------------------------------------------------------------------------------------- command line


@NEEDED
def test_the_command_prints_one_row_a_block_and_projection(
    run: Run, labels: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ("evaluate", labels, "--encoder", folder, "--layers", "--projections", "--draws", 50)
    done = run(*arguments)
    assert done.code == 0, done.err
    (found,) = done.rows
    assert done.err.count("note: ") == len(found["notes"]) == 2
    assert [(row["block"], row["projection"]) for row in found["rows"]] == [(b, name) for b in (1, 2) for name in NAMES]
    assert all(0 < row["map"] <= 1 and row["leak"] >= 0 for row in found["rows"])
    head, table = run(*arguments, "-f", "table", "-q").out.split("\n\n")
    head, (columns, *lines) = " ".join(head.split()), table.splitlines()
    assert max(map(len, table.splitlines())) <= 80
    assert head.startswith("emotion2vec@")
    assert "64-d: 30 clips of 5 speakers, 3 texts (anger 15, calm 15); by chance mAP 0." in head
    assert columns.split() == ["block", "projection", "mAP", "95", "%", "words", "voice", "both", "leak"]
    for line, row in zip(lines, found["rows"], strict=True):
        low, high = row["map_interval"]
        expected = [str(row["block"]), row["projection"], f"{row['map']:.3f}", f"{low:.3f}", "to", f"{high:.3f}"]
        accuracies = [f"{row['triplets'][kind]:.3f}" for kind in ("words", "voice", "both")]
        assert line.split() == [*expected, *accuracies, f"{row['leak']:.2f}"]
    out = tmp_path / "layers.csv"
    assert run(*arguments, "-o", out).out == ""
    with out.open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(row["triplets.voice"]) for row in written] == [row["triplets"]["voice"] for row in found["rows"]]


def test_the_command_without_layers_shows_what_ships(run: Run, labels: Path) -> None:
    done = run("evaluate", labels, "--encoder", "light", "--projections", "--draws", 50)
    assert [(row["block"], row["projection"]) for row in done.rows[0]["rows"]] == [(None, "raw"), (None, "shipped")]
    assert done.err == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--layers", "--index", "here"), "leave --index out, and name the encoder with --encoder"),
        (("--projections", "--projection", "raw"), "leave --projection out"),
        (("--layers", "--by", "recording"), "leave --by out"),
        (("--layers", "--condition", "all"), "leave --condition out"),
        (("--layers",), "light gives one vector a clip and none a block"),
    ],
)
def test_what_has_no_place_beside_layers_is_one_clear_line(
    run: Run, labels: Path, arguments: tuple[str, ...], word: str
) -> None:
    done = run("evaluate", labels, "--encoder", "light", *arguments)
    assert done.code == (1 if word.startswith("light") else 2)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert word in done.err


def test_rows_that_failed_are_told_after_the_table(run: Run, labels: Path) -> None:
    path = labels.parent / "more.csv"
    path.write_text(labels.read_text(encoding="utf-8") + "gone.wav,anger,s0,t0\n", encoding="utf-8")
    done = run("evaluate", path, "--encoder", "light", "--projections", "--draws", 50)
    assert (done.code, done.rows[0]["n"], done.err.count("failed: line 32")) == (3, 30, 1)
