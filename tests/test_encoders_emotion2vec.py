"""What emotion2vec gives: vectors, frames, scores and labels, beside what FunASR gives for a clip alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from opened_emotion2vec import NEEDED, SIGNALS, change_config, change_weights, funasr, generated, opened
from random_emotion2vec import FIVE_TOKENS, LABELS, SHAPES, TOKENS, tensors, write_model

from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder
from e2vsearch.encoders.emotion2vec.funasr import silenced
from e2vsearch.errors import BadSignal

pytestmark = NEEDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    return opened(folder)


@pytest.fixture(scope="module")
def reference(encoder: Emotion2vecEncoder, folder: Path) -> Any:
    return funasr(folder)


def test_everything_is_read_from_the_model(encoder: Emotion2vecEncoder) -> None:
    assert encoder.space.dim == 64
    assert encoder.space.labels == LABELS
    assert encoder.min_samples == 400
    assert encoder.frame_rate_hz == 50.0


@pytest.mark.parametrize("name", SIGNALS)
def test_a_vector_is_what_funasr_gives_for_the_clip_alone(
    encoder: Emotion2vecEncoder, reference: Any, name: str
) -> None:
    signal = SIGNALS[name]
    embeddings = encoder.encode([signal])
    expected = generated(reference, signal)
    np.testing.assert_allclose(embeddings.vectors[0], expected["feats"], atol=1e-5)
    assert embeddings.scores is not None
    np.testing.assert_allclose(embeddings.scores[0], expected["scores"], atol=1e-5)
    frames = encoder.frames(signal)
    np.testing.assert_allclose(frames, generated(reference, signal, "frame")["feats"], atol=1e-5)
    np.testing.assert_allclose(frames.mean(axis=0), embeddings.vectors[0], atol=1e-5)


@pytest.mark.parametrize("name", ["shortest", "two seconds", "loud and off centre", "ten seconds"])
def test_layers_are_the_means_of_funasrs_blocks(encoder: Emotion2vecEncoder, reference: Any, name: str) -> None:
    rows = encoder.layers(SIGNALS[name])
    assert rows.shape == (encoder.blocks, 64) == (2, 64)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, block_means(reference, SIGNALS[name]), atol=1e-5)
    np.testing.assert_allclose(rows[-1], encoder.encode([SIGNALS[name]]).vectors[0], atol=1e-5)


def test_layers_and_vectors_may_be_asked_for_at_a_time(encoder: Emotion2vecEncoder) -> None:
    signals = [made.speech(0.3 + 0.1 * at, seed=at) for at in range(6)]
    vectors, alone = encoder.encode(signals).vectors, [encoder.layers(signal) for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        encoded = pool.map(lambda signal: encoder.encode([signal]).vectors[0], signals)
        layers = pool.map(encoder.layers, signals)
        np.testing.assert_allclose(list(layers), alone, atol=1e-5)
        np.testing.assert_allclose(list(encoded), vectors, atol=1e-5)


def test_frames_are_20_ms_apart(encoder: Emotion2vecEncoder) -> None:
    for seconds, frames in ((1, 49), (2, 99), (10, 499)):
        rows = encoder.frames(made.noise(seconds))
        assert rows.shape == (frames, 64)
        assert rows.dtype == np.float32


def test_a_signal_may_be_read_only_or_a_view(encoder: Emotion2vecEncoder) -> None:
    both = np.stack([made.speech(1.0), made.noise(1.0)], axis=1)
    expected = encoder.encode([both[:, 1].copy()]).vectors
    before = both.copy()
    both.setflags(write=False)
    np.testing.assert_array_equal(encoder.encode([both[:, 1]]).vectors, expected)
    np.testing.assert_array_equal(both, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: audio_of(model).update(learned_alibi_scale_per_layer=True),
        lambda model: audio_of(model).update(use_alibi_encoder=False, learned_alibi_scale=False),
        lambda model: audio_of(model).update(extractor_mode="default"),
        lambda model: audio_of(model).update(conv_pos_pre_ln=True),
        lambda model: model.update(layer_norm_first=True),
    ],
    ids=["a bias of each layer's own", "no bias", "a norm over time", "another order of norms", "norms before blocks"],
)
def test_networks_unlike_the_published_ones_give_what_funasr_gives(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    import torch

    folder = write_model(tmp_path / "model")
    change_config(folder, lambda c: change(c["model_conf"]))
    shapes = empty_network(folder)

    def fit(weights: dict[str, Any]) -> None:
        generator = torch.Generator().manual_seed(1)
        for name in [name for name in weights if name.removeprefix("d2v_model.") not in shapes]:
            del weights[name]
        for name, shape in shapes.items():
            full = name if name.startswith("proj.") else f"d2v_model.{name}"
            if full not in weights or weights[full].shape != shape:
                weights[full] = 0.5 + torch.rand(shape, generator=generator)

    change_weights(folder, fit)
    encoder, reference = opened(folder, threads=2), funasr(folder)
    signals = [made.speech(0.7), made.speech(2.0), made.noise(0.03), made.speech(0.72)]
    expected = [generated(reference, signal)["feats"] for signal in signals]
    np.testing.assert_allclose(encoder.encode(signals).vectors, expected, atol=1e-5)
    np.testing.assert_allclose([encoder.layers(signal)[-1] for signal in signals], expected, atol=1e-5)


def audio_of(model: dict[str, Any]) -> dict[str, Any]:
    audio: dict[str, Any] = model["modalities"]["audio"]
    return audio


def block_means(model: Any, signal: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The mean over time after each of FunASR's own blocks, less the ten tokens in front."""
    network, found = model.model, []
    blocks = [*network.modality_encoders["AUDIO"].context_encoder.blocks, *network.blocks]
    hooks = [
        block.register_forward_hook(lambda _m, _i, out: found.append(out[0][0, 10:].mean(dim=0).numpy()))
        for block in blocks
    ]
    try:
        generated(model, signal)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def empty_network(folder: Path) -> dict[str, Any]:
    """Names and shapes of what FunASR builds by a folder's config.yaml."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model_conf"]
    config["modalities"]["audio"]["decoder"] = None
    with silenced():
        from funasr.models.emotion2vec.model import Emotion2vec

        network = Emotion2vec(model_conf=config, vocab_size=len(TOKENS))
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (made.silence(1.0), "digital silence"),
        (np.full(16_000, 0.5, np.float32), "digital silence"),
        (made.noise(1.0)[:399], "399 samples are too short"),
        (np.array([np.nan] * 16_000, np.float32), "NaN"),
        (made.noise(1.0).astype(np.float64), "float64"),
        ((made.noise(1.0) * 32767).astype(np.int16), "int16"),
        (np.stack([made.noise(1.0)] * 2), "one channel"),
        (made.noise(30.1), "too long"),
    ],
)
def test_what_funasr_would_take_in_silence_is_refused(
    encoder: Emotion2vecEncoder, signal: np.ndarray[Any, Any], message: str
) -> None:
    for encode in (lambda: encoder.encode([made.noise(1.0), signal]), lambda: encoder.frames(signal)):
        with pytest.raises(BadSignal, match=message):
            encode()


def test_the_attention_bias_of_a_long_clip_is_not_kept(folder: Path) -> None:
    encoder = opened(folder)
    encoder.encode([made.noise(1.0)])
    kept = encoder._network._kept
    assert kept is not None
    encoder.encode([made.noise(30.0), made.noise(12.0)])
    assert encoder._network._kept is kept
    assert kept[1].numel() <= 4 * 512**2
    assert not encoder._network.module.alibi_biases, "FunASR's own, which only grows"


@pytest.mark.slow
def test_the_published_large_shape(large_emotion2vec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2VSEARCH_WEIGHTS_CACHE", "off")  # else 650 MB more are written
    assert len(tensors(SHAPES["large"])) == 185
    encoder = opened(large_emotion2vec)
    assert (encoder.space.encoder, encoder.space.dim) == ("emotion2vec_plus_large", 1024)
    network_tensors = {name: tuple(tensor.shape) for name, tensor in encoder._network.module.state_dict().items()}
    assert network_tensors == tensors(SHAPES["large"]), "nothing but what the published checkpoint holds"
    signals = [made.speech(2.0), made.noise(3.3)]
    embeddings, reference = encoder.encode(signals), funasr(large_emotion2vec)
    assert embeddings.scores is not None
    for signal, vector, scores in zip(signals, embeddings.vectors, embeddings.scores, strict=True):
        expected = generated(reference, signal)
        np.testing.assert_allclose(vector, expected["feats"], atol=1e-5)
        np.testing.assert_allclose(scores, expected["scores"], atol=1e-5)


def test_outputs_out_of_use_are_dropped_as_funasr_drops_them(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "five", tokens=FIVE_TOKENS)
    encoder, signal = opened(folder), made.speech(1.0)
    assert encoder.space.labels == ("angry", "happy", "neutral", "sad", "unknown")
    scores, expected = encoder.encode([signal]).scores, generated(funasr(folder), signal)
    assert scores is not None
    np.testing.assert_allclose(scores[0], expected["scores"], atol=1e-6)
    assert len(expected["labels"]) == 5
    assert scores.sum() == pytest.approx(1.0)


def test_a_model_without_a_head_has_no_labels_and_no_scores_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_model(tmp_path / "base", tokens=())
    encoder = opened(folder)
    (told,) = [each for each in caplog.records if each.name.startswith("e2vsearch")]
    assert told.levelname == "WARNING"
    assert str(folder) in told.getMessage()
    assert "take a plus model" in told.getMessage()
    assert encoder.head() is None
    assert encoder.space.labels == ()
    assert encoder.encode([made.noise(1.0)]).scores is None


def test_the_order_of_classes_is_the_models_own(tmp_path: Path) -> None:
    encoder = opened(write_model(tmp_path / "turned", tokens=TOKENS[::-1]))
    assert encoder.space.labels == LABELS[::-1]
