"""Made calls for each module of these tests, and a collection of them on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_calls import ingested, make_calls

from e2vsearch.collection import Collection


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture
def collection(database_url: str, tmp_path: Path, calls: Path) -> Iterator[Collection]:
    with ingested(database_url, calls) as collection:
        yield collection
