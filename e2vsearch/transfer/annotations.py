"""Exports and imports labels, classifiers and their predictions, named vectors, and projections.

Beside `export`'s own files, a segment being its row there::

    labels.jsonl                  one example a line: label, segment, source, speaker, created_at; without segment, row
    label_vectors.npy             i of (examples, dim) float32 belongs to the i-th such line
    classifiers.jsonl             one version a line: name, version, labels, report, min_score, created_at; the i-th has
    classifiers/i.npz             its parameters, plain arrays, and in
    classifiers/i.jsonl           its predictions: segment, label, score
    named_vectors.jsonl           one set of named vectors a line: name, dim, created_at; the i-th has
    named_vectors/i.npy           (segments, dim) float32, and
    named_vectors/i.segments.npy  (segments,) int64
    projections.jsonl             one a line: name, kind, revision, report, created_at, used; the i-th has
    projections/i.npz             its parameters, plain arrays

Up to format 2, ``named_vectors`` was called ``sides``. Maps are not exported: one command makes them of the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import named_vectors, projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.writer import Catalog
from e2vsearch.transfer.label_rows import (
    Classifier,
    Example,
    Prediction,
    add_classifier,
    add_examples,
    add_predictions,
    classifiers,
    examples,
    predictions,
)
from e2vsearch.transfer.row_file import collection_changed, row_file

_BATCH = 4096
_NAMED_VECTORS = "named_vectors"
NOT_STORED = -1
"""In place of a segment's number: it is not in the collection."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """How many of each were exported, or were new."""

    labels: int = 0
    classifiers: int = 0
    named_vectors: int = 0
    projections: int = 0


def write_annotations(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> Annotations:
    """Write all annotations of a collection.

    Args:
        catalog: of the collection.
        folder: of the export.
        ids: number of the segment in each row of the export, ascending.

    Raises:
        ExportError: an annotated segment is not among them: the collection changed meanwhile.
        OSError: the folder cannot be written.
    """
    return Annotations(
        _write_labels(catalog, folder, ids),
        _write_classifiers(catalog, folder, ids),
        _write_named_vectors(catalog, folder, ids),
        _write_projections(catalog, folder),
    )


PathOf = Callable[[str], Path | None]
"""Returns the path of a file of an export, None where it has none of that name."""


def load_annotations(
    catalog: Catalog, path_of: PathOf, ids: NDArray[np.int64], stem: str, *, fresh: bool = False
) -> Annotations:
    """Add the annotations of a checked export that are missing, and return how many those are.

    Args:
        catalog: of the collection that is added to.
        path_of: finds the export's files.
        ids: stored number of the segment in each row of the export, `NOT_STORED` where there is none.
        stem: what the files of named vectors are called.
        fresh: whether the collection was empty before; it is then searched through the export's projection.
    """
    return Annotations(
        _load_labels(catalog, path_of, ids),
        _load_classifiers(catalog, path_of, ids),
        _load_named_vectors(catalog, path_of, ids, stem),
        _load_projections(catalog, path_of, fresh=fresh),
    )


def _lines(path: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; none where there is no such file."""
    if path is not None:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def line(fields: dict[str, Any]) -> str:
    """Return one line of JSON."""
    return json.dumps(fields, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be exported")


# ---------------------------------------------------------------------------------------------------------- labels


def _write_labels(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    vectors = []
    count = 0
    with (folder / "labels.jsonl").open("w", encoding="utf-8") as file:
        for example in examples(catalog):
            fields = asdict(example)
            vector = fields.pop("vector")
            if vector is not None:
                vectors.append(np.frombuffer(vector, "<f4"))
            if example.segment is not None:
                fields["segment"] = int(_rows(ids, [example.segment])[0])
            file.write(line(fields))
            count += 1
    if vectors:
        np.save(folder / "label_vectors.npy", np.stack(vectors), allow_pickle=False)
    return count


def _load_labels(catalog: Catalog, path_of: PathOf, ids: NDArray[np.int64]) -> int:
    path = path_of("label_vectors.npy")
    rest = iter(()) if path is None else iter(np.load(path, mmap_mode="r", allow_pickle=False))
    given = []
    for fields in _lines(path_of("labels.jsonl")):
        row = fields.pop("segment")
        vector = next(rest).astype("<f4").tobytes() if row is None else None
        segment = None if row is None else int(ids[row])
        if segment != NOT_STORED:
            made = datetime.fromisoformat(fields.pop("created_at"))
            given.append(Example(segment=segment, vector=vector, created_at=made, **fields))
    return add_examples(catalog, given)


# ----------------------------------------------------------------------------------------------------- classifiers


def _write_classifiers(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    found = classifiers(catalog)
    (folder / "classifiers").mkdir()
    with (folder / "classifiers.jsonl").open("w", encoding="utf-8") as file:
        for at, (number, classifier) in enumerate(found):
            fields = asdict(classifier)
            (folder / "classifiers" / f"{at}.npz").write_bytes(fields.pop("parameters"))
            file.write(line(fields))
            with (folder / "classifiers" / f"{at}.jsonl").open("w", encoding="utf-8") as predicted:
                for each in predictions(catalog, number):
                    predicted.write(line({**asdict(each), "segment": int(_rows(ids, [each.segment])[0])}))
    return len(found)


def _load_classifiers(catalog: Catalog, path_of: PathOf, ids: NDArray[np.int64]) -> int:
    new = 0
    for at, fields in enumerate(_lines(path_of("classifiers.jsonl"))):
        parameters = _bytes(path_of(f"classifiers/{at}.npz"))
        labels, made = tuple(fields.pop("labels")), datetime.fromisoformat(fields.pop("created_at"))
        classifier = Classifier(labels=labels, created_at=made, parameters=parameters, **fields)
        number, is_new = add_classifier(catalog, classifier)
        new += is_new
        predicted = _lines(path_of(f"classifiers/{at}.jsonl"))
        found = (Prediction(**{**each, "segment": int(ids[each["segment"]])}) for each in predicted)
        add_predictions(catalog, number, (each for each in found if each.segment != NOT_STORED))
    return new


# ------------------------------------------------------------------------------------------------------- named vectors


def _write_named_vectors(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    stem = _NAMED_VECTORS
    found = [each for each in named_vectors.listed(catalog) if each.segments]
    (folder / stem).mkdir()
    with (folder / f"{stem}.jsonl").open("w", encoding="utf-8") as file:
        for at, each in enumerate(found):
            file.write(line({"name": each.name, "dim": each.dim, "created_at": each.created_at}))
            rows = [np.empty(0, np.int64)]
            with row_file(folder / stem / f"{at}.npy", each.segments, each.dim) as write:
                for numbers, batch in named_vectors.batches(catalog, each):
                    write(batch)
                    rows.append(_rows(ids, numbers))
            np.save(folder / stem / f"{at}.segments.npy", np.concatenate(rows), allow_pickle=False)
    return len(found)


def _load_named_vectors(catalog: Catalog, path_of: PathOf, ids: NDArray[np.int64], stem: str) -> int:
    before = {each.name for each in named_vectors.listed(catalog)}
    new = set()
    for at, fields in enumerate(_lines(path_of(f"{stem}.jsonl"))):
        name, made = fields["name"], datetime.fromisoformat(fields["created_at"])
        paths = path_of(f"{stem}/{at}.npy"), path_of(f"{stem}/{at}.segments.npy")
        vectors, rows_of = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths if path is not None)
        numbers = ids[rows_of]
        for start in range(0, len(numbers), _BATCH):
            part, rows = numbers[start : start + _BATCH], vectors[start : start + _BATCH]
            wanted = part != NOT_STORED
            known = {each.name: each for each in named_vectors.listed(catalog)}.get(name)
            if known is not None:
                wanted &= ~named_vectors.fetch(catalog, known, part)[1]
            if wanted.any():
                named_vectors.attach(catalog, name, part[wanted], rows[wanted], made)
                new.add(name)
    return len(new - before)


# ----------------------------------------------------------------------------------------------------- projections


def _write_projections(catalog: Catalog, folder: Path) -> int:
    found = projections.listed(catalog)
    used = projections.used(catalog)
    if not found:
        return 0
    (folder / "projections").mkdir()
    with (folder / "projections.jsonl").open("w", encoding="utf-8") as file:
        for at, each in enumerate(found):
            fields = asdict(each)
            (folder / "projections" / f"{at}.npz").write_bytes(fields.pop("parameters"))
            fields["report"].pop(projections.SCORED_TO, None)
            file.write(line({**fields, "used": used is not None and used[0] == each.name}))
    return len(found)


def _load_projections(catalog: Catalog, path_of: PathOf, *, fresh: bool) -> int:
    new = 0
    for at, fields in enumerate(_lines(path_of("projections.jsonl"))):
        used, made = fields.pop("used"), datetime.fromisoformat(fields.pop("created_at"))
        parameters = _bytes(path_of(f"projections/{at}.npz"))
        each = StoredProjection(parameters=parameters, created_at=made, **fields)
        new += projections.put(catalog, each, replace=False)
        if used and fresh:
            projections.use(catalog, each.name)
    return new


def _rows(ids: NDArray[np.int64], numbers: Any) -> NDArray[np.intp]:
    """Return the rows of segments among ascending ids."""
    rows: NDArray[np.intp] = np.searchsorted(ids, numbers)
    if (rows == len(ids)).any() or not np.array_equal(ids[rows], numbers):
        raise collection_changed()
    return rows


def _bytes(path: Path | None) -> bytes:
    assert path is not None  # it was checked
    return path.read_bytes()
