"""The bodies of requests, with their bounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator

from e2vsearch.search import query as search
from e2vsearch.search.query import AudioQuery, Reference
from e2vsearch.server.parameters import MAX_WHERE, NAMED, SegmentId
from e2vsearch.types import By, Consistency

MAX_K = 1000
Named = Annotated[str, Field(min_length=1, max_length=1024, pattern=NAMED)]
"""``seg:14``, ``call:2``, ``emotion:angry``, ``label:hesitant``, or a file's path in one of the roots."""

Vector = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]],
    # an error for each of forty vectors' numbers would take a second to write down
    Field(min_length=1, max_length=4096, fail_fast=True),
]
"""A vector of the collection's space."""

Where = Annotated[str, Field(min_length=1, max_length=MAX_WHERE)]
"""A filter, as ``--where`` takes it."""

Text = Annotated[str, Field(min_length=1, max_length=500)]
"""Words of the transcript."""

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=NAMED)]
"""A label or classifier."""

Weight = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
EmotionWeight = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
GroupSize = Annotated[int, Field(ge=1, le=MAX_K)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _shown(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class QueryOptions(BaseModel):
    """What every query has, whatever its reference."""

    k: int = Field(20, ge=1, le=MAX_K, description="How many hits.")
    by: By = Field("recording", description="Hits are recordings, each with its best segment, or segments.")
    where: Where | None = Field(None, description="A filter.")
    text: Text | None = Field(None, description="Words of the transcript that the segment must have.")
    exact: bool = Field(False, description="Compare every segment, whatever index there is.")
    consistency: Consistency = Field(
        "fresh",
        description="What an engine other than faiss must take account of: fresh, everything committed; any, what it "
        "has read so far; or a watermark.",
    )
    explain: bool = Field(False, description="Explain each hit: what is alike.")


class NamedVector(_Request):
    """The weight of a set of named vectors, and what its vectors are compared with."""

    weight: Weight
    reference: SegmentId | Vector | None = Field(None, description="By default the references' own vectors there.")


class QueryRequest(_Request, QueryOptions):
    """What is searched for, and among what."""

    model_config = _shown(
        {"references": ["seg:14"], "k": 5, "where": 'queue = "billing" and date >= 2024-03-01'},
        {"references": ["seg:14"], "avoid": ["label:calm"], "group_by": ["queue"], "group_size": 2, "explain": True},
        {"emotion": {"frustrated": 1, "shouting": -0.5}, "by": "segment", "text": "refund"},
        {"trajectory": ["emotion:neutral", "emotion:angry"]},
        {"where": 'queue = "billing" and emotion = angry', "by": "segment"},
    )

    references: list[Named | Vector] = Field(
        default_factory=list,
        max_length=16,
        description="Several count as one reference of all their segments. None with `emotion` or `trajectory` alone, "
        "or to list what meets `where` and `text`, the newest recordings first, without scores.",
    )
    weights: list[Weight] | None = Field(
        None, max_length=16, description="One for each reference; the score is their weighted mean."
    )
    avoid: list[Named | Vector] = Field(
        default_factory=list, max_length=16, description="References that hits should be unlike."
    )
    avoid_weights: list[Weight] | None = Field(
        None, max_length=16, description="One for each of `avoid`: how much of the likeness to it is taken off."
    )
    emotion: dict[Label, EmotionWeight] = Field(
        default_factory=dict,
        max_length=16,
        description="Emotions and labels by weight, as one reference; below 0 they are taken off.",
    )
    min_probability: float | None = Field(
        None, ge=0, le=1, description="The least probability of each of these emotions in a segment."
    )
    trajectory: Named | Annotated[list[Named], Field(fail_fast=True)] | None = Field(
        None,
        description="Recordings whose emotion changes in the same way: as in this one, or through these references.",
    )
    group_by: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list,
        max_length=8,
        description="`recording`, `day` or metadata keys: cap hits that share a value.",
    )
    group_size: GroupSize | Annotated[list[GroupSize], Field(max_length=8)] = Field(
        1, description="At most so many hits for each value: one number, or one for each of `group_by`."
    )
    named_vectors: dict[Label, Weight | NamedVector] = Field(
        default_factory=dict,
        max_length=8,
        description="Weights of other models' vectors in the score, by name; `emotion` is the collection's own, 1 by "
        "default.",
    )
    include_self: bool = Field(False, description="Keep stored segments that are themselves the reference.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not (self.references or self.emotion or self.where or self.text) and self.trajectory is None:
            raise ValueError("give references, an emotion or a trajectory, or where or text to list what meets them")
        for name, given in (("references", self.weights), ("avoid", self.avoid_weights)):
            if given is not None and len(given) != len(getattr(self, name)):
                raise ValueError(f"give one weight for each of {name}")
        if isinstance(self.trajectory, list) and not 2 <= len(self.trajectory) <= 16:
            raise ValueError("give a trajectory of 2 to 16 references")
        return self

    def sources(self) -> list[str | list[float]]:
        """Return every reference that is named, those of a trajectory among them."""
        return [*self.references, *self.avoid, *_listed(self.trajectory)]

    def query(self, allowed: Callable[[str | list[float]], AudioQuery]) -> search.Query:
        """Return the query, each reference as the service allows it.

        Raises:
            QueryError: it makes no sense by itself.
        """
        stages = [allowed(each) for each in _listed(self.trajectory)]
        return search.Query(
            references=_references(map(allowed, self.references), self.weights),
            k=self.k,
            by=self.by,
            where=self.where,
            text=self.text,
            avoid=_references(map(allowed, self.avoid), self.avoid_weights),
            emotion=self.emotion,
            min_probability=self.min_probability,
            trajectory=None if not stages else stages if len(stages) > 1 else stages[0],
            group_by=tuple(self.group_by),
            group_size=self.group_size if isinstance(self.group_size, int) else tuple(self.group_size),
            named_vectors={
                name: (each.weight, each.reference) if isinstance(each, NamedVector) else each
                for name, each in self.named_vectors.items()
            },
            explain=self.explain,
            exact=self.exact,
            consistency=self.consistency,
            include_self=self.include_self,
        )


def _listed(trajectory: str | list[str] | None) -> list[str]:
    """Return a trajectory's references, whether they come as a list or as ``emotion:a,emotion:b``."""
    if isinstance(trajectory, str):
        names = [each.strip() for each in trajectory.split(",")]
        return names if trajectory.startswith(("emotion:", "label:")) else [trajectory]
    return trajectory or []


def _references(sources: Iterable[AudioQuery], weights: list[float] | None) -> tuple[Reference, ...]:
    found = list(sources)
    return tuple(map(Reference, found, weights if weights is not None else [None] * len(found)))


class UploadedQuery(QueryOptions):
    """The same for a file that is uploaded, as fields of a form; lists and objects are JSON there, as in OpenAPI."""

    model_config = ConfigDict(extra="forbid")

    avoid: Json[list[Named]] = Field([], max_length=16, description="References that hits should be unlike.")
    avoid_weights: Json[list[Weight]] | None = Field(None, description="One for each of `avoid`.")
    emotion: Json[dict[Label, EmotionWeight]] = Field(
        {}, max_length=16, description="Emotions and labels by weight, beside the clip; below 0 they are taken off."
    )
    min_probability: float | None = Field(
        None, ge=0, le=1, description="The least probability of each of these emotions in a segment."
    )
    include_self: bool = Field(False, description="Keep stored segments that are themselves the reference.")
    trajectory: bool = Field(False, description="Find recordings whose emotion changes as in it.")
    group_by: Annotated[str, Field(max_length=64)] | None = Field(None, description="Cap hits that share a value.")
    group_size: int = Field(1, ge=1, le=MAX_K, description="At most so many hits for each value of `group_by`.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.avoid_weights is not None and len(self.avoid_weights) != len(self.avoid):
            raise ValueError("give one weight for each of avoid")
        return self

    def query(self, path: os.PathLike[str], allowed: Callable[[str], AudioQuery]) -> search.Query:
        """Return the query for a clip that was uploaded to `path`, each other reference as the service allows it."""
        return search.Query(
            references=() if self.trajectory else (Reference(path),),
            k=self.k,
            by=self.by,
            where=self.where,
            text=self.text,
            avoid=_references(map(allowed, self.avoid), self.avoid_weights),
            emotion=self.emotion,
            min_probability=self.min_probability,
            trajectory=path if self.trajectory else None,
            group_by=() if self.group_by is None else (self.group_by,),
            group_size=self.group_size,
            explain=self.explain,
            exact=self.exact,
            consistency=self.consistency,
            include_self=self.include_self,
        )


class CompareRequest(_Request):
    """Two recordings or segments."""

    model_config = _shown({"a": "call:2", "b": "seg:14"})

    a: Named
    b: Named


class EmbedRequest(_Request):
    """A recording or segment to embed."""

    model_config = _shown({"reference": "seg:14"})

    reference: Named


class ClassifyRequest(_Request):
    """A recording or segment to classify, and the classifier."""

    model_config = _shown({"reference": "seg:14", "classifier": "labels"})

    reference: Named
    classifier: Label | None = Field(None, description="By default the one that was trained last.")


class UploadedClassify(BaseModel):
    """The same for a file that is uploaded."""

    model_config = ConfigDict(extra="forbid")

    classifier: Label | None = Field(None, description="By default the one that was trained last.")


class NoFields(BaseModel):
    """A form of files only."""

    model_config = ConfigDict(extra="forbid")


class LabelRequest(_Request):
    """Segments to which a person gives a label."""

    model_config = _shown({"label": "hesitant", "segments": ["seg:14"]})

    label: Label
    segments: list[SegmentId] = Field(min_length=1, max_length=1000)


class TrainRequest(_Request):
    """The classifier to train, and on what."""

    model_config = _shown({"classifier": "labels", "speaker_keys": ["customer"]})

    classifier: Label = Field("labels", description="Its name; training again makes its next version.")
    labels: Annotated[list[Label], Field(min_length=1, max_length=200)] | None = Field(
        None, description="Tell only these apart; by default all that have examples."
    )
    speaker_keys: list[Annotated[str, Field(min_length=1, max_length=255, pattern=NAMED)]] = Field(
        default_factory=list, max_length=8, description="Metadata keys that name who speaks, such as `customer`."
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Of folds and samples: the same gives the same classifier.")


class MapRequest(_Request):
    """The map to make."""

    model_config = _shown({"name": "map", "where": "queue = billing"})

    name: Label = Field("map", description="Its name; another one of that name is replaced once this one is done.")
    by: By = Field("segment", description="A point is a segment, or a recording.")
    where: Where | None = Field(None, description="Only segments that pass this filter.")


class ApplyRequest(_Request):
    """The classifier that is applied, and to what."""

    model_config = _shown({"classifier": "labels", "min_score": 0.6})

    classifier: Label | None = Field(None, description="By default the one that was trained last.")
    where: Where | None = Field(None, description="Only segments that pass this filter.")
    min_score: float = Field(0.5, ge=0, le=1, description="The least probability at which a label is stored.")


Fields = TypeVar("Fields", bound=BaseModel)


def fields_of(kind: type[Fields], values: Mapping[str, str]) -> Fields:
    """Return the fields of a form, checked.

    Raises:
        RequestValidationError: one is unknown or out of range.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: ValidationError) -> RequestValidationError:
    """Return the error of a route for a body that does not fit its model."""
    return RequestValidationError(
        [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_input=False)]
    )


def multipart(fields: type[BaseModel], *files: str) -> dict[str, Any]:
    """Return OpenAPI's `requestBody` of a form with these files and fields."""
    schema = fields.model_json_schema()
    binary = {name: {"type": "string", "format": "binary", "description": "An audio file."} for name in files}
    schema["properties"] = {**binary, **schema.get("properties", {})}
    schema["required"] = list(files)
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
