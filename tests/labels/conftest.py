"""A collection to be labelled on both databases, on SQLite alone, and one that was heard; a classifier of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Copied
from made_labels import calls_heard, fill, make, train_mood

import e2vsearch
from e2vsearch.analysis.labels import types
from e2vsearch.collection import Collection


@pytest.fixture
def collection(copied: Copied) -> Iterator[Collection]:
    with e2vsearch.open(copied(make), create=True) as collection:
        yield collection


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Collection]:
    """The same on SQLite alone, where the database makes no difference."""
    with e2vsearch.open(tmp_path / "local", create=True) as collection:
        yield fill(collection)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Collection]:
    """A call of two voices and a call of one, heard by the fake encoder."""
    with calls_heard(tmp_path) as collection:
        yield collection


@pytest.fixture
def trained(collection: Collection) -> types.ClassifierReport:
    pytest.importorskip("sklearn")
    return train_mood(collection)
