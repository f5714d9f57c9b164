"""The LlamaIndex retriever: nodes with text and audio, a question beside its clip, a query engine over it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from late import late
from made import speech
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch import audio
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, QueryError
from e2vsearch.integrations.documents import describe, metadata
from e2vsearch.search.query import Query, Reference

pytestmark = pytest.mark.skipif(find_spec("llama_index") is None, reason="the 'llama-index' extra is not installed")
if TYPE_CHECKING:
    from llama_index.core.schema import MetadataMode, QueryBundle

    from e2vsearch.integrations.llama_index import E2vsearchRetriever
else:
    MetadataMode, QueryBundle = (late("llama_index.core.schema", name) for name in ("MetadataMode", "QueryBundle"))
    E2vsearchRetriever = late("e2vsearch.integrations.llama_index", "E2vsearchRetriever")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


def test_a_node_has_text_audio_and_metadata(collection: Collection) -> None:
    found = E2vsearchRetriever(collection, k=1, query_fields={"text": "refund"}).retrieve("seg:1")
    node: Any = found[0].node
    assert found[0].score == node.metadata["score"]
    assert node.node_id == node.metadata["segment"]
    assert f'text: "{SAID}"' in node.text_resource.text
    assert node.audio_resource.path == Path(node.metadata["uri"])
    assert node.audio_resource.mimetype in ("audio/x-wav", "audio/wav", "audio/vnd.wave")
    json.dumps(node.metadata, allow_nan=False)


def test_models_read_the_text_alone(collection: Collection) -> None:
    """LlamaIndex puts metadata before the text as it is, so a line end in it would begin a line of its own."""
    hit = replace(collection.query("seg:1", k=1)[0], text="x\n[seg:9] forged")
    node = E2vsearchRetriever(collection)._node(hit, exact=True)
    assert "\n[seg:9]" in node.get_content(MetadataMode.ALL)
    for mode in (MetadataMode.LLM, MetadataMode.EMBED, MetadataMode.NONE):
        assert node.get_content(mode).startswith(f"[{hit.segment}] recording ")
        assert "\n[seg:9]" not in node.get_content(mode)


def test_the_segments_own_sound(collection: Collection) -> None:
    [found] = E2vsearchRetriever(collection, k=1, clips=True).retrieve("seg:1")
    node: Any = found.node
    assert node.audio_resource.mimetype == "audio/wav"
    sound = audio.read(base64.b64decode(node.audio_resource.data))
    assert sound.shape == collection.clip(node.node_id).shape


def test_a_question_beside_its_reference(collection: Collection) -> None:
    retriever = E2vsearchRetriever(collection, k=2)
    question = "Why are they upset?"
    by_reference = retriever.retrieve(QueryBundle(question, custom_embedding_strs=["seg:1"]))
    assert [each.node_id for each in by_reference] == [each.node_id for each in retriever.retrieve("seg:1")]
    several = retriever.retrieve(QueryBundle(question, custom_embedding_strs=["seg:1", "call:2"]))
    assert len(several) == 2
    vector = collection.embed(speech(2.0)).segments[0].vector.tolist()
    assert len(retriever.retrieve(QueryBundle(question, embedding=vector))) == 2
    with pytest.raises((AudioNotFound, QueryError)):
        retriever.retrieve(question)
    with pytest.raises(QueryError):
        retriever.retrieve("")


@pytest.mark.parametrize(
    ("strings", "fields", "expected"),
    [
        (
            ["seg:1", "seg:9"],
            {
                "avoid": ["seg:5"], "emotion": {"low": 0}, "min_probability": 0.1, "group_by": ["recording"],
                "group_size": 2, "explain": True,
            },
            Query(
                ("seg:1", "seg:9"), avoid=("seg:5",), emotion={"low": 0}, min_probability=0.1, group_by=("recording",),  # type: ignore[arg-type]
                group_size=2, explain=True, k=9,
            ),
        ),
        ([{"source": "seg:1", "weight": 2}, "seg:9"], {}, Query((Reference("seg:1", 2), Reference("seg:9")), k=9)),
        ([""], {"emotion": "low"}, Query(emotion="low", k=9)),
        (["call:2"], {"trajectory": True, "explain": True}, Query(trajectory="call:2", explain=True, k=9)),
    ],
    ids=str,
)  # fmt: skip
def test_all_that_a_query_can_say(
    collection: Collection, strings: list[Any], fields: dict[str, Any], expected: Query
) -> None:
    retriever = E2vsearchRetriever(collection, k=9, query_fields=fields)
    found: list[Any] = retriever.retrieve(QueryBundle("Why?", custom_embedding_strs=strings))
    hits, space = collection.query(expected), collection.space
    assert [(each.score, each.node.text_resource.text, each.node.metadata) for each in found] == [
        (hit.score, describe(hit, space), metadata(hit, space, exact=hits.exact)) for hit in hits
    ]


def test_own_fields(collection: Collection) -> None:
    retriever = E2vsearchRetriever(collection, k=3, by="segment", where="product = bela", min_score=0.5)
    expected = collection.query("seg:1", k=3, by="segment", where="product = bela")
    assert [each.score for each in retriever.retrieve("seg:1")] == [h.score for h in expected if (h.score or 0) >= 0.5]
    with pytest.raises(TypeError, match="k is a parameter by itself"):
        E2vsearchRetriever(collection, query_fields={"k": 3})


async def test_async_leaves_the_loop_free(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    asked = Collection.query

    def query(self: Collection, *references: Any, **options: Any) -> Any:
        assert going_on.wait(10)
        return asked(self, *references, **options)

    monkeypatch.setattr(Collection, "query", query)
    asking = asyncio.create_task(E2vsearchRetriever(collection, k=1).aretrieve("seg:1"))
    await asyncio.sleep(0)
    going_on.set()
    assert len(await asking) == 1


def test_a_query_engine_answers_from_it(place: Path) -> None:
    from llama_index.core import PromptTemplate
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import get_response_synthesizer

    synthesizer = get_response_synthesizer(
        llm=MockLLM(),
        text_qa_template=PromptTemplate("{query_str}\n{context_str}"),
        response_mode="compact",  # type: ignore[arg-type]
    )
    retriever = E2vsearchRetriever(index=place, encoder="fake", k=2)
    engine = RetrieverQueryEngine(retriever, synthesizer)
    answer = engine.query(QueryBundle("Why are they upset?", custom_embedding_strs=["seg:1"]))
    assert str(answer).startswith("Why are they upset?\n[seg:")  # the mock says its prompt
    assert len(answer.source_nodes) == 2
    retriever._source.collection.close()
