"""A collection with its map, to be looked at or to be changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_maps import OPTIONS, filled

from e2vsearch.collection import Collection


@pytest.fixture(scope="session")
def umap() -> None:
    """UMAP, whose first map in a process takes ten seconds of its compiler: what asks for this is slow."""
    for module in ("umap", "sklearn", "scipy"):
        pytest.importorskip(module, reason="the 'map' extra is not installed")


@pytest.fixture(scope="session")
def made(umap: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection and its map, made once."""
    folder = tmp_path_factory.mktemp("maps") / "index"
    with filled(folder) as collection:
        collection.maps.build(options=OPTIONS)
    return folder


@pytest.fixture
def collection(made: Path) -> Iterator[Collection]:
    """The collection, to be looked at only."""
    with Collection.open(made, create=True) as opened:
        yield opened


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Iterator[Collection]:
    """A copy, to be changed."""
    shutil.copytree(made, tmp_path / "copy")
    with Collection.open(tmp_path / "copy", create=True) as opened:
        yield opened
