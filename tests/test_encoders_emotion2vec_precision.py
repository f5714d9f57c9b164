"""bfloat16: near, about twice as fast, and another space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
from command import Run
from opened_emotion2vec import NEEDED, SIGNALS, ingested, opened
from random_emotion2vec import write_model

from e2vsearch.encoders import registry
from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder
from e2vsearch.errors import SettingsError, SpaceMismatch

pytestmark = NEEDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    return opened(folder)


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


CURES = {
    "fp32": "go on with --precision fp32, or bf16-as-fp32 to mix them all the same, or start another",
    "bf16": "go on with --precision bf16, or start another",
}


def test_a_collection_of_fp32_refuses_bf16_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    import e2vsearch

    both = {precision: opened(folder, precision=precision) for precision in ("fp32", "bf16")}
    made.save(tmp_path / "a.wav", made.speech(3.0))
    for first, second in (("fp32", "bf16"), ("bf16", "fp32")):
        with e2vsearch.open(tmp_path / first, encoder=both[first], create=True) as collection:
            collection.ingest(tmp_path / "a.wav")
        with (
            e2vsearch.open(tmp_path / first, encoder=both[second], create=True) as collection,
            pytest.raises(SpaceMismatch, match=CURES[first]),
        ):
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
        assert 0.999 < (best.score or 0) < 0.9999999, "asked for, it is taken, and off in the third digit"


def test_a_precision_is_a_flag(folder: Path, tmp_path: Path, run: Run) -> None:
    index, clip = ingested(run, folder, tmp_path, "bf16")
    refused = run("query", clip, "--index", index, "--precision", "fp32")
    assert refused.code != 0
    assert "this collection holds vectors of emotion2vec@bf16-" in refused.err
    assert "go on with --precision bf16" in refused.err
    other = made.save(tmp_path / "b.wav", made.speech(2.0, seed=2))  # not stored: it has to be encoded
    asked = run("label", "warm", other, "--index", index, "--precision", "fp32")
    assert asked.code != 0
    assert "go on with --precision bf16" in asked.err
    assert "go on with" not in run("label", "warm", other, "--index", index).err


@pytest.mark.parametrize(
    "command",
    [
        "ingest",
        "worker",
        "query",
        "compare",
        "embed",
        "label add",
        "classify",
        "evaluate",
        "projection fit",
        "projection compare",
        "serve",
        "mcp",
    ],
)
def test_whatever_opens_a_model_takes_a_precision(run: Run, command: str) -> None:
    assert "--precision" in run(*command.split(), "--help").out


def test_there_is_no_other_precision(folder: Path) -> None:
    with pytest.raises(SettingsError, match="fp32, bf16"):
        registry.open(str(folder), EncoderOptions(precision="fp8"))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="light has no precision 'bf16'"):
        registry.open("light", EncoderOptions(precision="bf16"))
