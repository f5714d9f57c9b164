"""Classifiers carried elsewhere: exported, imported, and hostile files refused."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_labels import DIM, FEELINGS, fill, give_all

import e2vsearch
from e2vsearch.analysis.labels import types
from e2vsearch.analysis.labels.classifier import Model, unpack
from e2vsearch.collection import Collection
from e2vsearch.errors import ExportError, SpaceMismatch
from e2vsearch.types import Space


def test_export_and_import(collection: Collection, trained: types.ClassifierReport, tmp_path: Path) -> None:
    file = tmp_path / "mood.npz"
    assert collection.labels.export_classifier("mood", file) == trained
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["weights"].shape == (3, DIM)
    with pytest.raises(ExportError, match="exists already"):
        collection.labels.export_classifier("mood", file)
    with pytest.raises(ExportError, match="cannot be written"):
        collection.labels.export_classifier("mood", tmp_path / "none" / "x.npz")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        fill(copy)
        came = copy.labels.import_classifier(file)
        assert came.imported
        assert replace(came, imported=False, created_at=trained.created_at) == trained
        assert copy.labels.import_classifier(file, "again").name == "again"
        ours, theirs = collection.labels.classify("mood"), copy.labels.classify("mood")
        assert ours.labels == theirs.labels
    with e2vsearch.open(tmp_path / "other", create=True) as other:
        other.catalog.pin(Space("saved", "another", DIM), "saved")
        with pytest.raises(SpaceMismatch, match="takes vectors of saved@made"):
            other.labels.import_classifier(file)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def _npy(array: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def _lying(content: bytes) -> bytes:
    return content.replace(b"(3, 16)", b"(9, 99)")


HOSTILE: dict[str, Callable[[dict[str, bytes]], dict[str, bytes] | bytes]] = {
    "not a zip": lambda members: b"PK\x03\x04" + bytes(200),
    "empty": lambda members: b"",
    "no header": lambda members: {name: each for name, each in members.items() if name != "classifier.json"},
    "no weights": lambda members: {name: each for name, each in members.items() if name != "weights.npy"},
    "header is no JSON": lambda members: members | {"classifier.json": b"{"},
    "header is a list": lambda members: members | {"classifier.json": b"[]"},
    "header is deep": lambda members: members | {"classifier.json": b"[" * 200_000},
    "header is huge": lambda members: members | {"classifier.json": b" " * (2 << 20)},
    "pickled": lambda members: members | {"weights.npy": _npy(np.array([Bomb()], object))},
    "a pickle": lambda members: members | {"weights.npy": pickle.dumps(Bomb())},
    "wrong shape": lambda members: members | {"weights.npy": _npy(np.zeros((3, 15), np.float32))},
    "wrong type": lambda members: members | {"bias.npy": _npy(np.zeros(3, np.float64))},
    "not finite": lambda members: members | {"bias.npy": _npy(np.full(3, np.nan, np.float32))},
    "cut off": lambda members: members | {"weights.npy": members["weights.npy"][:-4]},
    "lies about its shape": lambda members: members | {"weights.npy": _lying(members["weights.npy"])},
    "too much": lambda members: members | {"weights.npy": members["weights.npy"] + bytes(1 << 20)},
}


def _header(**changes: object) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(members: dict[str, bytes]) -> dict[str, bytes]:
        header = json.loads(members["classifier.json"])
        for name, value in changes.items():
            within = header["report"] if name in header["report"] and name not in header else header
            within[name] = value
        return members | {"classifier.json": json.dumps(header).encode()}

    return change


HOSTILE |= {
    "labels twice": _header(labels=["calm", "calm", "hesitant"]),
    "labels are numbers": _header(labels=[1, 2, 3]),
    "one label": _header(labels=["calm"]),
    "label moves the cursor": _header(labels=["calm", "hesitant", "\x1b[2J"]),
    "no space": _header(space=None),
    "space of no size": _header(space={"encoder": "a", "revision": "b", "projection": "raw", "dim": -1, "labels": []}),
    "another format": _header(format="e2vsearch-classifier-9"),
    "name too long": _header(name="x" * 999),
    "no date": _header(created_at="yesterday"),
    "no report": _header(report=None),
    "report without figures": _header(report={"space": "x"}),
    "accuracy is text": _header(accuracy="very"),
    "accuracy is infinite": _header(accuracy=float("inf")),
    "confusion is ragged": _header(confusion=[[1], [2, 3], []]),
    "contrast is none of them": _header(contrast="something"),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The members of a sound file."""
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("exported")
    with e2vsearch.open(folder / "index", create=True) as collection:
        give_all(fill(collection))
        collection.labels.train("mood")
        collection.labels.export_classifier(None, folder / "mood.npz")
    with zipfile.ZipFile(folder / "mood.npz") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(
    tmp_path: Path, exported: dict[str, bytes], empty: Collection, kind: str
) -> None:
    file = tmp_path / "mood.npz"
    made = HOSTILE[kind](exported)
    if isinstance(made, bytes):
        file.write_bytes(made)
    else:
        written(file, made)
    with pytest.raises(ExportError, match=r"mood\.npz is no classifier") as caught:
        empty.labels.import_classifier(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not Path("exploded").exists()
    assert empty.labels.classifiers() == ()


def test_the_same_file_unharmed_is_taken(tmp_path: Path, exported: dict[str, bytes], empty: Collection) -> None:
    file = written(tmp_path / "mood.npz", exported)
    assert empty.labels.import_classifier(file).labels == FEELINGS
    assert empty.labels.remove_classifier("mood") == 1


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """A pinned collection with nothing in it."""
    with e2vsearch.open(tmp_path_factory.mktemp("empty") / "index", create=True) as collection:
        yield fill(collection, 0)


def test_a_file_that_is_not_there(local: Collection, tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(ExportError, match="cannot be read"):
            local.labels.import_classifier(path)


def test_a_model_is_the_same_after_packing() -> None:
    rng = np.random.default_rng(0)
    model = Model(rng.standard_normal((3, 5)).astype(np.float32), rng.standard_normal(3).astype(np.float32))
    vectors = rng.standard_normal((4, 5)).astype(np.float32)
    probabilities = model.probabilities(vectors)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(4))
    np.testing.assert_array_equal(unpack(model.pack(), 3, 5).probabilities(vectors), probabilities)
    np.testing.assert_allclose(model.probabilities(vectors * 7), probabilities, rtol=1e-6)  # only direction counts
    assert model.pack() == model.pack()
