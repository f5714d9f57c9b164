from __future__ import annotations

import importlib.util
import logging
import random
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from command import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from random_emotion2vec import FIVE_TOKENS, LABELS, SHAPES, TOKENS, tensors, write_model

from e2vsearch import encoders
from e2vsearch.encoders import EncoderOptions
from e2vsearch.encoders import _emotion2vec_batches as batches
from e2vsearch.encoders._emotion2vec_quiet import undisturbed
from e2vsearch.encoders.emotion2vec import Emotion2vecEncoder
from e2vsearch.errors import BadSignal, BadWeights, EncoderUnavailable, MissingExtra, SettingsError, SpaceMismatch

# importorskip would import FunASR under warnings as errors, and FunASR hides modules that fail to import
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("funasr") is None,
    reason="the 'emotion2vec' extra is not installed",
)


SAME = 5e-6
"""How far a vector may be from what its clip gets alone: the order of sums, and nothing else."""


def opened(folder: Path | str, **options: Any) -> Emotion2vecEncoder:
    return Emotion2vecEncoder(str(folder), EncoderOptions(**options))


def funasr(folder: Path) -> Any:
    """The reference: FunASR's own front door."""
    with undisturbed():
        from funasr import AutoModel

        return AutoModel(model=str(folder), disable_update=True, disable_pbar=True, log_level="ERROR")


def generated(model: Any, signal: np.ndarray[Any, Any], granularity: str = "utterance") -> dict[str, Any]:
    with undisturbed():
        result: dict[str, Any] = model.generate(signal, granularity=granularity, extract_embedding=True)[0]
    return result


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    import yaml

    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    import torch

    checkpoint = torch.load(folder / "model.pt", weights_only=True)
    change(checkpoint["model"])
    torch.save(checkpoint, folder / "model.pt")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    return opened(folder)


@pytest.fixture(scope="module")
def reference(encoder: Emotion2vecEncoder, folder: Path) -> Any:
    return funasr(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A model folder to be tampered with."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


# ------------------------------------------------------------------------------------------------------ what it gives


def test_everything_is_read_from_the_model(encoder: Emotion2vecEncoder) -> None:
    assert encoder.space.dim == 64
    assert encoder.space.labels == LABELS
    assert encoder.min_samples == 400
    assert encoder.frame_rate_hz == 50.0


SIGNALS = {
    "shortest": made.noise(0.025),
    "one sample more": made.noise(401 / 16_000),
    "half a second": made.speech(0.5),
    "two seconds": made.speech(2.0),
    "loud and off centre": made.speech(3.0) * 3 + np.float32(0.2),
    "faint": made.noise(1.0, 1e-4),
    "ten seconds": made.speech(10.0),
}


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


def test_a_vector_does_not_depend_on_what_else_is_in_the_call(encoder: Emotion2vecEncoder) -> None:
    signals = list(SIGNALS.values())
    alone = [encoder.encode([signal]) for signal in signals]
    together = encoder.encode(signals[::-1])
    assert together.scores is not None
    for one, vector, scores in zip(alone, together.vectors[::-1], together.scores[::-1], strict=True):
        np.testing.assert_allclose(one.vectors[0], vector, atol=SAME)
        np.testing.assert_allclose(one.scores, [scores], atol=SAME)


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


LENGTHS = st.lists(st.integers(400, 4 * 16_000) | st.integers(400, 1_000), min_size=2, max_size=7)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, shuffle=st.randoms(use_true_random=False), cores=st.integers(1, 3))
def test_any_clips_in_any_order_are_what_each_is_alone(
    encoder: Emotion2vecEncoder, lengths: list[int], shuffle: random.Random, cores: int
) -> None:
    signals = [made.noise(length / 16_000, seed=length) * (1 + length % 5) for length in lengths]
    order = list(range(len(signals)))
    shuffle.shuffle(order)
    together = encoder.encode([signals[each] for each in order])
    assert together.scores is not None
    alone = [encoder.encode([signal]) for signal in signals]
    for vector, scores, each in zip(together.vectors, together.scores, order, strict=True):
        np.testing.assert_allclose(vector, alone[each].vectors[0], atol=SAME)
        np.testing.assert_allclose([scores], alone[each].scores, atol=SAME)
    # one padded batch, whatever the plan would have said; where padding is most of it, too
    rows = in_one_batch(encoder, signals)
    for row, one in zip(rows, alone, strict=True):
        np.testing.assert_allclose(row, one.vectors[0], atol=SAME)
    plan = batches.plan([encoder._network.frames_of(length) for length in lengths], 500, cores)
    assert sorted(position for batch in plan for position in batch) == list(range(len(lengths)))


def in_one_batch(encoder: Emotion2vecEncoder, signals: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    import torch

    with torch.inference_mode():
        return np.stack([clip.mean(dim=0).numpy() for clip in encoder._network.run(signals)])


def test_thirty_seconds_beside_a_twentieth_of_one(encoder: Emotion2vecEncoder) -> None:
    signals = [made.noise(0.05), made.speech(30.0), made.speech(1.0)]
    expected = [encoder.encode([signal]).vectors[0] for signal in signals]
    np.testing.assert_allclose(in_one_batch(encoder, signals), expected, atol=SAME)
    np.testing.assert_allclose(encoder.encode(signals).vectors, expected, atol=SAME)


def test_a_batch_as_a_gpu_has_it_is_the_same(encoder: Emotion2vecEncoder, folder: Path) -> None:
    """There, one mask for all clips, and FunASR's own convolutions."""
    other, signals = opened(folder), [made.speech(0.5), made.speech(2.0), made.noise(0.025), made.speech(1.3)]
    forward = type(other._network.module.modality_encoders["AUDIO"].local_encoder).forward
    local = other._network.module.modality_encoders["AUDIO"].local_encoder
    local.forward = lambda sources: forward(local, sources)
    other._network._together = True
    expected = [encoder.encode([signal]).vectors[0] for signal in signals]
    np.testing.assert_allclose(in_one_batch(other, signals), expected, atol=SAME)


@pytest.mark.parametrize(
    "change",
    [
        lambda audio: audio.update(learned_alibi_scale_per_layer=True),
        lambda audio: audio.update(use_alibi_encoder=False, learned_alibi_scale=False),
        lambda audio: audio.update(extractor_mode="default"),
        lambda audio: audio.update(conv_pos_pre_ln=True),
    ],
    ids=["a bias of each layer's own", "no bias", "a norm over time", "another order of norms"],
)
def test_networks_unlike_the_published_ones_give_what_funasr_gives(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    import torch

    folder = write_model(tmp_path / "model")
    change_config(folder, lambda c: change(c["model_conf"]["modalities"]["audio"]))
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


def empty_network(folder: Path) -> dict[str, Any]:
    """Names and shapes of what FunASR builds by a folder's config.yaml."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model_conf"]
    config["modalities"]["audio"]["decoder"] = None
    with undisturbed():
        from funasr.models.emotion2vec.model import Emotion2vec

        network = Emotion2vec(model_conf=config, vocab_size=len(TOKENS))
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


# ----------------------------------------------------------------------------------------------------------- batches


def test_a_batch_is_of_clips_of_about_one_length_and_within_its_budget() -> None:
    rng = np.random.default_rng(0)
    frames = [int(each) for each in rng.uniform(99, 499, 64)]
    for budget in (1_000, 32_000):
        plan = batches.plan(frames, budget)
        assert sorted(position for batch in plan for position in batch) == list(range(64))
        sizes = [(len(batch) * max(frames[each] for each in batch), sum(frames[each] for each in batch))
                 for batch in plan]  # fmt: skip
        assert 1 - sum(own for _, own in sizes) / sum(padded for padded, _ in sizes) < 0.1
        heavy = max(len(batch) * batches.weight(max(frames[each] for each in batch)) for batch in plan)
        assert heavy <= budget
    assert len(batches.plan(frames, 32_000)) < len(batches.plan(frames, 1_000)) < 64


def test_few_clips_are_shared_out_and_too_heavy_ones_are_alone() -> None:
    assert batches.plan([100] * 4, 10_000) == [[0, 1, 2, 3]]
    assert batches.plan([100] * 4, 10_000, shares=2) == [[0, 1], [2, 3]]
    assert batches.plan([1499, 1499], 1_000) == [[0], [1]]
    assert batches.plan([100, 100], 0) == [[0], [1]]
    assert batches.plan([5, 100, 5], 10_000) == [[1], [0, 2]]
    assert batches.plan([], 1_000, 2) == []


# --------------------------------------------------------------------------------------------------------- precision


def test_bf16_is_near_and_another_space(encoder: Emotion2vecEncoder, folder: Path) -> None:
    half, signals = opened(folder, precision="bf16"), list(SIGNALS.values())
    a, b = encoder.encode(signals), half.encode(signals)
    assert not np.allclose(a.vectors, b.vectors, atol=1e-4), "or this is no bfloat16 at all"
    np.testing.assert_allclose(a.vectors, b.vectors, atol=0.1)
    cosines = (a.vectors * b.vectors).sum(1) / np.linalg.norm(a.vectors, axis=1) / np.linalg.norm(b.vectors, axis=1)
    assert cosines.min() > 0.999
    assert half.space.revision != encoder.space.revision
    assert replace(half.space, revision=encoder.space.revision) == encoder.space
    np.testing.assert_allclose(b.vectors, [half.encode([signal]).vectors[0] for signal in signals], atol=0.05)
    assert half.frames(signals[0]).dtype == np.float32
    ours, theirs = half.head(), encoder.head()
    assert ours is not None
    assert theirs is not None
    np.testing.assert_array_equal(ours.weights, theirs.weights)


def test_a_collection_of_fp32_refuses_bf16_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    import e2vsearch

    both = {precision: opened(folder, precision=precision) for precision in ("fp32", "bf16")}
    made.save(tmp_path / "a.wav", made.speech(3.0))
    for first, second in (("fp32", "bf16"), ("bf16", "fp32")):
        with e2vsearch.open(tmp_path / first, encoder=both[first]) as collection:
            collection.ingest(tmp_path / "a.wav")
        with e2vsearch.open(tmp_path / first, encoder=both[second]) as collection, pytest.raises(SpaceMismatch):
            collection.query(tmp_path / "a.wav")
    with e2vsearch.open(tmp_path / "bf16", create=False) as collection:
        assert collection.encoder().space == both["bf16"].space, (
            "the collection's own precision, unless another is said"
        )
    with (
        e2vsearch.open(tmp_path / "bf16", create=False, precision="fp32") as collection,
        pytest.raises(SpaceMismatch, match=r"@bf16-.*, not of emotion2vec@"),
    ):
        collection.encoder()
    with e2vsearch.open(tmp_path / "fp32", create=False, precision="bf16-as-fp32") as collection:
        best = collection.query(tmp_path / "a.wav", include_self=True).hits[0]
        assert 0.999 < best.score < 0.9999999, "asked for, it is taken, and off in the third digit"


def test_a_precision_is_a_flag(folder: Path, tmp_path: Path, run: Run) -> None:
    index, clip = tmp_path / "index", made.save(tmp_path / "a.wav", made.speech(3.0))
    assert run("ingest", clip, "--index", index, "--encoder", folder, "--precision", "bf16").code == 0
    assert run("query", clip, "--index", index).code == 0
    refused = run("query", clip, "--index", index, "--precision", "fp32")
    assert refused.code != 0
    assert "this collection holds vectors of emotion2vec@bf16-" in refused.err


def test_there_is_no_other_precision(folder: Path) -> None:
    with pytest.raises(SettingsError, match="fp32, bf16"):
        encoders.open(str(folder), EncoderOptions(precision="int8"))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="light has no precision 'bf16'"):
        encoders.open("light", EncoderOptions(precision="bf16"))


def test_four_threads_get_what_one_gets(encoder: Emotion2vecEncoder) -> None:
    signals = [made.noise(0.2 + 0.1 * i, seed=i) for i in range(8)]
    expected = [encoder.encode([signal]).vectors for signal in signals]
    with ThreadPoolExecutor(4) as pool:
        for round_ in range(5):
            for vectors, one in zip(pool.map(lambda s: encoder.encode([s]).vectors, signals), expected, strict=True):
                np.testing.assert_allclose(vectors, one, atol=SAME, err_msg=f"round {round_}")
        for vectors in pool.map(lambda _: encoder.encode(signals).vectors, range(6)):
            np.testing.assert_allclose(vectors, np.concatenate(expected), atol=SAME)
        for vectors in pool.map(lambda _: in_one_batch(encoder, signals), range(6)):  # without the encoder's lock
            np.testing.assert_allclose(vectors, np.concatenate(expected), atol=SAME)


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
def test_the_published_large_shape(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "emotion2vec_plus_large", "large")
    assert len(tensors(SHAPES["large"])) == 185
    encoder = opened(folder)
    assert (encoder.space.encoder, encoder.space.dim) == ("emotion2vec_plus_large", 1024)
    network_tensors = {name: tuple(tensor.shape) for name, tensor in encoder._network.module.state_dict().items()}
    assert network_tensors == tensors(SHAPES["large"]), "nothing but what the published checkpoint holds"
    signals = [made.speech(2.0), made.noise(3.3)]
    embeddings, reference = encoder.encode(signals), funasr(folder)
    assert embeddings.scores is not None
    for signal, vector, scores in zip(signals, embeddings.vectors, embeddings.scores, strict=True):
        expected = generated(reference, signal)
        np.testing.assert_allclose(vector, expected["feats"], atol=1e-5)
        np.testing.assert_allclose(scores, expected["scores"], atol=1e-5)
    (folder / "model.pt").unlink()  # 650 MB, which pytest would keep


# -------------------------------------------------------------------------------------------------------------- labels


def test_outputs_out_of_use_are_dropped_as_funasr_drops_them(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "five", tokens=FIVE_TOKENS)
    encoder, signal = opened(folder), made.speech(1.0)
    assert encoder.space.labels == ("angry", "happy", "neutral", "sad", "unknown")
    scores, expected = encoder.encode([signal]).scores, generated(funasr(folder), signal)
    assert scores is not None
    np.testing.assert_allclose(scores[0], expected["scores"], atol=1e-6)
    assert len(expected["labels"]) == 5
    assert scores.sum() == pytest.approx(1.0)


def test_a_model_without_a_head_has_no_labels_and_no_scores(tmp_path: Path) -> None:
    encoder = opened(write_model(tmp_path / "base", tokens=()))
    assert encoder.space.labels == ()
    assert encoder.encode([made.noise(1.0)]).scores is None


def test_the_order_of_classes_is_the_models_own(tmp_path: Path) -> None:
    encoder = opened(write_model(tmp_path / "turned", tokens=TOKENS[::-1]))
    assert encoder.space.labels == LABELS[::-1]


# --------------------------------------------------------------------------------------------------------------- space


def test_a_space_outlives_its_folders_move(encoder: Emotion2vecEncoder, folder: Path, tmp_path: Path) -> None:
    moved = opened(shutil.copytree(folder, tmp_path / "another name"))
    assert moved.space == encoder.space
    assert moved.space.encoder == "emotion2vec"
    assert moved.opened_by == str(tmp_path / "another name")


def test_a_folder_called_as_published_is_that_model(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(folder, tmp_path / "emotion2vec_plus_base")
    monkeypatch.chdir(tmp_path)
    encoder = opened("./emotion2vec_plus_base")
    assert encoder.space.encoder == "emotion2vec_plus_base"
    assert encoder.opened_by == str(tmp_path / "emotion2vec_plus_base")


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "copies of an optimizer": lambda f: write_model(f, optimizer=True),
    "a decoder": lambda f: write_model(f, decoder=True),
    "no decoder in config.yaml": lambda f: change_config(
        f, lambda c: c["model_conf"]["modalities"]["audio"].update(decoder=None)
    ),
    "other settings of training": lambda f: change_config(f, lambda c: c["model_conf"].update(encoder_dropout=0.3)),
    "no configuration.json": lambda f: (f / "configuration.json").unlink(),
    "another name of the checkpoint": lambda f: (
        (f / "model.pt").rename(f / "emotion2vec_base.pt"),
        (f / "configuration.json").write_text(
            (f / "configuration.json").read_text().replace("model.pt", "emotion2vec_base.pt")
        ),
    ),
    "another prefix": lambda f: (
        change_weights(f, lambda w: [w.update({n.replace("d2v_model", "x"): w.pop(n)}) for n in list(w)]),
        change_config(f, lambda c: c.update(scope_map=["x.", "none"])),
    ),
    "half as a text": lambda f: change_config(f, lambda c: c.update(scope_map="d2v_model.,none")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_files_does_not_change_the_space(encoder: Emotion2vecEncoder, copy: Path, name: str) -> None:
    LAYOUTS[name](copy)
    other, signal = opened(copy), made.speech(1.0)
    assert other.space == encoder.space
    np.testing.assert_array_equal(other.encode([signal]).vectors, encoder.encode([signal]).vectors)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: write_model(f, seed=1),
        lambda f: change_weights(f, lambda w: w["d2v_model.blocks.0.norm2.bias"][:1].add_(1e-6)),
        lambda f: write_model(f, normalize=False),
        lambda f: write_model(f, norm_eps=1e-6),
        lambda f: change_config(
            f,
            lambda c: c["model_conf"]["modalities"]["audio"].update(
                feature_encoder_spec="[(32, 10, 4)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2"
            ),
        ),
    ],
    ids=["weights", "one weight", "normalize", "epsilon", "stride"],
)
def test_whatever_changes_vectors_changes_the_revision(
    encoder: Emotion2vecEncoder, copy: Path, change: Callable[[Path], object]
) -> None:
    change(copy)
    assert opened(copy).space.revision != encoder.space.revision


# -------------------------------------------------------------------------------------------------------- silent damage


def _remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def _saved(folder: Path, what: object) -> None:
    import torch

    torch.save(what, folder / "model.pt")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _tokens(folder: Path, *lines: str) -> None:
    (folder / "tokens.txt").write_text("\n".join(lines), encoding="utf-8")


def _code(folder: Path) -> None:
    run = f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch() or [(32, 10, 5)]"
    change_config(folder, lambda c: c["model_conf"]["modalities"]["audio"].update(feature_encoder_spec=run))


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no checkpoint": ("has no model.pt", lambda f: (f / "model.pt").unlink()),
    "no checkpoint, no configuration": (
        "has no model.pt",
        lambda f: _remove(f, "model.pt", "configuration.json"),
    ),
    "no config": ("has no config.yaml", lambda f: (f / "config.yaml").unlink()),
    "no tokens": ("has no tokens.txt", lambda f: (f / "tokens.txt").unlink()),
    "no tokens, no configuration": (
        "has no tokens.txt",
        lambda f: _remove(f, "tokens.txt", "configuration.json"),
    ),
    "nothing": ("has no config.yaml", lambda f: _remove(f, *(path.name for path in f.iterdir()))),
    "tokens twice": ("duplicated", lambda f: _tokens(f, *TOKENS[:7], TOKENS[0], "<unk>")),
    "tokens alike": ("must name each class once", lambda f: _tokens(f, *TOKENS[:7], "ANGRY", "<unk>")),
    "token blank": ("must name each class once", lambda f: _tokens(f, *TOKENS[:7], "", "<unk>")),
    "tokens without <unk>": ("<unk>", lambda f: _tokens(f, *LABELS)),
    "tokens in Latin-1": (
        "codec can't decode",
        lambda f: (f / "tokens.txt").write_bytes("fâché\n<unk>".encode("cp1252")),
    ),
    "too many tokens": (
        r"2 of 65 tensors are missing, the first is proj\.bias \(\(10,\) by config.yaml, \(9,\) in the",
        lambda f: _tokens(f, *TOKENS[:8], "bored", "<unk>"),
    ),
    "no scope_map": (
        r"63 of 65 tensors are missing.*config\.yaml needs scope_map: \['d2v_model\.', none\]",
        lambda f: change_config(f, lambda c: c.pop("scope_map")),
    ),
    "another width": (
        r"tensors are missing, the first is .* by config.yaml",
        lambda f: change_config(f, lambda c: c["model_conf"].update(embed_dim=32)),
    ),
    "another depth": (
        r"12 of 77 tensors are missing, the first is blocks\.1\.attn\.proj\.bias \(config.yaml and checkpoint are of",
        lambda f: change_config(f, lambda c: c["model_conf"].update(depth=2)),
    ),
    "a tensor lost": (
        r"1 of 65 tensors are missing, the first is modality_encoders\.AUDIO\.alibi_scale",
        lambda f: change_weights(f, lambda w: w.pop("d2v_model.modality_encoders.AUDIO.alibi_scale")),
    ),
    "excluded by config.yaml": (
        r"2 of 65 tensors are missing, the first is proj\.bias",
        lambda f: change_config(f, lambda c: c.update(excludes=["proj"])),
    ),
    "NaN": (
        r"blocks\.0\.norm1\.bias has values that are not finite",
        lambda f: change_weights(f, lambda w: w["d2v_model.blocks.0.norm1.bias"].fill_(float("nan"))),
    ),
    "cut": ("not a whole PyTorch checkpoint", lambda f: _half(f / "model.pt")),
    "empty": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_bytes(b"")),
    "text": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_text("Not found\n" * 100)),
    "a page": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_text("<!DOCTYPE html>")),
    "code": ("not a whole PyTorch checkpoint", lambda f: _saved(f, {"model": Path("objects are not loaded")})),
    "no names": ("holds no named tensors", lambda f: _saved(f, [1, 2])),
    "no tensors": ("holds no named tensors", lambda f: _saved(f, {"model": {"a": 1}})),
    "not YAML": ("is not valid YAML", lambda f: (f / "config.yaml").write_text("model: [")),
    "not a mapping": ("not of an emotion2vec model", lambda f: (f / "config.yaml").write_text("- model")),
    "another model": (r"\(model: Paraformer\)", lambda f: change_config(f, lambda c: c.update(model="Paraformer"))),
    "half a config": ("does not describe a whole network", lambda f: change_config(f, lambda c: c.pop("model_conf"))),
    "less of a config": ("FunASR cannot open", lambda f: change_config(f, lambda c: c["model_conf"].pop("num_heads"))),
    "code in a config": ("must be a list of layer sizes", _code),
    "not JSON": ("is not the JSON object", lambda f: (f / "configuration.json").write_text("{")),
    "a JSON list": ("is not the JSON object", lambda f: (f / "configuration.json").write_text("[]")),
    "odd JSON": (
        "must name the model's files",
        lambda f: (f / "configuration.json").write_text('{"file_path_metas": 1}'),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_model_that_is_not_whole_is_one_clear_error(copy: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    message, damage = DAMAGE[kind]
    damage(copy)
    with pytest.raises(BadWeights, match=message) as caught:
        opened(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not (copy / "ran").exists()


def test_a_config_may_not_bring_its_own_code(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "remote.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    change_config(copy, lambda c: c.update(trust_remote_code=True, remote_code=str(tmp_path / "remote.py")))
    opened(copy)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_the_format_before_zip_is_read(encoder: Emotion2vecEncoder, copy: Path) -> None:
    import torch

    checkpoint = torch.load(copy / "model.pt", weights_only=True)
    torch.save(checkpoint, copy / "model.pt", _use_new_zipfile_serialization=False)
    assert opened(copy).space == encoder.space


# -------------------------------------------------------------------------------------------------------- not available


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match=r"gone is not a folder"):
        opened(tmp_path / "gone")


@pytest.mark.parametrize("package", ["torch", "funasr"])
def test_without_its_packages_the_cure_is_named(
    encoder: Emotion2vecEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[emotion2vec\]'"):
        opened(folder)


def test_a_device_that_is_not_there_is_not_replaced_in_silence(folder: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(EncoderUnavailable, match="no usable cuda device here; use --device cpu"):
            opened(folder, device="cuda")
    with pytest.raises(EncoderUnavailable, match="no device called 'gpu'"):
        opened(folder, device="gpu")


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both hubs where nobody answers, their caches empty: `<fixture>/ms` and `<fixture>/hf`."""
    with undisturbed():
        import huggingface_hub.constants

    for name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setattr("modelscope_hub.config._default_config", None, raising=False)  # it remembers the cache's place
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def test_neither_network_nor_a_cached_copy(hubs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EncoderUnavailable) as caught:
        opened("emotion2vec_plus_large")
    text = str(caught.value)
    assert "ModelScope cannot be reached" in text
    assert "Hugging Face cannot be reached" in text
    assert "use --encoder light" in text
    assert "local copy" in text
    assert "\n" not in text
    assert capfd.readouterr() == ("", "")


CACHES = {
    "ModelScope": "ms/models/iic--emotion2vec_plus_base/snapshots/master",
    "ModelScope before 1.38": "ms/models/iic/emotion2vec_plus_base",
    "Hugging Face": "hf/models--emotion2vec--emotion2vec_plus_base/snapshots/0123456789abcdef0123456789abcdef01234567",
}


def _cached(hubs: Path, hub: str, folder: Path) -> Path:
    place = hubs / CACHES[hub]
    shutil.copytree(folder, place)
    if hub == "Hugging Face":
        (place.parent.parent / "refs").mkdir()
        (place.parent.parent / "refs" / "main").write_text(place.name)
    return place


@pytest.mark.parametrize("hub", CACHES)
def test_a_cached_copy_needs_no_network(
    encoder: Emotion2vecEncoder, folder: Path, hubs: Path, hub: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _cached(hubs, hub, folder)
    cached = opened("emotion2vec_plus_base")
    assert cached.space.encoder == cached.opened_by == "emotion2vec_plus_base"
    assert cached.space.revision == encoder.space.revision
    assert capfd.readouterr() == ("", "")


def test_half_a_cached_copy_is_not_taken_for_one(encoder: Emotion2vecEncoder, folder: Path, hubs: Path) -> None:
    (_cached(hubs, "ModelScope", folder) / "model.pt").unlink()
    with pytest.raises(EncoderUnavailable, match="not cached"):
        opened("emotion2vec_plus_base")
    _cached(hubs, "Hugging Face", folder)
    assert opened("emotion2vec_plus_base").space.revision == encoder.space.revision


# --------------------------------------------------------------------------------------------------------- side effects


@pytest.fixture
def bare_root_logger() -> Iterator[logging.Logger]:
    """The root logger as a program has it that never set logging up, and put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def _state() -> tuple[object, ...]:
    import torch

    python, (_, keys, *rest) = random.getstate(), np.random.get_state()
    root = logging.getLogger()
    return (
        python,
        np.asarray(keys).tobytes(),
        rest,
        torch.get_rng_state().numpy().tobytes(),
        torch.get_num_threads(),
        [(handler, list(handler.filters)) for handler in root.handlers],
        root.level,
        list(warnings.filters),
        sys.stdout,
        sys.stderr,
    )


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_opening_and_encoding_leave_the_process_as_it_was(
    folder: Path, bare_root_logger: logging.Logger, threads: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _state()
    encoder = opened(folder, threads=threads)
    assert _state() == before
    encoder.encode([made.noise(1.0)])
    encoder.encode([made.noise(1.0), made.noise(3.0), made.noise(0.5)])
    encoder.frames(made.noise(1.0))
    assert _state() == before
    assert capfd.readouterr() == ("", "")


def test_opening_says_nothing_to_handlers_that_are_there(
    folder: Path, bare_root_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    bare_root_logger.addHandler(caplog.handler)
    bare_root_logger.setLevel(logging.DEBUG)
    before = _state()
    opened(folder)
    assert _state() == before
    assert caplog.records == []
    logging.getLogger("caller").info("still heard")
    assert caplog.messages == ["still heard"]


def test_a_failure_leaves_the_process_as_it_was(copy: Path, bare_root_logger: logging.Logger) -> None:
    _tokens(copy, "angry", "angry")
    before = _state()
    with pytest.raises(BadWeights):
        opened(copy, threads=1)
    assert _state() == before


def test_encoding_uses_the_threads_asked_for(folder: Path) -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    encoder = opened(folder, threads=before + 1)
    encoder._network.module.blocks[0].register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    encoder.encode([made.noise(1.0)])
    encoder.frames(made.noise(1.0))
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before


def test_other_threads_still_print_and_log(
    bare_root_logger: logging.Logger, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    bare_root_logger.addHandler(caplog.handler)

    def speak(name: str) -> None:
        sys.stdout.write(f"{name}\n")
        logging.getLogger().warning(name)

    with undisturbed():
        speak("ours")
        kept = sys.stdout
        other = threading.Thread(target=speak, args=("theirs",))
        other.start()
        other.join()
    assert capsys.readouterr() == ("theirs\n", "")
    assert caplog.messages == ["theirs"]
    kept.write("a logger that was made meanwhile\n")
    assert capsys.readouterr().out == "a logger that was made meanwhile\n"
