"""Made calls for each module of these tests, and a collection of them on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Copied
from made_calls import ingested, make_calls

import e2vsearch
from e2vsearch.collection import Collection


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture
def collection(copied: Copied, calls: Path) -> Iterator[Collection]:
    def fill(url: str) -> None:
        with ingested(url, calls):
            pass

    with e2vsearch.open(copied(fill), encoder="fake") as collection:
        yield collection
