"""Asking on behalf of a framework: opened once and late, references as they come, paths confined where they must be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, speech, wav_bytes
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch.catalog import labels
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, NoCollection, PathForbidden, QueryError, SettingsError
from e2vsearch.integrations.retriever import Asking, CollectionSource, references
from e2vsearch.search.result import QueryResult


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("asking"))


def test_a_source_opens_late_and_once(place: Path) -> None:
    CollectionSource(index=place / "nothing here")  # not opened yet
    source = CollectionSource(index=place, encoder="fake")
    with ThreadPoolExecutor(4) as pool:
        opened = set(pool.map(lambda _: id(source.collection), range(8)))
    assert len(opened) == 1
    source.collection.close()


def test_a_misspelt_index_makes_nothing(place: Path) -> None:
    with pytest.raises(NoCollection):
        CollectionSource(index=place.parent / "indx").ask("seg:1", Asking())
    assert not (place.parent / "indx").exists()


def test_a_collection_and_an_index_are_one_too_many(place: Path) -> None:
    with e2vsearch.open(place, create=True) as collection, pytest.raises(SettingsError, match="not both"):
        CollectionSource(collection, place)


def test_every_option_reaches_the_query(place: Path) -> None:
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        source = CollectionSource(collection)
        everything = source.ask("seg:1", Asking())
        assert len(everything) == 4
        assert len(source.ask("seg:1", Asking(k=2))) == 2
        assert len(source.ask("seg:1", Asking(by="segment"))) == 10
        assert {hit.name for hit in source.ask("seg:1", Asking(where="agent in (bela, cora)"))} == {"bela", "cora"}
        said = source.ask("seg:1", Asking(text="refund"))
        assert [(hit.name, hit.text) for hit in said] == [("bela", SAID)]
        assert source.ask("seg:1", Asking(exact=True)).exact
        middle = everything[1].score
        assert len(source.ask("seg:1", Asking(min_score=middle))) == 2


def test_fused_vectors_reach_the_query(place: Path, tmp_path: Path) -> None:
    with e2vsearch.open(make_collection(tmp_path), encoder="fake", create=True) as collection:
        chosen = collection.segments("call:4")[0].id
        ids = [segment.id for call in range(1, 5) for segment in collection.segments(f"call:{call}")]
        collection.named_vectors.attach(
            "topic", ids, np.array([[each == chosen, each != chosen] for each in ids], np.float32)
        )
        fuse = {"topic": (100.0, np.array([1.0, 0.0], np.float32))}
        assert CollectionSource(collection).ask("seg:1", Asking(k=1, fuse=fuse))[0].segment == chosen


def told(result: QueryResult) -> list[tuple[str, float]]:
    return [(hit.segment, hit.score) for hit in result]


@pytest.fixture(scope="module")
def tired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """The same with a label of one's own."""
    place = make_collection(tmp_path_factory.mktemp("tired"))
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        labels.add_examples(collection.catalog, "tired", [labels.NewExample("seg:9", segment=9)])
        yield collection


MIXED: Any = {"low": 1, "tired": -0.5}


@pytest.mark.parametrize(
    ("query", "asking", "expected"),
    [
        (["seg:1", "seg:5"], Asking(weights=[2, 1]), {"references": [("seg:1", 2.0), ("seg:5", 1.0)]}),
        ([("seg:1", 2.0), "seg:5"], Asking(), {"references": [("seg:1", 2.0), "seg:5"]}),
        (("seg:1", 2.0), Asking(), {"references": [("seg:1", 2.0)]}),
        ("seg:1", Asking(but_not="seg:5"), {"references": ["seg:1"], "but_not": ["seg:5"]}),
        ("seg:1", Asking(but_not=["seg:5", "seg:9"]), {"references": ["seg:1"], "but_not": ["seg:5", "seg:9"]}),
        ("seg:1", Asking(but_not={"seg:5": 0.2}), {"references": ["seg:1"], "but_not": [("seg:5", 0.2)]}),
        ("", Asking(emotion=MIXED), {"emotion": MIXED}),
        ([""], Asking(emotion="low", emotion_min=0.6), {"emotion": "low", "emotion_min": 0.6}),
        (None, Asking(emotion="tired"), {"emotion": "tired"}),
        ("seg:1", Asking(emotion=MIXED), {"references": ["seg:1"], "emotion": MIXED}),
        ("seg:1", Asking(per={"recording": 2}, by="segment"), {"references": ["seg:1"], "per": {"recording": 2}}),
        ("call:2", Asking(arc=True), {"arc": "call:2"}),
        ("emotion:low, tired", Asking(arc=True), {"arc": "emotion:low, tired"}),
        (["low", "label:tired"], Asking(arc=True), {"arc": ["low", "label:tired"]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("roots", [None, ()])
def test_all_that_a_query_can_say(
    tired: Collection, query: Any, asking: Asking, expected: dict[str, Any], roots: Any
) -> None:
    """Confined or not, it is what `Collection.query` makes of it."""
    found = CollectionSource(tired, roots=roots).ask(query, asking)
    options = dict(expected)
    meant = tired.query(*options.pop("references", ()), k=asking.k, by=asking.by, **options)
    assert told(found) == told(meant)
    assert len(found) > 1


def test_reasons_come_along_under_the_names_that_were_given(tired: Collection, place: Path) -> None:
    calls = place.parent / "calls"
    for roots, named in ((None, str(calls / "anna.wav")), ([calls], "anna.wav")):
        source = CollectionSource(tired, roots=roots)
        found = source.ask([named], Asking(but_not=[named], explain=True, k=1))
        why = found[0].why
        assert why is not None
        assert found[0].percentile is not None
        assert [found.reference, found.but_not] == [(named,), (named,)]
        assert {match.reference for match in why.matches} == {each.reference for each in why.avoided} == {named}
        course = source.ask(named, Asking(arc=True, k=1))[0].alignment
        assert {match.reference for match in course} == {named}
    assert CollectionSource(tired).ask("seg:1", Asking())[0].why is None


@pytest.mark.parametrize(
    ("query", "asking", "says"),
    [
        ("seg:1", Asking(weights=[1, 2]), "a weight for each reference: 1, not 2"),
        ("", Asking(), "empty query"),
        (None, Asking(), "empty query"),
        ("", Asking(emotion={"low": -1}), "only taken off"),
        ("seg:1", Asking(but_not=[" "]), "empty query"),
        ("low", Asking(arc=True), "single moment"),
        ("seg:1", Asking(arc=True, emotion="low"), "without emotion"),
        ("seg:1", Asking(per={"agnet": 1}), "did you mean agent"),
    ],
    ids=str,
)
@pytest.mark.parametrize("roots", [None, ()])
def test_what_makes_no_sense(tired: Collection, query: Any, asking: Asking, says: str, roots: Any) -> None:
    with pytest.raises(QueryError, match=says):
        CollectionSource(tired, roots=roots).ask(query, asking)


def test_nothing_leads_out_of_the_roots(tired: Collection, place: Path, tmp_path: Path) -> None:
    """Whatever it comes as: a weighed one, one that is unwanted, a station of a course."""
    calls = place.parent / "calls"
    outside = str(save(tmp_path / "outside.wav", speech(2.0)))
    confined = CollectionSource(tired, roots=[calls])
    for query, asking in (
        ([(outside, 2.0), "seg:1"], Asking()),
        ([(outside, 2.0)], Asking()),
        ((outside, 2.0), Asking()),
        ("seg:1", Asking(but_not=[outside])),
        ("seg:1", Asking(but_not=outside)),
        ("seg:1", Asking(but_not={outside: 1})),
        ("seg:1", Asking(but_not=[(outside, 1)])),
        (outside, Asking(arc=True)),
        (f"low,{outside}", Asking(arc=True)),
        (f"emotion:low,{outside}", Asking(arc=True)),
        (f"label:tired, {outside}", Asking(arc=True)),
        (["low", outside], Asking(arc=True)),
    ):
        with pytest.raises(PathForbidden):
            confined.ask(query, asking)
    (calls / "low,high.wav").write_bytes((calls / "bela.wav").read_bytes())
    by_name = confined.ask("low,high.wav", Asking(arc=True, k=1))
    assert (by_name.reference, by_name[0].name) == (("low,high.wav",), "bela")


def test_changes_leave_what_they_do_not_name() -> None:
    asking = Asking(k=3, where="channel = 1")
    assert asking.but(k=5, where=None) == Asking(k=5, where="channel = 1")
    with pytest.raises(TypeError):
        asking.but(kk=5)


def test_references() -> None:
    array = np.zeros(16_000, np.float32)
    assert references("a.wav") == ("a.wav",)
    assert references(["a.wav", "seg:1"]) == ("a.wav", "seg:1")
    assert references(b"RIFF") == (b"RIFF",)
    assert references([0.1, 0.2]) == ([0.1, 0.2],)
    assert references([[0.1], [0.2]]) == ([[0.1], [0.2]],)
    assert references(array)[0] is array
    assert len(references([array, array])) == 2


def test_several_references_count_as_one(place: Path) -> None:
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        found = CollectionSource(collection).ask(["seg:1", wav_bytes(speech(2.0, pitch_hz=190.0))], Asking())
        assert len(found.reference) == 2


@pytest.mark.parametrize("query", ["how are angry customers treated?", "no such.wav", ""])
def test_words_are_never_looked_for(place: Path, query: str) -> None:
    with (
        e2vsearch.open(place, encoder="fake", create=True) as collection,
        pytest.raises((AudioNotFound, QueryError)) as told,
    ):
        CollectionSource(collection).ask(query, Asking())
    assert "\n" not in str(told.value)


def test_paths_are_confined_to_roots(place: Path, tmp_path: Path) -> None:
    calls = place.parent / "calls"
    outside = tmp_path / "outside.wav"
    outside.write_bytes((calls / "anna.wav").read_bytes())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.wav").symlink_to(outside)
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        assert CollectionSource(collection).ask(str(outside), Asking(k=1))[0].name == "anna"
        confined = CollectionSource(collection, roots=[calls, tmp_path / "inside"])
        for allowed in ("anna.wav", str(calls / "anna.wav"), (calls / "anna.wav").as_uri(), calls / "anna.wav"):
            assert confined.ask(allowed, Asking(k=1))[0].name == "anna"
        for forbidden in (str(outside), "../outside.wav", "link.wav", "/etc/hostname", outside, "nothing.wav"):
            with pytest.raises(PathForbidden):
                confined.ask(forbidden, Asking())
        for stored in ("seg:1", "call:2"):
            assert len(confined.ask(stored, Asking(k=2))) == 2
        with pytest.raises(PathForbidden, match="without --root"):
            CollectionSource(collection, roots=[]).ask(str(calls / "anna.wav"), Asking())
        assert len(CollectionSource(collection, roots=[]).ask(wav_bytes(speech(2.0)), Asking(k=2))) == 2


WITHOUT = """
import importlib, sys
from e2vsearch.errors import MissingExtra
for name in ("langchain_core", "llama_index", "haystack", "mcp"):
    sys.modules[name] = None  # as if it were not installed
import e2vsearch.integrations.retriever, e2vsearch.integrations.documents
for room in ("langchain", "llama_index", "haystack", "mcp"):
    try:
        importlib.import_module(f"e2vsearch.integrations.{room}")
    except MissingExtra as error:
        print(error)
from e2vsearch.cli import main
sys.argv = ["e2vsearch", "mcp"]
main()
"""


def test_a_missing_package_is_named_with_its_extra() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "the LangChain retriever needs the 'langchain' extra: pip install 'e2vsearch[langchain]'",
        "the LlamaIndex retriever needs the 'llama-index' extra: pip install 'e2vsearch[llama-index]'",
        "the Haystack retriever needs the 'haystack' extra: pip install 'e2vsearch[haystack]'",
        "the MCP server needs the 'mcp' extra: pip install 'e2vsearch[mcp]'",
    ]
    assert (done.returncode, done.stderr) == (1, f"e2vsearch: {done.stdout.splitlines()[3]}\n")


def test_a_query_loads_no_framework() -> None:
    code = "import sys, e2vsearch.integrations.retriever, e2vsearch.integrations.documents; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"langchain_core", "llama_index", "haystack", "mcp", "pydantic", "faiss"}
