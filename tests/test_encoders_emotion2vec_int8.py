"""8-bit products: near fp32, the same whatever else is in a batch, another space, and refused where they overflow."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Run
from opened_emotion2vec import NEEDED, SIGNALS, ingested, opened
from random_emotion2vec import write_model

from e2vsearch.encoders.base import EncoderOptions, Precision, in_precision, precision_of
from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder
from e2vsearch.errors import EncoderUnavailable
from e2vsearch.types import Space

pytestmark = NEEDED
CHECK = "from e2vsearch.encoders.emotion2vec import int8; int8.check()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    from e2vsearch.encoders.emotion2vec import int8

    try:
        int8.check()
    except EncoderUnavailable as error:
        pytest.skip(str(error))
    return opened(folder, precision="int8")


def test_int8_is_near_and_another_space(encoder: Emotion2vecEncoder, folder: Path) -> None:
    whole, signals = opened(folder), list(SIGNALS.values())
    a, b = whole.encode(signals), encoder.encode(signals)
    assert not np.allclose(a.vectors, b.vectors, atol=1e-3), "or this is no int8 at all"
    cosines = (a.vectors * b.vectors).sum(1) / np.linalg.norm(a.vectors, axis=1) / np.linalg.norm(b.vectors, axis=1)
    assert cosines.min() > 0.995, cosines
    assert encoder.space.revision.startswith("int8-")
    assert replace(encoder.space, revision=whole.space.revision) == whole.space
    assert precision_of(encoder.space) == "int8"


def test_vectors_are_the_same_whatever_else_is_in_the_batch(encoder: Emotion2vecEncoder) -> None:
    signals = list(SIGNALS.values())
    alone = np.concatenate([encoder.encode([signal]).vectors for signal in signals])
    together, turned = encoder.encode(signals).vectors, encoder.encode(signals[::-1]).vectors[::-1]
    # flipped roundings would show as 1e-3; the last bits are those of attention and of the positional convolutions
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(turned, alone, atol=2e-6)


def test_frames_and_blocks_belong_to_the_vector(encoder: Emotion2vecEncoder) -> None:
    signal = next(iter(SIGNALS.values()))
    vector = encoder.encode([signal]).vectors[0]
    np.testing.assert_allclose(encoder.frames(signal).mean(0), vector, atol=2e-6)
    blocks = encoder.layers(signal)
    assert blocks.shape == (encoder.blocks, encoder.space.dim)
    np.testing.assert_allclose(blocks[-1], vector, atol=2e-6)


def test_a_product_is_that_of_the_rounded_numbers(encoder: Emotion2vecEncoder) -> None:
    """By numpy in 64 bits: codes within their range, half a step away at most, and sums without overflow."""
    import torch

    from e2vsearch.encoders.emotion2vec import int8

    assert encoder  # int8 is to be had here
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((48, 256)).astype(np.float32)
    signed = rng.standard_normal((9, 256)).astype(np.float32) * 10.0 ** np.arange(-4, 5)[:, None].astype(np.float32)
    signed[4] = 0
    steps = np.abs(weight).max(1, keepdims=True) / 127
    rounded = np.round(weight / steps) * steps
    for rows, zero in ((signed, 128), (np.maximum(signed, -0.17), 32)):
        product = int8.Product(torch.from_numpy(weight), None, zero)
        codes, scales = int8.empty_codes(*rows.shape)
        product.encode(torch.from_numpy(rows), codes, scales)
        meant = (codes.numpy().astype(np.float64) - zero) * scales.numpy()
        assert (np.abs(meant - rows).max(1) <= 0.501 * scales.numpy()[:, 0]).all()
        given = (product.multiply(codes) * scales).numpy()
        np.testing.assert_allclose(given, meant @ rounded.T, rtol=1e-5, atol=1e-5 * np.abs(meant).max())


@pytest.mark.parametrize("held", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("other", ["fp32", "bf16", "int8"])
def test_each_precision_is_told_from_the_others_of_the_same_weights(held: Precision, other: Precision) -> None:
    whole = Space("emotion2vec", "0123456789abcdef" * 4, 64)
    a, b = (replace(whole, revision=in_precision(whole.revision, each)) for each in (held, other))
    assert (a.precision, b.precision) == (held, other)
    assert a.differs_in_precision(b) == (held != other)
    strange = replace(b, revision=in_precision("fedcba9876543210" * 4, other))
    assert not a.differs_in_precision(strange)


def test_int8_is_a_flag_and_its_cure_is_said(
    encoder: Emotion2vecEncoder, folder: Path, tmp_path: Path, run: Run
) -> None:
    assert encoder
    index, clip = ingested(run, folder, tmp_path, "int8")
    refused = run("query", clip, "--index", index, "--precision", "bf16")
    assert refused.code != 0
    assert "this collection holds vectors of emotion2vec@int8-" in refused.err
    assert "go on with --precision int8, or start another" in refused.err


def test_processors_whose_products_overflow_are_refused(encoder: Emotion2vecEncoder) -> None:
    assert encoder
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", CHECK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "int8 needs a processor whose 8-bit products are exact" in done.stderr
    assert "use --precision fp32" in done.stderr


def test_networks_of_another_kind_are_refused(encoder: Emotion2vecEncoder, folder: Path) -> None:
    from e2vsearch.encoders.emotion2vec import loader, model_folder
    from e2vsearch.encoders.emotion2vec.network import Network

    assert encoder
    module, _ = loader.load(model_folder.read(folder), EncoderOptions())
    module.cfg.layer_norm_first = True
    with pytest.raises(EncoderUnavailable, match=r"config\.yaml describes another; use --precision fp32"):
        Network(module, precision="int8")
