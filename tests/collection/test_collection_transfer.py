"""Export and import: lossless, with all that was found, and damaged exports refused."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_calls import annotate

import e2vsearch
from e2vsearch.catalog import named_vectors, text_search
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import ExportError
from e2vsearch.transfer import export, import_
from e2vsearch.transfer import label_rows as notes
from e2vsearch.transfer.annotations import Annotations
from e2vsearch.transfer.manifest import read_manifest
from e2vsearch.types import Segment


def test_export_and_import_are_lossless(collection: Collection, tmp_path: Path) -> None:
    first = collection.recordings(where="name = voice0")[0]
    collection.catalog.annotate(int(first.id.removeprefix("call:")), {"product": "Kïm", "price": "3.50"})
    done = export.export(collection.catalog, tmp_path / "export")
    assert (done.recordings, done.segments) == (4, collection.status().counts.segments)
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        assert import_.load(copy.catalog, tmp_path / "export").segments == done.segments
        again = import_.load(copy.catalog, tmp_path / "export")
        assert (again.recordings, again.already) == (0, 4)
        assert copy.space == collection.space
        export.export(copy.catalog, tmp_path / "again")
        assert [_without_ids(tmp_path / "again", name) for name in ("recordings", "segments")] == [
            _without_ids(tmp_path / "export", name) for name in ("recordings", "segments")
        ]
        for name in ("vectors.npy", "scores.npy"):
            assert np.array_equal(np.load(tmp_path / "again" / name), np.load(tmp_path / "export" / name))
        assert _emotions(copy) == _emotions(collection)
        assert all(each.level_db is not None and -60 < each.level_db < 0 for each in _emotions(copy))
        hits = copy.query("seg:1", k=3)
        assert [hit.score for hit in hits] == [hit.score for hit in collection.query("seg:1", k=3)]


@pytest.fixture
def found(collection: Collection) -> Collection:
    """A collection in which people found something: transcripts, labels, classifiers, named vectors."""
    annotate(collection)
    return collection


def _findings(collection: Collection) -> dict[str, object]:
    """All of it, a segment being called by where it is."""
    catalog = collection.catalog
    where = {
        number: (collection.recordings(segment.recording)[0].name, segment.channel, segment.start_s)
        for number, segment in catalog.segments()
    }
    classifiers = notes.classifiers(catalog)
    return {
        "texts": {where[number]: segment.text for number, segment in catalog.segments() if segment.text},
        "examples": [(where.get(each.segment or 0), replace(each, segment=0)) for each in notes.examples(catalog)],
        "classifiers": [classifier for _, classifier in classifiers],
        "said": [
            [(where[each.segment], each.label, each.score) for each in notes.predictions(catalog, number)]
            for number, _ in classifiers
        ],
        "sides": [
            (
                side,
                [
                    (where[number], row.tolist())
                    for ids, rows in named_vectors.batches(catalog, side)
                    for number, row in zip(ids.tolist(), rows, strict=True)
                ],
            )
            for side in collection.named_vectors.list()
        ],
    }


def test_what_was_found_is_exported_and_imported(found: Collection, tmp_path: Path, other_url: str) -> None:
    done = export.export(found.catalog, tmp_path / "export")
    assert done.found == Annotations(labels=4, classifiers=2, named_vectors=2)
    with e2vsearch.open(other_url, create=True) as copy:
        # ids are others here: something was there before
        copy.catalog.pin(found.space, "fake")  # type: ignore[arg-type]
        before = tuple(NewSegment(0, float(at), at + 1.0, np.ones(16, np.float32)) for at in range(7))
        when = datetime(2024, 3, 1, tzinfo=UTC)
        copy.catalog.store(NewRecording("/b.wav", "b", "b" * 64, 1, 1, when, 9.0, 1, 8000, "WAV", before))
        assert import_.load(copy.catalog, tmp_path / "export").found == done.found
        copy.remove(where="name = b")
        assert _findings(copy) == _findings(found)
        again = import_.load(copy.catalog, tmp_path / "export")
        assert (again.already, again.found) == (4, Annotations())
        assert _findings(copy) == _findings(found)
        assert [hit.segment for hit in copy.query("emotion:low", text="refund", by="segment")] == [
            segment.id for _, segment in copy.catalog.segments() if segment.text == "I want a refund"
        ]


def test_an_import_adds_what_is_missing_and_changes_nothing(found: Collection, tmp_path: Path) -> None:
    export.export(found.catalog, tmp_path / "export")
    wanted = _findings(found)
    catalog = found.catalog
    text_search.put(catalog, 1, {1: "Something else"})
    found.named_vectors.detach("screen")
    found.named_vectors.attach("text", [1], np.full((1, 3), 7.0))
    import_.load(catalog, tmp_path / "export")
    now = _findings(found)
    assert sorted(now["texts"].values()) == ["Something else", '我要退款 "now"']  # type: ignore[attr-defined]
    assert [side.name for side in found.named_vectors.list()] == ["screen", "text"]
    text = {side.name: dict(rows) for side, rows in now["sides"]}["text"]  # type: ignore[attr-defined]
    assert [7.0, 7.0, 7.0] in text.values()
    assert (now["examples"], now["classifiers"]) == (wanted["examples"], wanted["classifiers"])


def test_a_classifier_of_the_same_version_becomes_the_next(found: Collection, tmp_path: Path) -> None:
    export.export(found.catalog, tmp_path / "export")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        copy.catalog.pin(found.space, "fake")  # type: ignore[arg-type]
        [(_, one), _] = notes.classifiers(found.catalog)
        notes.add_classifier(copy.catalog, replace(one, parameters=b"another"))
        assert import_.load(copy.catalog, tmp_path / "export").found.classifiers == 2
        assert [each.version for _, each in notes.classifiers(copy.catalog)] == [1, 2, 3]


def test_an_export_of_format_1_is_read(found: Collection, tmp_path: Path) -> None:
    export.export(found.catalog, tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text(encoding="utf-8"))
    kept = {"recordings.jsonl", "segments.jsonl", "vectors.npy", "scores.npy"}
    del manifest["checksum"]
    manifest |= {"format": 1, "sha256": {name: manifest["sha256"][name] for name in kept}}
    lines = (tmp_path / "export" / "segments.jsonl").read_text(encoding="utf-8").splitlines()
    later = ("text", "level_db")
    plain = [{key: value for key, value in json.loads(line).items() if key not in later} for line in lines]
    (tmp_path / "old").mkdir()
    for name in kept - {"segments.jsonl"}:
        shutil.copy(tmp_path / "export" / name, tmp_path / "old" / name)
    old = "".join(json.dumps(row) + "\n" for row in plain)
    (tmp_path / "old" / "segments.jsonl").write_text(old, encoding="utf-8")
    manifest["sha256"]["segments.jsonl"] = hashlib.sha256(old.encode()).hexdigest()
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        done = import_.load(copy.catalog, tmp_path / "old")
        assert (done.recordings, done.found) == (4, Annotations())
        assert copy.status().transcribed == 0
        assert _emotions(copy) == [replace(each, level_db=None) for each in _emotions(found)]
    manifest["format"] = 5
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ExportError, match="format 5, this version reads up to 4"):
        read_manifest(tmp_path / "old")


def test_an_export_of_format_2_is_read(found: Collection, tmp_path: Path) -> None:
    """As the former version wrote it: other names for named vectors and for the reference embedding."""
    folder = tmp_path / "export"
    found.catalog.store_reference_embedding(np.arange(16, dtype=np.float32))
    export.export(found.catalog, folder)
    (folder / "named_vectors.jsonl").rename(folder / "sides.jsonl")
    (folder / "named_vectors").rename(folder / "sides")
    (folder / "reference_embedding.npy").rename(folder / "golden.npy")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["checksum"]
    former = (("named_vectors", "sides"), ("reference_embedding", "golden"))
    for new, old in former:
        manifest["sha256"] = {name.replace(new, old): digest for name, digest in manifest["sha256"].items()}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 2}), encoding="utf-8")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        done = import_.load(copy.catalog, folder)
        assert done.found == Annotations(labels=4, classifiers=2, named_vectors=2)
        assert _findings(copy) == _findings(found)
        np.testing.assert_array_equal(copy.catalog.reference_embedding(), found.catalog.reference_embedding())


def _emotions(collection: Collection) -> list[Segment]:
    """What is named, and by what, of all segments: they come in one order whatever their ids."""
    segments = [replace(each, id="", recording="", text=None, label=None) for _, each in collection.catalog.segments()]
    return [replace(each, label_score=None) for each in segments]


def _without_ids(folder: Path, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "id"} for line in lines]


def test_damaged_exports_are_refused(collection: Collection, tmp_path: Path) -> None:
    export.export(collection.catalog, tmp_path / "export")
    with pytest.raises(ExportError, match="exists already"):
        export.export(collection.catalog, tmp_path / "export")
    with (tmp_path / "export" / "vectors.npy").open("r+b") as file:
        file.seek(-4, io.SEEK_END)
        file.write(b"\0\0\0\1")
    with (
        e2vsearch.open(tmp_path / "copy", create=True) as copy,
        pytest.raises(ExportError, match=r"vectors\.npy is missing or damaged"),
    ):
        import_.load(copy.catalog, tmp_path / "export")
    with pytest.raises(ExportError, match="no export"):
        read_manifest(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
