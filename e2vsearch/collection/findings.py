"""Export and import of what was found: labels, classifiers and what they say, side vectors, projections.

Beside `transfer`'s own files, a segment being its row there::

    labels.jsonl          one example a line: label, segment, source, speaker, created_at; without segment, row i of
    label_vectors.npy     (examples, dim) float32 belongs to the i-th such line
    classifiers.jsonl     one version a line: name, version, labels, report, min_score, created_at; the i-th has
    classifiers/i.npz     its parameters, plain arrays, and in
    classifiers/i.jsonl   what it says: segment, label, score
    sides.jsonl           one set of side vectors a line: name, dim, created_at; the i-th has
    sides/i.npy           (segments, dim) float32, and
    sides/i.segments.npy  (segments,) int64
    projections.jsonl     one a line: name, kind, revision, report, created_at, used; the i-th has
    projections/i.npz     its parameters, plain arrays

Maps are not exported: they are made of the vectors, by one command.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog, carry, projections, sides
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.errors import ExportError

_BATCH = 4096
_NOBODY = -1  # in place of a segment's number: it is not in the collection


@dataclass(frozen=True, slots=True)
class Findings:
    """How many of each went over."""

    labels: int = 0
    classifiers: int = 0
    sides: int = 0
    projections: int = 0


def write(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> Findings:
    """Write all that was found about segments.

    Args:
        catalog: where it is.
        folder: of the export.
        ids: number of the segment in each row of the export, ascending.

    Raises:
        ExportError: there is a segment that is not among them: the collection changed meanwhile.
        OSError: the folder cannot be written.
    """
    return Findings(
        _write_labels(catalog, folder, ids),
        _write_classifiers(catalog, folder, ids),
        _write_sides(catalog, folder, ids),
        _write_projections(catalog, folder),
    )


def load(catalog: Catalog, folder: Path, ids: NDArray[np.int64], *, fresh: bool = False) -> Findings:
    """Add all that was found about segments, where nothing is known yet; gives how many were new.

    Args:
        catalog: where to.
        folder: of the export.
        ids: number that the segment in each row of the export has here, -1 where it is not here.
        fresh: nothing was here before, so that it is searched through the projection that was in use.
    """
    return Findings(
        _load_labels(catalog, folder, ids),
        _load_classifiers(catalog, folder, ids),
        _load_sides(catalog, folder, ids),
        _load_projections(catalog, folder, fresh=fresh),
    )


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """What a file of JSON lines holds; nothing where there is none."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)


def line(fields: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(fields, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an export")


# ---------------------------------------------------------------------------------------------------------- labels


def _write_labels(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    vectors = []
    count = 0
    with (folder / "labels.jsonl").open("w", encoding="utf-8") as file:
        for example in carry.examples(catalog):
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


def _load_labels(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    rest = iter(np.load(folder / "label_vectors.npy")) if (folder / "label_vectors.npy").exists() else iter(())
    given = []
    for fields in lines(folder / "labels.jsonl"):
        row = fields.pop("segment")
        vector = next(rest).astype("<f4").tobytes() if row is None else None
        segment = None if row is None else int(ids[row])
        if segment != _NOBODY:
            made = datetime.fromisoformat(fields.pop("created_at"))
            given.append(carry.Example(segment=segment, vector=vector, created_at=made, **fields))
    return carry.add_examples(catalog, given)


# ----------------------------------------------------------------------------------------------------- classifiers


def _write_classifiers(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    found = carry.classifiers(catalog)
    (folder / "classifiers").mkdir()
    with (folder / "classifiers.jsonl").open("w", encoding="utf-8") as file:
        for at, (number, classifier) in enumerate(found):
            fields = asdict(classifier)
            (folder / "classifiers" / f"{at}.npz").write_bytes(fields.pop("parameters"))
            file.write(line(fields))
            with (folder / "classifiers" / f"{at}.jsonl").open("w", encoding="utf-8") as said:
                for each in carry.said_by(catalog, number):
                    said.write(line({**asdict(each), "segment": int(_rows(ids, [each.segment])[0])}))
    return len(found)


def _load_classifiers(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    new = 0
    for at, fields in enumerate(lines(folder / "classifiers.jsonl")):
        parameters = (folder / "classifiers" / f"{at}.npz").read_bytes()
        labels, made = tuple(fields.pop("labels")), datetime.fromisoformat(fields.pop("created_at"))
        classifier = carry.Classifier(labels=labels, created_at=made, parameters=parameters, **fields)
        number, is_new = carry.add_classifier(catalog, classifier)
        new += is_new
        said = lines(folder / "classifiers" / f"{at}.jsonl")
        here = (carry.Said(**{**each, "segment": int(ids[each["segment"]])}) for each in said)
        carry.add_said(catalog, number, (each for each in here if each.segment != _NOBODY))
    return new


# ----------------------------------------------------------------------------------------------------------- sides


def _write_sides(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    found = [side for side in sides.listed(catalog) if side.segments]
    (folder / "sides").mkdir()
    with (folder / "sides.jsonl").open("w", encoding="utf-8") as file:
        for at, side in enumerate(found):
            file.write(line({"name": side.name, "dim": side.dim, "created_at": side.created_at}))
            shape = (side.segments, side.dim)
            vectors = open_memmap(folder / "sides" / f"{at}.npy", "w+", np.dtype("<f4"), shape)
            rows = np.empty(side.segments, np.int64)
            done = 0
            for numbers, batch in sides.batches(catalog, side):
                part = slice(done, done + len(numbers))
                if part.stop > side.segments:
                    raise _changed()
                vectors[part], rows[part] = batch, _rows(ids, numbers)
                done = part.stop
            if done != side.segments:
                raise _changed()
            vectors.flush()
            np.save(folder / "sides" / f"{at}.segments.npy", rows, allow_pickle=False)
    return len(found)


def _load_sides(catalog: Catalog, folder: Path, ids: NDArray[np.int64]) -> int:
    before = {side.name for side in sides.listed(catalog)}
    new = set()
    for at, fields in enumerate(lines(folder / "sides.jsonl")):
        name, made = fields["name"], datetime.fromisoformat(fields["created_at"])
        vectors = np.load(folder / "sides" / f"{at}.npy", mmap_mode="r", allow_pickle=False)
        numbers = ids[np.load(folder / "sides" / f"{at}.segments.npy", allow_pickle=False)]
        for start in range(0, len(numbers), _BATCH):
            part, rows = numbers[start : start + _BATCH], vectors[start : start + _BATCH]
            wanted = part != _NOBODY
            known = {side.name: side for side in sides.listed(catalog)}.get(name)
            if known is not None:
                wanted &= ~sides.fetch(catalog, known, part)[1]
            if wanted.any():
                sides.attach(catalog, name, part[wanted], rows[wanted], made)
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


def _load_projections(catalog: Catalog, folder: Path, *, fresh: bool) -> int:
    new = 0
    for at, fields in enumerate(lines(folder / "projections.jsonl")):
        used, made = fields.pop("used"), datetime.fromisoformat(fields.pop("created_at"))
        parameters = (folder / "projections" / f"{at}.npz").read_bytes()
        each = StoredProjection(parameters=parameters, created_at=made, **fields)
        new += projections.put(catalog, each, replace=False)
        if used and fresh:
            projections.use(catalog, each.name)
    return new


def _rows(ids: NDArray[np.int64], numbers: Any) -> NDArray[np.intp]:
    """Rows of segments among ascending ids."""
    rows: NDArray[np.intp] = np.searchsorted(ids, numbers)
    if (rows == len(ids)).any() or not np.array_equal(ids[rows], numbers):
        raise _changed()
    return rows


def _changed() -> ExportError:
    return ExportError("the collection changed while it was exported - export again")
