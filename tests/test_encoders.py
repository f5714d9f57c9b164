from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import EMOTION2VEC_NAMES, Embeddings, Encoder, EncoderOptions
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import BadSignal, EncoderError, EncoderUnavailable, MissingExtra, UnknownEncoder
from e2vsearch.types import Space


class Given(Encoder):
    """Gives whatever it was told to give."""

    def __init__(self, vectors: NDArray[Any], labels: tuple[str, ...] = ()) -> None:
        self.space = Space("given", "1", 4, labels)
        self.vectors = vectors
        self.asked = 0

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        self.asked += 1
        return Embeddings(self.vectors)


# ------------------------------------------------------------------------------------------------------ what is checked


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (np.zeros((2, 16_000), np.float32), r"one channel of float32 samples, got float32 of shape \(2, 16000\)"),
        (np.zeros((), np.float32), "one channel"),
        (np.zeros(16_000), "got float64"),
        (np.zeros(16_000, np.int16), "got int16"),
        (np.zeros(0, np.float32), "0 samples are too short for given"),
        (np.zeros(399, np.float32), r"needs 400 \(0\.025 s\)"),
        (np.zeros(30 * 16_000 + 1, np.float32), "at most 30 s"),
        (np.array([0.0] * 500 + [np.nan], np.float32), "NaN or infinite"),
        (np.array([0.0] * 500 + [-np.inf], np.float32), "NaN or infinite"),
    ],
)
def test_a_signal_that_no_encoder_can_take(signal: NDArray[Any], message: str) -> None:
    encoder = Given(np.ones((2, 4), np.float32))
    with pytest.raises(BadSignal, match=message):
        encoder.encode([made.noise(1.0), signal])
    with pytest.raises(BadSignal, match=message):
        encoder.frames(signal)
    with pytest.raises(BadSignal, match=message):
        encoder.layers(signal)
    assert encoder.asked == 0


@pytest.mark.parametrize("samples", [400, 30 * 16_000])
def test_the_shortest_and_the_longest_signal_are_taken(samples: int) -> None:
    assert Given(np.ones((1, 4), np.float32)).encode([np.ones(samples, np.float32)]).vectors.shape == (1, 4)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 4), np.float32), r"shape \(1, 4\) where float32 \(2, 4\) was due"),
        (np.ones((2, 5), np.float32), r"shape \(2, 5\)"),
        (np.ones((2, 4)), "float64 vectors"),
        (np.full((2, 4), np.nan, np.float32), "not finite: check its weights"),
    ],
)
def test_what_comes_back_is_checked(vectors: NDArray[Any], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        Given(vectors).encode([made.noise(1.0)] * 2)


def test_an_encoder_without_blocks_names_one_that_has_them() -> None:
    encoder = Given(np.ones((1, 4), np.float32))
    assert encoder.blocks == 0
    with pytest.raises(EncoderError, match="given gives one vector a signal and none a block - take emotion2vec"):
        encoder.layers(np.ones(encoder.min_samples, np.float32))


def test_an_encoder_without_frames_says_so() -> None:
    encoder = Given(np.ones((1, 4), np.float32))
    with pytest.raises(EncoderError, match="given makes one vector a signal"):
        encoder.frames(np.ones(encoder.min_samples, np.float32))
    with pytest.raises(BadSignal):  # checked first, as for those that have them
        encoder.frames(np.ones(1, np.float32))


def test_no_signals_give_no_vectors_and_ask_nothing() -> None:
    encoder = Given(np.ones((1, 4), np.float32))
    assert encoder.encode([]).vectors.shape == (0, 4)
    assert encoder.encode([]).scores is None
    assert encoder.asked == 0
    scores = Given(np.ones((1, 4), np.float32), ("a", "b")).encode([]).scores
    assert scores is not None
    assert scores.shape == (0, 2)


# ----------------------------------------------------------------------------------------------------------------- open


def test_the_default_for_real_use_comes_first() -> None:
    assert registry.names()[0] == "emotion2vec_plus_large"
    assert set(registry.names()) == {*EMOTION2VEC_NAMES, "light", "fake"}


@pytest.mark.parametrize("name", ["emotion2vec_plus_lrage", "", "/no/such/folder", "saved"])
def test_an_unknown_name_lists_the_known_ones(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownEncoder, match=r"use one of auto, emotion2vec_plus_large, .* model folder") as caught:
        registry.open(name)
    assert "\n" not in str(caught.value)


def test_the_fake_is_opened_by_name() -> None:
    assert registry.open("fake").space == registry.open("fake", EncoderOptions(threads=2)).space == FakeEncoder().space


def test_importing_encoders_imports_no_network() -> None:
    heavy = ("torch", "funasr", "onnxruntime", "faiss", "soundfile", "av", "sqlalchemy")
    code = (
        "import sys, e2vsearch.encoders.registry, e2vsearch.encoders.emotion2vec.encoder\n"
        "import e2vsearch.encoders.embedding_files\n"
        f"sys.exit(', '.join(set({heavy}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ----------------------------------------------------------------------------------------------------------------- fake


def test_the_fake_tells_low_from_high_and_is_the_same_each_time() -> None:
    encoder = FakeEncoder()
    signals = [made.sine(1.0, 150.0), made.sine(1.0, 5000.0), made.sine(2.0, 160.0)]
    embeddings = encoder.encode(signals)
    unit = embeddings.vectors / np.linalg.norm(embeddings.vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[2] > unit[0] @ unit[1]
    assert embeddings.scores is not None
    np.testing.assert_allclose(embeddings.scores.sum(axis=1), 1.0, rtol=1e-6)
    named = [encoder.space.labels[i] for i in embeddings.scores.argmax(axis=1)]
    assert named == ["low", "high", "low"]
    np.testing.assert_array_equal(FakeEncoder().encode(signals[::-1]).vectors[::-1], embeddings.vectors)


def test_the_fakes_vector_is_the_mean_of_its_frames() -> None:
    encoder, signal = FakeEncoder(), made.speech(1.0)
    frames = encoder.frames(signal)
    assert frames.dtype == np.float32
    assert frames.shape == (49, encoder.space.dim)
    np.testing.assert_allclose(frames.mean(axis=0), encoder.encode([signal]).vectors[0], atol=1e-6)


@pytest.mark.parametrize("samples", [640, 641, 480_000])
def test_the_fake_takes_any_length_down_to_its_shortest(samples: int) -> None:
    assert FakeEncoder().encode([made.noise(samples / 16_000)]).vectors.shape == (1, 16)
    with pytest.raises(BadSignal, match="too short"):
        FakeEncoder().encode([made.noise(639 / 16_000)])


def test_two_revisions_of_the_fake_are_two_spaces() -> None:
    assert FakeEncoder("fake-2").space != FakeEncoder().space


# ------------------------------------------------------------------------------------------------------- the default


def unavailable(_name: str, _options: EncoderOptions) -> Encoder:
    raise EncoderUnavailable("ModelScope cannot be reached - name a model folder")


def uninstalled(_name: str, _options: EncoderOptions) -> Encoder:
    raise MissingExtra("the emotion2vec encoder needs the 'emotion2vec' extra")


@pytest.mark.parametrize(("missing", "why"), [(unavailable, "ModelScope cannot be reached"), (uninstalled, "extra")])
def test_auto_is_light_where_emotion2vec_cannot_be_had(
    missing: Any, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "_emotion2vec", missing)
    calls = tmp_path / "calls"
    calls.mkdir()
    made.save(calls / "a.wav", made.speech(2.0))
    with caplog.at_level(logging.WARNING, "e2vsearch"), e2vsearch.open(tmp_path / "index", create=True) as collection:
        assert collection.ingest(calls).stored == 1
        assert collection.catalog.encoder_source == "light"
    [note] = [each.getMessage() for each in caplog.records if "light" in each.getMessage()]
    assert why in note
    caplog.clear()
    with e2vsearch.open(tmp_path / "index", encoder="auto") as collection:  # its own: nothing is tried again
        assert collection.encoder().space.encoder == "light"
    assert caplog.text == ""
    with pytest.raises((EncoderError, MissingExtra)):  # no silent change of what was asked for
        registry.open("auto", EncoderOptions(precision="bf16"))


def test_auto_is_emotion2vec_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = FakeEncoder("stands in for emotion2vec")
    monkeypatch.setattr(
        registry, "_emotion2vec", lambda name, _options: opened if name == EMOTION2VEC_NAMES[0] else None
    )
    assert registry.open("auto") is opened
