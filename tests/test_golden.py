"""The reference embedding: kept when a collection is pinned, compared whenever an encoder is opened for it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch import encoder_check
from e2vsearch.encoders import base, registry
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import EncoderError, SpaceMismatch
from e2vsearch.transfer import export, import_


class Drifting(FakeEncoder):
    """Of the same space as the fake encoder, and of vectors that are a little off."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.calls = 0

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        self.calls += 1
        made = super()._encode(signals)
        across = np.roll(made.vectors, 1, axis=1)
        across -= made.vectors * np.sum(across * made.vectors, 1, keepdims=True) / np.sum(made.vectors**2)
        across *= np.linalg.norm(made.vectors) / np.linalg.norm(across)
        return Embeddings((made.vectors + self.share * across).astype(np.float32), made.scores)


class Broken(FakeEncoder):
    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        raise EncoderError("it is broken")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    save(tmp_path / "calls" / "a.wav", speech(2.0))
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(tmp_path / "calls")
    return tmp_path / "index"


def test_the_clip_is_the_same_bits_everywhere() -> None:
    clip = encoder_check.reference_clip()
    assert clip.dtype == np.float32
    assert clip.shape == (16_000,)
    assert 0.2 < np.abs(clip).max() < 1.0
    whole = (clip * 32_768).astype("<i2")
    np.testing.assert_array_equal(whole / np.float32(32_768), clip)
    assert hashlib.sha256(whole.tobytes()).hexdigest() == DIGEST


DIGEST = "79e1812ec6768ce87b444311d3e7d11a0eb0d3218e4deb5d9a80253f0138c2bd"


def test_it_is_kept_when_a_collection_is_pinned(index: Path, database_url: str, tmp_path: Path) -> None:
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        assert collection.catalog.reference_embedding() is None
        collection.ingest(tmp_path / "calls")
        found = collection.catalog.reference_embedding()
        assert found is not None
        np.testing.assert_array_equal(found, FakeEncoder().encode([encoder_check.reference_clip()]).vectors[0])
        collection.catalog.store_reference_embedding(np.zeros(16, np.float32))  # once kept, it stays
        np.testing.assert_array_equal(collection.catalog.reference_embedding(), found)
        assert encoder_check.check_encoder(collection.catalog, FakeEncoder()) == 0.0


@pytest.mark.parametrize("share", [0.0, 1e-5, 0.019])
def test_what_kernels_and_threads_do_is_let_pass(index: Path, share: float) -> None:
    with e2vsearch.open(index, encoder=Drifting(share), create=True) as collection:
        collection.encoder()
        apart = encoder_check.check_encoder(collection.catalog, collection.encoder())
        assert apart == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("share", [0.021, 0.1, 1.0])
def test_other_vectors_under_the_same_revision_are_refused(index: Path, tmp_path: Path, share: float) -> None:
    with e2vsearch.open(index, encoder=Drifting(share), create=True) as collection:
        for use in (collection.encoder, lambda: collection.ingest(tmp_path / "calls")):
            with pytest.raises(SpaceMismatch, match=r"does not compute here what it did .* is off by") as caught:
                use()
            assert "\n" not in str(caught.value)


def test_an_encoder_is_looked_at_once(index: Path) -> None:
    encoder = Drifting(0.0)
    with e2vsearch.open(index, encoder=encoder, create=True) as collection:
        for _ in range(3):
            collection.encoder()
    assert encoder.calls == 1


def _forget(index: Path) -> None:
    with closing(sqlite3.connect(index / "catalog.db")) as connection, connection:
        connection.execute("update space set reference_embedding = NULL")


def test_a_collection_without_one_works_and_gets_one_with_the_next_ingest(index: Path, tmp_path: Path) -> None:
    _forget(index)
    with e2vsearch.open(index, encoder=Drifting(1.0), create=True) as collection:
        assert encoder_check.check_encoder(collection.catalog, collection.encoder()) is None
    with e2vsearch.open(index, create=True) as collection:
        collection.ingest(tmp_path / "calls")
        assert encoder_check.check_encoder(collection.catalog, collection.encoder()) == 0.0


def test_an_encoder_that_takes_no_such_clip_leaves_none(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder=Broken(), create=True) as collection:
        encoder_check.pin_encoder(collection.catalog, collection.encoder())
        assert collection.space == FakeEncoder().space
        assert collection.catalog.reference_embedding() is None


def test_light_is_the_same_with_any_number_of_threads(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="light", create=True) as collection:
        encoder_check.pin_encoder(collection.catalog, collection.encoder())
        apart = encoder_check.check_encoder(collection.catalog, registry.open("light", base.EncoderOptions(threads=2)))
        assert apart is not None
        assert apart < encoder_check.TOLERANCE / 10


def test_an_export_carries_it(index: Path, tmp_path: Path) -> None:
    with e2vsearch.open(index, create=True) as collection:
        export.export(collection.catalog, tmp_path / "export")
        expected = collection.catalog.reference_embedding()
    assert expected is not None
    np.testing.assert_array_equal(np.load(tmp_path / "export" / "reference_embedding.npy"), expected)
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        for already in (0, 1):
            assert import_.load(copy.catalog, tmp_path / "export").already == already
        np.testing.assert_array_equal(copy.catalog.reference_embedding(), expected)
        assert encoder_check.check_encoder(copy.catalog, FakeEncoder()) == 0.0


def test_an_export_of_vectors_that_were_computed_otherwise_is_refused(index: Path, tmp_path: Path) -> None:
    with e2vsearch.open(index, create=True) as collection:
        export.export(collection.catalog, tmp_path / "export")
    with e2vsearch.open(tmp_path / "other", encoder=Drifting(0.5), create=True) as other:
        encoder_check.pin_encoder(other.catalog, other.encoder())
        with pytest.raises(
            SpaceMismatch, match=r"does not compute in the export what it does in this collection"
        ) as it:
            import_.load(other.catalog, tmp_path / "export")
        assert "\n" not in str(it.value)
        assert other.catalog.counts().recordings == 0


def test_an_export_may_have_none(index: Path, tmp_path: Path) -> None:
    _forget(index)
    with e2vsearch.open(index, create=True) as collection:
        export.export(collection.catalog, tmp_path / "export")
    assert not (tmp_path / "export" / "reference_embedding.npy").exists()
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        assert import_.load(copy.catalog, tmp_path / "export").recordings == 1
        assert copy.catalog.reference_embedding() is None


@pytest.mark.slow
def test_doctor_shows_it(index: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("doctor", "--index", index, "-f", "table")
    assert done.code == 0
    assert "reference embedding" in done.out
    assert "0.0e+00 off" in done.out
    _forget(index)
    assert "none yet" in run("doctor", "--index", index, "-f", "table").out
    with closing(sqlite3.connect(index / "catalog.db")) as connection, connection:
        connection.execute("update space set reference_embedding = ?", (np.ones(16, "<f4").tobytes(),))
    broken: Any = run("doctor", "--index", index, "-f", "jsonl")
    assert broken.code == 1
    assert "does not compute here what it did" in broken.out
