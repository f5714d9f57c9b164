"""The LangChain retriever: LangChain's own suite, and what ours adds to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import speech, wav_bytes
from small_collection import SAID, make_collection

pytest.importorskip("langchain_core", reason="the 'langchain' extra is not installed")
tests_of_langchain = pytest.importorskip("langchain_tests.integration_tests", reason="langchain-tests is not installed")

import e2vsearch  # noqa: E402
from e2vsearch.collection import Collection  # noqa: E402
from e2vsearch.errors import AudioNotFound, BadFilter, QueryError  # noqa: E402
from e2vsearch.integrations.documents import describe, metadata  # noqa: E402
from e2vsearch.integrations.langchain import E2vsearchRetriever  # noqa: E402
from e2vsearch.search.query import Query, Reference  # noqa: E402
from e2vsearch.search.result import QueryResult  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("langchain"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


class TestStandard(tests_of_langchain.RetrieversIntegrationTests):  # type: ignore[misc, name-defined]
    """What LangChain asks of every retriever."""

    @pytest.fixture(autouse=True)
    def _opened(self, collection: Collection) -> None:
        self.collection = collection

    @property
    def retriever_constructor(self) -> type[E2vsearchRetriever]:
        return E2vsearchRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"collection": self.collection, "by": "segment"}

    @property
    def retriever_query_example(self) -> str:
        return str(self.collection.recordings("call:1")[0].uri)


def test_emotions_and_labels_are_queries(tmp_path: Path) -> None:

    with e2vsearch.open(make_collection(tmp_path), encoder="fake") as collection:
        collection.labels.add("hesitant", "seg:12")
        retriever = E2vsearchRetriever(collection=collection, k=4)
        assert len(retriever.invoke("emotion:low")) == 4
        with pytest.raises(AudioNotFound, match="did you mean emotion:low"):
            retriever.invoke("low")
        assert retriever.invoke("label:hesitant")[0].metadata["name"] == "dora"
        [labelled] = retriever.invoke("seg:1", where="label = hesitant")
        assert 'label: "hesitant" 1.00' in labelled.page_content


def test_a_document_is_a_segment(collection: Collection) -> None:
    found = E2vsearchRetriever(collection=collection, k=2, query_fields={"text": "refund"}).invoke("seg:1")
    assert [document.metadata["name"] for document in found] == ["bela"]
    document = found[0]
    assert document.id == document.metadata["segment"]
    assert f'text: "{SAID}"' in document.page_content
    assert document.page_content.startswith(f"[{document.id}] recording ")
    assert document.metadata["metadata"] == {"product": "bela", "queue": "billing", "wait": "5"}
    assert document.metadata["encoder"] == "fake"
    assert document.metadata["exact"] is True
    json.dumps(document.metadata, allow_nan=False)


def test_options_hold_and_can_be_set_anew(collection: Collection) -> None:
    retriever = E2vsearchRetriever(collection=collection, k=3, where="product != anna")
    assert len(retriever.invoke("seg:1")) == 3
    assert len(retriever.invoke("seg:1", k=1)) == 1
    assert [each.metadata["name"] for each in retriever.invoke("seg:1", where="product = dora")] == ["dora"]
    assert {each.metadata["name"] for each in retriever.invoke("seg:4", by="segment", k=9)} == {"bela", "cora", "dora"}
    assert len(retriever.invoke("seg:1", text=None, where=None)) == 3
    retriever.k = 2
    assert len(retriever.invoke("seg:1")) == 2
    with pytest.raises(TypeError, match="kk"):
        retriever.invoke("seg:1", kk=1)
    with pytest.raises(BadFilter):
        retriever.invoke("seg:1", where="prodcut = dora")


def documents_of(found: QueryResult, collection: Collection) -> list[tuple[str, str, dict[str, Any]]]:
    space = collection.space
    return [(hit.segment, describe(hit, space), metadata(hit, space, exact=found.exact)) for hit in found]


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        (
            [Reference("seg:1", 2), "seg:9"],
            {
                "avoid": [{"source": "seg:5", "weight": 0.3}], "group_by": ["recording"], "explain": True,
                "emotion": {"low": 0}, "min_probability": 0.1,
            },
            Query(
                (Reference("seg:1", 2), Reference("seg:9", None)), avoid=(Reference("seg:5", 0.3),),
                group_by=("recording",), explain=True, emotion={"low": 0}, min_probability=0.1, k=9, by="segment",
            ),
        ),
        ("", {"emotion": "low", "explain": True}, Query(emotion="low", explain=True, k=9, by="segment")),
        ("call:2", {"trajectory": True, "by": "recording"}, Query(trajectory="call:2", k=9)),
        ("seg:1", {}, Query(("seg:1",), k=9, by="segment")),  # type: ignore[arg-type]
    ],
    ids=str,
)  # fmt: skip
def test_all_that_a_query_can_say(collection: Collection, given: Any, fields: dict[str, Any], expected: Query) -> None:
    """Set on the retriever or for one call, it is what `Collection.query` returns."""
    documents = documents_of(collection.query(expected), collection)
    own: dict[str, Any] = {"collection": collection, "k": 9, "by": "segment"}
    lasting = E2vsearchRetriever(**own | {"by": fields.get("by", "segment")}, query_fields=fields_without_by(fields))
    for found in (lasting.invoke(given), E2vsearchRetriever(**own).invoke(given, **fields)):
        assert [(each.id, each.page_content, each.metadata) for each in found] == documents
    json.dumps([each[2] for each in documents], allow_nan=False)


def fields_without_by(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "by"}


def test_a_least_score(collection: Collection) -> None:
    retriever = E2vsearchRetriever(collection=collection, min_score=2.0)
    assert retriever.invoke("seg:1") == []
    assert len(retriever.invoke("seg:1", min_score=-1.0)) == 4


@pytest.mark.parametrize("wrong", [{"kk": 1}, {"k": 3}, {"trajectory": "call:1"}])
def test_fields_that_make_no_query_are_refused_early(collection: Collection, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        E2vsearchRetriever(collection=collection, query_fields=wrong)


def test_every_kind_of_query_passes_through(collection: Collection) -> None:
    clip = speech(2.0, seed=5, pitch_hz=150.0)
    retriever = E2vsearchRetriever(collection=collection, k=4)
    expected = [each.id for each in retriever.invoke(clip)]  # type: ignore[arg-type]
    vector = collection.embed(clip).segments[0].vector
    for query in (wav_bytes(clip, subtype="FLOAT"), vector, vector.tolist(), vector[None], [clip], [clip, vector]):
        assert [each.id for each in retriever.invoke(query)] == expected  # type: ignore[arg-type]
    uri = Path(collection.recordings("call:2")[0].uri).as_uri()
    assert retriever.invoke(uri)[0].metadata["name"] == "bela"


@pytest.mark.parametrize("query", ["which callers are angry?", "gone.wav", "/nowhere/gone.wav"])
def test_a_missing_path_is_an_error_that_says_so(collection: Collection, query: str) -> None:
    with pytest.raises((AudioNotFound, QueryError)) as told:
        E2vsearchRetriever(collection=collection).invoke(query)
    assert query in str(told.value)


def test_it_opens_its_index_once_and_late(place: Path) -> None:
    retriever = E2vsearchRetriever(index=place, k=1)
    assert retriever.collection is None
    assert len(retriever.invoke("seg:1")) == 1
    source = retriever._source
    opened = source.collection
    assert retriever.batch(["seg:1", "seg:2"])[1]
    assert source.collection is opened
    opened.close()


async def test_async_leaves_the_loop_free(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query waits for something that only the loop can do while it runs."""
    going_on = threading.Event()
    asked = Collection.query

    def query(self: Collection, *references: Any, **options: Any) -> Any:
        assert going_on.wait(10)
        return asked(self, *references, **options)

    monkeypatch.setattr(Collection, "query", query)
    retriever = E2vsearchRetriever(collection=collection, k=2)
    asking = asyncio.create_task(retriever.ainvoke("seg:1", k=1))
    await asyncio.sleep(0)
    going_on.set()
    assert len(await asking) == 1
    assert len(await asyncio.gather(*(retriever.ainvoke(f"seg:{n}") for n in (1, 2, 3)))) == 3


def test_it_is_a_link_of_a_chain(collection: Collection) -> None:
    from langchain_core.runnables import RunnableLambda

    chain = E2vsearchRetriever(collection=collection, k=2) | RunnableLambda(  # type: ignore[var-annotated]
        lambda found: [each.metadata["recording"] for each in found]  # type: ignore[arg-type, misc]
    )
    assert len(chain.invoke("call:1")) == 2
    assert "call:1" not in chain.invoke("call:1")


def test_named_vectors_count(tmp_path: Path) -> None:
    with e2vsearch.open(make_collection(tmp_path), encoder="fake") as collection:
        last = collection.segments("call:4")[-1].id
        collection.named_vectors.attach("topic", [last], np.ones((1, 2), np.float32))
        retriever = E2vsearchRetriever(
            collection=collection, query_fields={"named_vectors": {"topic": (50.0, np.ones(2, np.float32))}}
        )
        assert retriever.invoke("seg:1", k=1)[0].id == last
