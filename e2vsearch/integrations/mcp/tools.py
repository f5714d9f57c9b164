"""The tools that agents are given, and the sound of a moment. Knows the collection's methods, nothing of transports.

A model writes the arguments, so nothing is opened that is not in a root, every list is bounded, and what goes wrong
comes back as one line that the model can act on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent
from numpy.typing import NDArray
from pydantic import Field

from e2vsearch import audio
from e2vsearch.analysis.labels import examples, train
from e2vsearch.analysis.maps import build
from e2vsearch.catalog import recordings
from e2vsearch.catalog.filters import FIELDS, LABEL_FIELDS, RECORDING_FIELDS
from e2vsearch.collection import Collection
from e2vsearch.errors import E2vsearchError, NotStored, QueryError
from e2vsearch.integrations.documents import describe
from e2vsearch.integrations.mcp.results import (
    Call,
    Compared,
    Described,
    Labels,
    Maps,
    Similar,
    call_of,
    classifier_of,
    clip_uri,
    similar_of,
)
from e2vsearch.integrations.retriever import Asking, CollectionSource
from e2vsearch.pipeline import embed_audio, stored_audio
from e2vsearch.types import Comparison, EmbeddedAudio, QueryResult

MAX_HITS = 100
MAX_MOMENTS = 200
MAX_VALUES = 20
MAX_REFERENCES = 16
MAX_CLIP_BYTES = 10 * 1024 * 1024
MAX_CLIP_S = 300.0
"""Of a clip that comes inside a request: longer calls are better ingested, and named by their id."""

_Reference = Annotated[
    str,
    Field(
        description="'seg:14' (a stored moment), 'call:3' (a stored call), 'emotion:angry', 'label:hesitant', or the "
        "path of an audio file in the folders that the server may read. Not words to look for."
    ),
]
_Clip = Annotated[
    str,
    Field(
        description="'seg:14' (a stored moment), 'call:3' (a stored call), or the path of an audio file in the "
        "folders that the server may read."
    ),
]
_Where = Annotated[
    str,
    Field(
        description='Filter on moments and their calls, e.g. \'agent = "Kim" and date >= 2024-03-01 and channel = 1 '
        "and emotion in (angry, sad)'. Operators: = != < <= > >= in like between is null, and, or, not. "
        'list_labels says what it may name; emotion may be unsure or "too short" too. Empty: no filter.'
    ),
]


@contextmanager
def told() -> Iterator[None]:
    """What was foreseen to go wrong reaches the client as its one line; of anything else it learns that it happened.

    Raises:
        ToolError: an `E2vsearchError`, in the SDK's kind.
    """
    try:
        yield
    except E2vsearchError as error:
        raise ToolError(" ".join(str(error).split())) from error


class Tools:
    """What can be asked of one collection. Each public method but `clip` is a tool, its docstring what models read."""

    def __init__(self, source: CollectionSource) -> None:
        self._source = source

    @property
    def _collection(self) -> Collection:
        return self._source.collection

    @told()
    def find_similar(
        self,
        reference: _Reference = "",
        audio_base64: Annotated[
            str,
            Field(description=f"Instead of a reference: an audio file of at most {MAX_CLIP_S:.0f} s, in base64."),
        ] = "",
        emotion: Annotated[
            dict[str, float] | None,
            Field(
                description="Instead of a reference, or beside it: emotions and labels by weight. "
                '{"sad": 2, "angry": -0.5} is sad but not angry; weight 0: only what emotion_min is of.',
                max_length=MAX_REFERENCES,
            ),
        ] = None,
        emotion_min: Annotated[
            float | None,
            Field(ge=0, le=1, description="The least probability in a moment of each emotion whose weight is not < 0."),
        ] = None,
        but_not: Annotated[
            list[str] | None,
            Field(description="References that hits should be unlike, written as above.", max_length=MAX_REFERENCES),
        ] = None,
        arc: Annotated[
            str,
            Field(
                description="Instead of a reference: calls that run the same way from beginning to end, like 'call:3', "
                "a file, or stations: 'neutral,angry,happy'."
            ),
        ] = "",
        k: Annotated[int, Field(ge=1, le=MAX_HITS, description="How many hits.")] = 5,
        by: Annotated[
            Literal["call", "segment"], Field(description="'call': each call once, with its best moment; or 'segment'.")
        ] = "call",
        per_recording: Annotated[
            int | None, Field(ge=1, le=MAX_HITS, description="With by='segment': at most so many hits of one call.")
        ] = None,
        where: _Where = "",
        text: Annotated[str, Field(description="Words that must be said in the moment (needs transcripts).")] = "",
        exact: Annotated[bool, Field(description="Compare every moment, whatever index there is.")] = False,
        explain: Annotated[
            bool, Field(description="Say why each hit is one, and how rare such likeness is in the collection.")
        ] = False,
    ) -> Annotated[CallToolResult, Similar]:
        """Find the calls, and the moments in them, that feel most like a reference, whoever speaks.

        Each hit has its score, emotions, the call's metadata, what is said where there is a transcript, and a link to
        its sound. To refine a search, put the ids of hits that are wrong into but_not.
        """
        given = [each for each in (reference, audio_base64, arc) if each]
        if len(given) > 1 or not (given or emotion):
            raise QueryError("give a reference, audio_base64 or arc, one of them, or else an emotion")
        asked: Any = _vectors(audio_base64, self._collection) if audio_base64 else reference or arc
        asking = Asking(
            k=k,
            by=by,
            where=where or None,
            text=text or None,
            exact=exact,
            but_not=but_not or (),
            emotion=emotion,
            emotion_min=emotion_min,
            arc=bool(arc),
            per=None if per_recording is None else {"recording": per_recording},
            explain=explain,
        )
        return self._shown(self._source.ask(asked, asking))

    @told()
    def get_call(
        self,
        call: Annotated[str, Field(description="Its id, 'call:3', or that of a moment in it, 'seg:14'.")],
        skip: Annotated[int, Field(ge=0, description="Leave out so many moments at the beginning.")] = 0,
        limit: Annotated[int, Field(ge=1, le=MAX_MOMENTS, description="How many moments at most.")] = 50,
    ) -> Call:
        """Get one call: its metadata, and its moments in order of time with emotions, labels and transcript."""
        number = self._collection.segment(call).recording if call.startswith("seg:") else call
        recording = self._collection.recording(number)
        segments = self._collection.segments(number)
        return call_of(recording, segments[skip : skip + limit], len(segments))

    @told()
    def compare(self, a: _Clip, b: _Clip) -> Compared:
        """Compare how alike two calls, moments or clips feel, and say what each of them seems to feel."""
        found: Comparison = self._collection.compare_heard((a, self._heard(a)), (b, self._heard(b)))
        return Compared(found.score, found.best, found.a, found.b, found.space.encoder, found.space.projection)

    @told()
    def list_labels(self) -> Labels:
        """List what can be asked for by name: emotions, labels of one's own, classifiers, and fields for `where`."""
        collection = self._collection
        return Labels(
            emotions=list(collection.require_space().labels),
            labels=list(examples.list_labels(collection)),
            classifiers=[classifier_of(report) for report in train.classifiers(collection)],
            fields=[*FIELDS, *RECORDING_FIELDS, *LABEL_FIELDS],
            metadata=recordings.metadata_values(collection.catalog, MAX_VALUES),
        )

    @told()
    def list_maps(self) -> Maps:
        """List the maps that were made of the collection: each groups its moments, or its calls, into clusters."""
        return Maps(list(build.list_maps(self._collection)))

    @told()
    def describe_cluster(
        self,
        cluster: Annotated[int, Field(ge=0, description="Its number on the map.")],
        map: Annotated[str, Field(description="The map's name, see list_maps.")] = "map",
    ) -> Described:
        """Describe one cluster of a map.

        Its size, the emotions, labels and metadata values that are over-represented in it, its most central moments
        and its trend over time.
        """
        found = build.load(self._collection, map)
        for each in found.clusters:
            if each.number == cluster:
                return Described(found.name, found.by, found.where, found.created_at, each)
        numbers = ", ".join(str(each.number) for each in found.clusters[:MAX_VALUES]) or "none"
        raise NotStored(f"map {map!r} has no cluster {cluster} - its clusters are {numbers}")

    def clip(self, number: str) -> bytes:
        """The sound of one stored moment as WAV, by the number of its segment."""
        try:
            return audio.encode(self._collection.clip(f"seg:{number.removeprefix('seg:')}"))
        except NotStored as error:
            raise ResourceNotFoundError(str(error)) from error
        except E2vsearchError as error:
            raise ResourceError(str(error)) from error

    def _shown(self, result: QueryResult) -> CallToolResult:
        """For the model a text and links to listen to; the same as data for programs."""
        space = self._collection.require_space()
        text = "\n\n".join(describe(hit, space) for hit in result) or "Nothing found: the filters leave no moment."
        content: list[ContentBlock] = [TextContent(type="text", text=text)]
        content += [
            ResourceLink(
                type="resource_link",
                name=f"{hit.segment}.wav",
                uri=clip_uri(hit.segment),
                mime_type="audio/wav",
                description=f"The sound of {hit.segment}, {hit.end_s - hit.start_s:.1f} s",
            )
            for hit in result
        ]
        return CallToolResult(content=content, structured_content=asdict(similar_of(result, space.encoder)))

    def _heard(self, reference: str) -> EmbeddedAudio:
        """The moments of something stored, with the vectors that it has, or of a file that may be read."""
        if reference.startswith(("emotion:", "label:")):
            raise QueryError(f"{reference} is no clip - compare calls, moments or files")
        if not reference.startswith(("seg:", "call:")):
            return self._collection.hear(self._source.allowed(reference))  # type: ignore[arg-type]
        return stored_audio(self._collection.catalog, reference)


def _vectors(audio_base64: str, collection: Collection) -> NDArray[np.float32]:
    """The vectors ``(n, dim)`` of a clip that came inside a request, which is decoded no further than allowed."""
    encoded = audio_base64.rpartition(",")[2]  # models write data: URIs as well
    if len(encoded) > MAX_CLIP_BYTES * 4 // 3 + 4:
        raise QueryError(f"audio_base64 holds more than {MAX_CLIP_BYTES // 2**20} MiB - send a shorter clip")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise QueryError("audio_base64 is no base64 - encode the bytes of an audio file") from error
    heard = embed_audio(data, collection.encoder(), collection.speech, longest_s=MAX_CLIP_S)
    if not heard.segments:
        raise QueryError("no speech found in audio_base64 - send a clip in which somebody speaks")
    return np.stack([moment.vector for moment in heard.segments])
