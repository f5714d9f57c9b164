"""A classifier in one file: a JSON header and plain arrays in an ``.npz``, every value of which is checked."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels.classifier import Model, member, unpack
from e2vsearch.analysis.labels.examples import checked_name
from e2vsearch.analysis.labels.predict import open_classifier
from e2vsearch.analysis.labels.train import report_of
from e2vsearch.analysis.labels.types import ClassifierReport, from_json, to_json
from e2vsearch.catalog import labels as rows
from e2vsearch.errors import ExportError, QueryError, SpaceMismatch
from e2vsearch.files import atomic_write, unwritable
from e2vsearch.types import Space

FORMAT = "e2vsearch-classifier-1"
_HEADER = "classifier.json"
_MAX_LABELS = 1000
_MAX_BYTES = 64 << 20  # 1000 labels of 1024-d vectors are 4 MB


def export_classifier(context: AnalysisContext, name: str | None, path: str | os.PathLike[str]) -> ClassifierReport:
    """Write the newest version of a classifier to one file, which appears whole or not at all.

    Args:
        context: the collection's.
        name: of the classifier; None: the one trained last.
        path: must not exist yet.

    Raises:
        NotStored: there is no such classifier.
        ExportError: the file exists, or cannot be written.
    """
    stored, model = open_classifier(context, name)
    space, report = context.catalog.require_space(), report_of(stored)
    header = {
        "format": FORMAT,
        "name": stored.name,
        "labels": list(stored.labels),
        "space": {
            "encoder": space.encoder,
            "revision": space.revision,
            "dim": space.dim,
            "labels": list(space.labels),
            "projection": space.projection,
        },
        "created_at": stored.created_at.isoformat(),
        "report": to_json(report),
    }
    content = model.pack({_HEADER: json.dumps(header, ensure_ascii=False, indent=1).encode()})
    target = Path(path).expanduser()
    if target.exists():
        raise ExportError(f"{target} exists already - name another file, or remove it first")
    try:
        atomic_write(target, content)
    except OSError as error:
        raise ExportError(unwritable(target, error)) from error
    return report


def import_classifier(
    context: AnalysisContext, path: str | os.PathLike[str], name: str | None = None
) -> ClassifierReport:
    """Store a classifier that `export_classifier` wrote, as the next version of its name.

    Nothing in the file can run code, and every shape, size and value is checked before it is used.

    Args:
        context: of a collection of the space that it was trained in.
        path: the file.
        name: of the classifier; by default the one in the file.

    Raises:
        ExportError: the file cannot be read, or is no classifier.
        SpaceMismatch: it takes vectors of another space.
        NoCollection: nothing has been ingested yet.
    """
    ours = context.catalog.require_space()
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        if size > _MAX_BYTES:
            raise ExportError(f"{file} is no classifier: {size:,} bytes are more than one has")
        data = file.read_bytes()
    except OSError as error:
        raise ExportError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        stored_name, labels, space, report, model = _read(data, name)
    except (ValueError, QueryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{file} is no classifier that can be used: {reason} - export it again") from error
    if space != ours:
        raise SpaceMismatch(f"{file} takes vectors of {space}, and {context.catalog.name} holds vectors of {ours}")
    stored = rows.store_classifier(
        context.catalog, stored_name, labels, model.pack(), {**to_json(report), "imported": True}
    )
    return report_of(stored)


def _read(data: bytes, name: str | None) -> tuple[str, tuple[str, ...], Space, ClassifierReport, Model]:
    try:
        header: Any = json.loads(member(data, _HEADER))
    except RecursionError as error:
        raise ValueError(f"its {_HEADER} is nested too deeply") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"its {_HEADER} is not of the format {FORMAT}")
    labels, space = header.get("labels"), _space(header.get("space"))
    if not isinstance(labels, list) or not 2 <= len(labels) <= _MAX_LABELS or len({*map(str, labels)}) != len(labels):
        raise ValueError(f"it needs 2 to {_MAX_LABELS} labels, all different")
    named = tuple(_name(label, "label") for label in labels)
    stored_name = _name(header.get("name") if name is None else name, "classifier")
    when = datetime.fromisoformat(str(header.get("created_at")))
    values = header.get("report")
    if not isinstance(values, dict):
        raise ValueError("it has no report")
    report = from_json(values, name=stored_name, version=0, labels=named, created_at=when, imported=True)
    if report.contrast is not None and report.contrast not in named:
        raise ValueError("its contrast is none of its labels")
    return stored_name, named, space, replace(report, space=str(space)), unpack(data, len(named), space.dim)


def _name(value: Any, kind: str) -> str:
    if not isinstance(value, str) or checked_name(value, kind) != value:
        raise ValueError(f"{str(value)[:40]!r} cannot be the name of a {kind}")
    return value


def _space(value: Any) -> Space:
    if not isinstance(value, dict) or not all(
        isinstance(value.get(each), str) and len(value[each]) <= 255 for each in ("encoder", "revision", "projection")
    ):
        raise ValueError("it does not say which space it is of")
    dim, labels = value.get("dim"), value.get("labels")
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= 65536:
        raise ValueError("its space has no sound dimension")
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise ValueError("its space has no sound labels")
    return Space(value["encoder"], value["revision"], dim, tuple(labels), value["projection"])
