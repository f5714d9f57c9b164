"""The tools that agents are given, and the sound of a segment.

A model writes the arguments, so nothing is opened that is not in a root, every list is bounded, and an error reaches
the client as one line that the model can act on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from typing import Annotated

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent
from pydantic import Field

from e2vsearch import audio
from e2vsearch.catalog import recordings
from e2vsearch.catalog.filters import FIELDS, LABEL_FIELDS, RECORDING_FIELDS
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import E2vsearchError, NotStored, QueryError
from e2vsearch.integrations.documents import json_values
from e2vsearch.integrations.mcp.results import (
    Classifier,
    ClusterOfMap,
    ComparedRecordings,
    Labels,
    Maps,
    RecordingSegments,
    Similar,
    clip_uri,
)
from e2vsearch.integrations.retriever import Retriever, template
from e2vsearch.pipeline import embed_audio
from e2vsearch.search.result import QueryResult
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import By, EmbeddedAudio

MAX_HITS = 100
MAX_SEGMENTS = 200
MAX_VALUES = 20
MAX_REFERENCES = 16
MAX_CLIP_BYTES = 10 * 1024 * 1024
MAX_CLIP_S = 300.0
"""Of a clip that comes inside a request: longer recordings are better ingested, and named by their id."""

_Reference = Annotated[
    str,
    Field(
        description="'seg:14' (a stored segment), 'call:3' (a stored recording), 'emotion:angry', 'label:hesitant', or "
        "the path of an audio file in the folders that the server may read. Not words to look for."
    ),
]
_Clip = Annotated[
    str,
    Field(
        description="'seg:14' (a stored segment), 'call:3' (a stored recording), or the path of an audio file in the "
        "folders that the server may read."
    ),
]
_Where = Annotated[
    str,
    Field(
        description="Filter on segments and their recordings, e.g. 'queue = billing and date >= 2024-03-01 and "
        "channel = 1 and emotion in (angry, sad)'. Operators: = != < <= > >= in like between is null, and, or, not. "
        'list_labels says what it may name; emotion may be unsure or "too short" too. Empty: no filter.'
    ),
]


@contextmanager
def tool_errors() -> Iterator[None]:
    """Turn an expected error into one line for the client; of any other it learns only that there was one.

    Raises:
        ToolError: an `E2vsearchError`, in the SDK's kind.
    """
    try:
        yield
    except E2vsearchError as error:
        raise ToolError(" ".join(str(error).split())) from error


class Tools:
    """The tools of one collection: each public method but `clip` is one, its docstring what models read."""

    def __init__(self, source: Retriever) -> None:
        self._source = source
        source.actor = "mcp"

    @property
    def _collection(self) -> Collection:
        return self._source.collection

    @tool_errors()
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
                '{"sad": 2, "angry": -0.5} is sad but not angry; weight 0: only what min_probability is of.',
                max_length=MAX_REFERENCES,
            ),
        ] = None,
        min_probability: Annotated[
            float | None,
            Field(ge=0, le=1, description="The least probability in a segment of each emotion of weight 0 or more."),
        ] = None,
        avoid: Annotated[
            list[str] | None,
            Field(description="References that hits should be unlike, written as above.", max_length=MAX_REFERENCES),
        ] = None,
        trajectory: Annotated[
            str,
            Field(
                description="Instead of a reference: find recordings whose emotion changes over time in the same way "
                "as in 'call:3' or a file, or through stages: 'neutral,angry,happy'."
            ),
        ] = "",
        k: Annotated[int, Field(ge=1, le=MAX_HITS, description="How many hits.")] = 5,
        by: Annotated[
            By, Field(description="'recording': each recording once, with its best segment; or 'segment'.")
        ] = "recording",
        group_by: Annotated[
            list[str] | None,
            Field(
                description="'recording', 'day' or metadata keys: at most group_size hits share one value of each.",
                max_length=MAX_REFERENCES,
            ),
        ] = None,
        group_size: Annotated[
            Annotated[int, Field(ge=1, le=MAX_HITS)] | list[Annotated[int, Field(ge=1, le=MAX_HITS)]],
            Field(description="See group_by: one number, or one for each of its values."),
        ] = 1,
        named_vectors: Annotated[
            dict[str, float] | None,
            Field(
                description="Weights of other models' vectors in the score, by name; 'emotion' is the collection's "
                "own, 1 by default.",
                max_length=MAX_REFERENCES,
            ),
        ] = None,
        where: _Where = "",
        text: Annotated[str, Field(description="Words that must be in the transcript of the segment.")] = "",
        exact: Annotated[bool, Field(description="Compare every segment, whatever index there is.")] = False,
        include_self: Annotated[
            bool, Field(description="Keep stored segments that are themselves the reference.")
        ] = False,
        explain: Annotated[bool, Field(description="Say why each hit is one.")] = False,
    ) -> Annotated[CallToolResult, Similar]:
        """Find the recordings, and the segments in them, that feel most like a reference, whoever speaks.

        Without a reference: list what meets where and text, the newest recordings first, without scores.
        Each hit has its score, emotions, the recording's metadata, the transcript where there is one, and a link to its
        sound. To refine a search, put the ids of hits that are wrong into avoid.
        """
        given = [each for each in (reference, audio_base64, trajectory) if each]
        if len(given) > 1 or not (given or emotion or where or text):
            raise QueryError(
                "give a reference, audio_base64 or trajectory, one of them, or else an emotion, or where or text alone"
            )
        query = template(
            {
                "k": k,
                "by": by,
                "where": where or None,
                "text": text or None,
                "avoid": avoid,
                "emotion": emotion,
                "min_probability": min_probability,
                "trajectory": bool(trajectory),
                "group_by": group_by,
                "group_size": group_size,
                "named_vectors": named_vectors,
                "include_self": include_self,
                "exact": exact,
                "explain": explain,
            }
        )
        clip = _decoded(audio_base64) if audio_base64 else None
        return _content(self._source.query(clip or reference or trajectory, query, embed=_embed), self._source)

    @tool_errors()
    def get_recording(
        self,
        recording: Annotated[str, Field(description="Its id, 'call:3', or that of a segment in it, 'seg:14'.")],
        skip: Annotated[int, Field(ge=0, description="Leave out so many segments at the beginning.")] = 0,
        limit: Annotated[int, Field(ge=1, le=MAX_SEGMENTS, description="How many segments at most.")] = 50,
    ) -> RecordingSegments:
        """Get one recording: its metadata, and its segments in order of time with emotions, labels and transcript."""
        if recording.startswith("seg:"):
            recording = self._collection.segments(recording)[0].recording
        [found] = self._collection.recordings(recording)
        segments = self._collection.segments(recording)
        return RecordingSegments(found, list(segments[skip : skip + limit]), len(segments))

    @tool_errors()
    def compare(self, a: _Clip, b: _Clip) -> ComparedRecordings:
        """Compare how alike two recordings, segments or clips feel, with the likeliest emotion of each."""
        for given in (a, b):
            if given.startswith(("emotion:", "label:")):
                raise QueryError(f"{given} is no clip - compare recordings, segments or files")
        found = self._source.compare(a, b)
        return ComparedRecordings(
            found.score, found.best, found.a, found.b, found.space.encoder, found.space.projection
        )

    @tool_errors()
    def list_labels(self) -> Labels:
        """List the names of emotions, labels of one's own and classifiers, and the fields that `where` may name."""
        collection = self._collection
        return Labels(
            emotions=list(collection.catalog.require_space().labels),
            labels=list(collection.labels.list()),
            classifiers=[Classifier.of(report) for report in collection.labels.classifiers()],
            fields=[*FIELDS, *RECORDING_FIELDS, *LABEL_FIELDS],
            metadata=recordings.metadata_values(collection.catalog, MAX_VALUES),
            left_out=recordings.left_out(collection.catalog),
        )

    @tool_errors()
    def list_maps(self) -> Maps:
        """List the maps that were made of the collection: each groups its segments, or recordings, into clusters."""
        return Maps(list(self._collection.maps.list()))

    @tool_errors()
    def describe_cluster(
        self,
        cluster: Annotated[int, Field(ge=0, description="Its number on the map.")],
        map: Annotated[str, Field(description="The map's name, see list_maps.")] = "map",
    ) -> ClusterOfMap:
        """Describe one cluster of a map.

        Its size, the emotions, labels and metadata values that are over-represented in it, its most central segments
        and its trend over time.
        """
        found = self._collection.maps.load(map)
        for each in found.clusters:
            if each.number == cluster:
                return ClusterOfMap(found.name, found.by, found.where, found.created_at, each)
        numbers = ", ".join(str(each.number) for each in found.clusters[:MAX_VALUES]) or "none"
        raise NotStored(f"map {map!r} has no cluster {cluster} - its clusters are {numbers}")

    def clip(self, number: str) -> bytes:
        """Return the sound of one stored segment as WAV, by its number."""
        try:
            return audio.encode(self._source.clip(f"seg:{number.removeprefix('seg:')}"))
        except NotStored as error:
            raise ResourceNotFoundError(str(error)) from error
        except E2vsearchError as error:
            raise ResourceError(str(error)) from error


def _content(result: QueryResult, source: Retriever) -> CallToolResult:
    """Return a text for the model and links to sounds; the same as data for programs."""
    space = source.collection.catalog.require_space()
    nothing = f"Nothing found: {result.hint or 'the filters leave no segment'}."
    text = "\n\n".join(source.text_of(hit) for hit in result) or nothing
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
    return CallToolResult(content=content, structured_content=json_values(asdict(Similar.of(result, space.encoder))))


def _decoded(audio_base64: str) -> bytes:
    encoded = audio_base64.rpartition(",")[2]  # models write data: URIs as well
    if len(encoded) > MAX_CLIP_BYTES * 4 // 3 + 4:
        raise QueryError(f"audio_base64 holds more than {MAX_CLIP_BYTES // 2**20} MiB - send a shorter clip")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise QueryError("audio_base64 is no base64 - encode the bytes of an audio file") from error


def _embed(source: audio.AudioSource, encoder: Callable[[], Encoder], speech: SpeechOptions) -> EmbeddedAudio:
    """Embed a clip; one that came inside a request is decoded no further than `MAX_CLIP_S`."""
    longest_s = MAX_CLIP_S if isinstance(source, bytes) else inf
    return embed_audio(source, encoder(), speech, longest_s=longest_s)
