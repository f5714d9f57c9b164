from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.encoders import light, registry
from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.errors import BadSignal, BadWeights
from e2vsearch.projections import network

EMODB = Path(__file__).parents[2] / "shared" / "audio" / "emodb"


@pytest.fixture(scope="module")
def encoder() -> Any:
    return registry.open("light")


def seen(encoder: Any, signals: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Vectors as a collection compares them."""
    return network.unpack(encoder.projection()).apply(encoder.encode(signals).vectors)


def tone(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """A voice-like sound: harmonics of a wandering pitch, in bursts, with some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * (1 + rng.random()) * time)) / 16_000
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (0.1 * voice + 0.005 * rng.standard_normal(time.size)).astype(np.float32)


def test_space_names_the_weights_and_six_emotions(encoder: Any) -> None:
    assert encoder.space.encoder == "light"
    assert encoder.space.dim == 576
    assert encoder.space.labels == ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
    assert len(encoder.space.revision) == 64
    assert encoder.space == registry.open("light", EncoderOptions(threads=2)).space


def test_vectors_are_float32_and_scores_are_probabilities(encoder: Any) -> None:
    embeddings = encoder.encode([tone(2.0), tone(0.5, seed=1)])
    assert embeddings.vectors.shape == (2, 576)
    assert embeddings.vectors.dtype == embeddings.scores.dtype == np.float32
    assert embeddings.scores.shape == (2, 6)
    assert embeddings.scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_different_sounds_get_different_vectors(encoder: Any) -> None:
    first, second = seen(encoder, [tone(2.0), np.random.default_rng(1).standard_normal(32_000).astype(np.float32)])
    assert first @ second < 0.95


def test_same_bits_whatever_else_is_in_the_call(encoder: Any) -> None:
    signal = tone(1.3)
    alone = encoder.encode([signal])
    among = encoder.encode([tone(4.0, seed=2), signal, tone(0.2, seed=3)])
    assert (alone.vectors[0] == among.vectors[1]).all()
    assert (alone.scores[0] == among.scores[1]).all()


def test_threads_share_one_encoder(encoder: Any) -> None:
    signals = [tone(0.3 + 0.2 * index, seed=index) for index in range(8)]
    one_by_one = encoder.encode(signals).vectors
    with ThreadPoolExecutor(4) as pool:
        together = np.concatenate([e.vectors for e in pool.map(lambda s: encoder.encode([s]), signals)])
    assert (one_by_one == together).all()


@pytest.mark.parametrize("samples", [400, 401, 480, 719, 720, 1600, 16_001])
def test_short_and_odd_lengths(encoder: Any, samples: int) -> None:
    signal = tone(1.1)[:samples]
    assert np.isfinite(encoder.encode([signal]).vectors).all()
    assert encoder.frames(signal).shape == (-(-(samples // 160) // 2), 576)


def test_shortest_and_longest(encoder: Any) -> None:
    assert encoder.min_samples == 400
    with pytest.raises(BadSignal, match="too short"):
        encoder.encode([tone(1.0)[:399]])
    assert encoder.frames(tone(30.0)).shape == (1500, 576)


@pytest.mark.parametrize("signal", [np.zeros(8000, np.float32), np.full(8000, 0.7, np.float32)])
def test_silence_has_a_finite_vector(encoder: Any, signal: NDArray[np.float32]) -> None:
    embeddings = encoder.encode([signal])
    assert np.isfinite(embeddings.vectors).all()
    assert np.isfinite(embeddings.scores).all()


def test_frames_follow_the_sound(encoder: Any) -> None:
    signal = np.concatenate([tone(3.0), 0.3 * np.random.default_rng(4).standard_normal(48_000).astype(np.float32)])
    frames = encoder.frames(signal)
    assert frames.shape == (int(6.0 * encoder.frame_rate_hz), 576)
    early, late = frames[25:100], frames[200:275]
    assert (
        np.linalg.norm(early - early.mean(axis=0), axis=1).mean()
        < np.linalg.norm(early - late.mean(axis=0), axis=1).mean() / 1.5
    )


def test_a_signal_shorter_than_the_window_has_its_own_vector_in_every_frame(encoder: Any) -> None:
    signal = tone(0.5)  # 25 frames, all within 25 of each other
    own = np.repeat(encoder.encode([signal]).vectors, 25, axis=0)
    assert encoder.frames(signal) == pytest.approx(own, rel=1e-4, abs=1e-4)  # of lengths about 60


def test_what_lies_above_the_training_band_changes_nothing(encoder: Any) -> None:
    signal = tone(2.0)
    time = np.arange(signal.size) / 16_000
    hiss = (0.05 * np.sin(2 * np.pi * 6500 * time)).astype(np.float32)
    plain, hissing = seen(encoder, [signal, signal + hiss])
    assert plain @ hissing > 0.999


def test_card_describes_the_weights() -> None:
    folder = resources.files("e2vsearch.encoders") / "data"
    card = json.loads((folder / "light.json").read_text(encoding="utf-8"))
    weights = (folder / "light.onnx").read_bytes()
    projection = (folder / "light.npz").read_bytes()
    assert card["sha256"] == hashlib.sha256(weights).hexdigest()
    assert card["projection_sha256"] == hashlib.sha256(projection).hexdigest()
    assert len(weights) + len(projection) < 10_000_000
    assert {source["licence"].split()[0] for source in card["sources"]} == {"MIT", "ODbL-1.0", "CC0-1.0"}


@pytest.mark.parametrize("gain", [0.05, 0.3, 3.0])
def test_how_loud_a_clip_is_changes_nothing(encoder: Any, gain: float) -> None:
    signal = tone(2.0)
    as_it_is, louder = seen(encoder, [signal, np.float32(gain) * signal])
    assert as_it_is @ louder > 0.999


def test_weights_trained_anew_are_opened_from_their_folder(encoder: Any, tmp_path: Path) -> None:
    ours = resources.files("e2vsearch.encoders") / "data"
    for name in ("light.json", "light.onnx", "light.npz"):
        (tmp_path / name).write_bytes((ours / name).read_bytes())
    opened = registry.open(str(tmp_path))
    assert opened.space == encoder.space
    assert opened.opened_by == str(tmp_path.resolve())
    assert (opened.encode([tone(1.0)]).vectors == encoder.encode([tone(1.0)]).vectors).all()
    assert opened.projection() == encoder.projection()
    (tmp_path / "light.onnx").write_bytes(b"")
    with pytest.raises(BadWeights, match="train them again"):
        registry.open(str(tmp_path))


@pytest.mark.parametrize("damage", ["missing", "changed", "projection", "not-json"])
def test_damaged_files_are_bad_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    ours = resources.files("e2vsearch.encoders") / "data"
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("light.json", "light.onnx", "light.npz"):
        (folder / name).write_bytes((ours / name).read_bytes())
    if damage == "missing":
        (folder / "light.onnx").unlink()
    elif damage == "changed":
        (folder / "light.onnx").write_bytes((ours / "light.onnx").read_bytes()[:-1])
    elif damage == "projection":
        (folder / "light.npz").write_bytes((ours / "light.npz").read_bytes()[:-1])
    else:
        (folder / "light.json").write_text("{")
    monkeypatch.setattr(light.resources, "files", lambda package: tmp_path)  # type: ignore[attr-defined]
    with pytest.raises(BadWeights, match="reinstall"):
        registry.open("light")


def test_a_file_that_onnxruntime_cannot_load_is_bad_weights() -> None:
    with pytest.raises(BadWeights, match="upgrade onnxruntime"):
        light.session(b"not a network", threads=1)


@pytest.mark.skipif(not EMODB.is_dir(), reason="needs the labelled clips of EMO-DB beside the checkout")
def test_clear_emotions_are_heard(encoder: Any) -> None:
    from e2vsearch import audio

    angry, sad = (audio.read(EMODB / "audio" / name)[0] for name in ("03a01Wa.flac", "03a04Ta.flac"))
    angry_scores, sad_scores = encoder.encode([angry, sad]).scores
    labels = encoder.space.labels
    assert labels[angry_scores.argmax()] == "angry"
    assert sad_scores[labels.index("sad")] > angry_scores[labels.index("sad")]
