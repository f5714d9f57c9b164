"""One made collection for each module of these tests, and applications over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch.collection import Collection

if TYPE_CHECKING:  # the extra that these need may be missing, and then every module says so
    from fastapi.testclient import TestClient
    from gated_service import Gate, Made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        yield collection


@pytest.fixture(scope="module")
def client(collection: Collection, place: Path) -> Iterator[TestClient]:
    from service_client import client_over

    with client_over(collection, place) as client:
        yield client


@pytest.fixture
def gate() -> Iterator[Gate]:
    from gated_service import Gate

    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
async def served(place: Path, gate: Gate) -> AsyncIterator[Made]:
    """Makes applications over one collection, whose encoder is the gate unless it is open."""
    from gated_service import serving

    async with serving(place, gate) as make:
        yield make
