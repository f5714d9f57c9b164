"""`docs/explanation/architecture.md` is true: its tree names what there is, traced runs take the hops of its walks."""

from __future__ import annotations

import importlib
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from small_collection import make_collection

import e2vsearch

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "e2vsearch"
DOCUMENT = (REPOSITORY / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
HOP = r"`((?!module:)[a-z_0-9.]+:[A-Za-z_0-9.]+)`"
TRUNK = [
    "collection:Collection.query",
    "search.execute:execute",
    "search.resolve:resolve",
    "search.rank:rank_recordings",
    "search.execute:fetch_hits",
]
MOST_FILES = 20
"""Files of the package that a query of a stored id may pass, once it was made before; there were 28."""


def blocks() -> list[str]:
    return re.findall(r"^```text\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def walk(title: str) -> list[str]:
    """The hops of one walk, in order: what stands first in the lines of its list."""
    [section] = re.findall(rf"^### {title}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^ *(?:-|\d\.) {HOP}", section, re.MULTILINE)


def traced(call: Callable[[], object]) -> list[str]:
    """Every function of the package that a call enters, as ``module:function``, in all threads, in order."""
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{PACKAGE}/"):
            parts = Path(path).relative_to(PACKAGE).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            entered.append(f"{module}:{frame.f_code.co_qualname}")

    before = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    return entered


def not_taken(hops: list[str], entered: list[str]) -> list[str]:
    """The hops from the first one on that is not first entered after the one before it; none where all are."""
    firsts: Iterator[str] = iter(dict.fromkeys(entered))
    return next((hops[at:] for at, hop in enumerate(hops) if hop not in firsts), [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walks")
    make_collection(folder)
    with e2vsearch.open(folder / "light", encoder="light", create=True) as collection:
        collection.ingest(folder / "calls")
    return folder


def test_the_tree_names_every_room_once() -> None:
    tree, named = blocks()[0].splitlines(), []
    above: list[str] = []
    for line in tree[1:]:
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        above = [*above[: depth - 1], name.rstrip("/")]
        named.append("/".join(above))
        assert len(line.split()) > 2, f"{name} stands there without a word on it"
    packages = [path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    exist = [path.relative_to(PACKAGE).as_posix() for path in (*packages, *PACKAGE.glob("*.py"))]
    assert sorted(named) == sorted(exist)


def test_the_order_of_rooms_is_the_contract() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    assert blocks()[1].splitlines() == [layer.replace("e2vsearch.", "") for layer in layers]


def test_every_hop_exists() -> None:
    hops = re.findall(HOP, DOCUMENT)
    assert len(hops) > 60
    for hop in hops:
        module, _, names = hop.partition(":")
        found = importlib.import_module(f"e2vsearch.{module}")
        for name in names.split("."):
            found = getattr(found, name)


def test_the_contexts_hold_what_is_written() -> None:
    rows = re.findall(rf"^\| {HOP} \| (.*?) \|", DOCUMENT, re.MULTILINE)
    assert len(rows) == 3
    for context, holds in rows:
        module, _, name = context.partition(":")
        fields = getattr(importlib.import_module(f"e2vsearch.{module}"), name).__dataclass_fields__
        assert set(re.findall(r"`(\w+)`", holds)) == set(fields)


@pytest.mark.parametrize("has_index", [False, True])
@pytest.mark.parametrize("place", ["index", "light"])
def test_a_query_of_a_stored_id_goes_down_a_trunk_of_five_hops(folder: Path, place: str, has_index: bool) -> None:
    with e2vsearch.open(folder / place) as collection:
        if has_index:
            collection.index.build()
        collection.query("seg:1")
        entered = traced(lambda: collection.query("seg:1"))
    numbered = re.findall(rf"^\d\. {HOP}", DOCUMENT.partition("### A query of a clip")[0], re.MULTILINE)
    assert numbered == TRUNK
    assert not_taken(TRUNK, entered) == []
    assert not_taken(walk("A query of a stored id"), entered) == []
    above = [each for each in entered if each.startswith("collection:")]
    assert above == [TRUNK[0]]  # called once, from outside; nothing below calls it
    files = sorted({each.partition(":")[0] for each in entered})
    assert len(files) <= MOST_FILES, files


def test_a_query_of_a_clip_takes_its_walk(folder: Path) -> None:
    clip = folder / "calls" / "cora.wav"
    with e2vsearch.open(folder / "index") as collection:
        collection.query(clip)
        entered = traced(lambda: collection.query(clip))
    assert not_taken(walk("A query of a clip"), entered) == []


def test_ingesting_a_folder_takes_its_walk(folder: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        entered = traced(lambda: collection.ingest(folder / "calls", workers=1))
    assert not_taken(walk("Ingesting a folder"), entered) == []
