"""Everything that can go wrong, as one tree. Each message names the thing and holds its cure.

E2vsearchError
├── AudioError                a file, bytes or array that cannot be decoded
│   ├── AudioNotFound         no such file
│   ├── AudioNotAFile         a folder, a socket, …
│   ├── AudioForbidden        no permission to read it
│   ├── AudioUnreachable      its store does not answer, however often it is asked
│   ├── AudioEmpty            no bytes, or no samples
│   ├── AudioUnreadable       not audio, whatever its name says
│   ├── AudioTruncated        ends before its header says it should
│   ├── AudioTooLong          longer than whoever listens allows
│   └── AudioInvalid          NaN or infinite samples, wrong shape or dtype
├── VectorFileError           an ``.npy`` file that is not a usable embedding
├── EncoderError
│   ├── UnknownEncoder        no encoder of that name
│   ├── EncoderUnavailable    weights neither cached nor downloadable
│   ├── BadWeights            a checkpoint that does not fill its network
│   └── BadSignal             a signal the encoder cannot take
├── PluginRefused             a plug-in was written for another version of the interface, or cannot be imported
├── SpaceMismatch             another encoder or revision than the collection is pinned to
├── CatalogError
│   ├── NoCollection          nothing there yet
│   ├── DamagedVector         a stored vector is not what was stored
│   ├── DamagedRow            a stored recording, segment, text or label is not what was stored
│   ├── DamagedDate           a stored date is none
│   ├── SpaceChanged          the collection was re-embedded while something was made in its former space
│   ├── LeaseLost             a worker was away for too long: the recording it had is another's now
│   ├── SchemaTooOld          `e2vsearch db upgrade` first
│   └── SchemaTooNew          made by a newer e2vsearch
├── GenerationError           an index on disk that is damaged or unfit
│   └── GenerationBusy        another process is building it right now
├── EngineError               a vector engine that does not answer, or cannot do what is asked
├── QueryError                a query that cannot be answered as asked
│   ├── BadFilter             a ``--where`` that does not parse or names nothing known
│   ├── NotStored             an id, label, classifier, map or side that the collection does not hold
│   └── PathForbidden         a path outside the folders that a service may read
├── UnlawfulUse               what the law prohibits, unless the collection's policy says why it is allowed
├── AnalysisError             a map or a classifier that cannot be made of what there is
│   └── TooFewExamples        fewer labelled segments than a classifier can be trained or judged on
├── TranscriptError           a transcript that cannot be read
├── ServiceError              a service that cannot start as asked, or cannot answer now
│   ├── Overloaded            its queue is full: ask again a little later
│   └── TooSlow               it took longer than a request may
├── SettingsError             a flag, variable or e2vsearch.toml entry that makes no sense
├── ExportError               an export folder that cannot be written or read
└── MissingExtra              an optional dependency is not installed

`reason` is a short stable word for each kind (``truncated``, ``not-audio`` …), kept with every recorded failure.
"""

from __future__ import annotations

from typing import ClassVar


class E2vsearchError(Exception):
    """Any error that e2vsearch raises on purpose; its text is one line."""

    reason: ClassVar[str] = "error"


class AudioError(E2vsearchError):
    """A file, bytes or array that cannot be decoded."""

    reason = "audio"


class AudioNotFound(AudioError):
    """No such file."""

    reason = "missing"


class AudioNotAFile(AudioError):
    """A folder, socket or device where a file was expected."""

    reason = "not-a-file"


class AudioForbidden(AudioError):
    """The file exists, but may not be read."""

    reason = "forbidden"


class AudioUnreachable(AudioError):
    """A store of recordings that does not answer, however often it is asked."""

    reason = "unreachable"


class AudioEmpty(AudioError):
    """No bytes, or a container without a single sample."""

    reason = "empty"


class AudioUnreadable(AudioError):
    """Not audio, whatever its name says."""

    reason = "not-audio"


class AudioTruncated(AudioError):
    """The audio ends before its header says it should."""

    reason = "truncated"


class AudioTooLong(AudioError):
    """Longer than whoever listens allows, whatever its header says."""

    reason = "too-long"


class AudioInvalid(AudioError):
    """NaN or infinite samples, or an array of the wrong shape or dtype."""

    reason = "invalid-samples"


class VectorFileError(E2vsearchError):
    """An ``.npy`` file that is not a usable embedding."""

    reason = "bad-vector-file"


class EncoderError(E2vsearchError):
    """An encoder that cannot be opened or cannot take what it was given."""

    reason = "encoder"


class UnknownEncoder(EncoderError):
    """No encoder of that name."""

    reason = "unknown-encoder"


class EncoderUnavailable(EncoderError):
    """Weights are neither cached nor can they be downloaded."""

    reason = "encoder-unavailable"


class BadWeights(EncoderError):
    """A checkpoint that does not fill its network."""

    reason = "bad-weights"


class BadSignal(EncoderError):
    """A signal of a shape, dtype, length or content that the encoder cannot take."""

    reason = "bad-signal"


class PluginRefused(E2vsearchError):
    """A plug-in was written for another version of the interface, or cannot be imported."""

    reason = "plugin-refused"


class SpaceMismatch(E2vsearchError):
    """Vectors of another encoder or revision than the collection is pinned to."""

    reason = "space-mismatch"


REEMBED = "e2vsearch reembed"
"""The command that moves a collection to another space; messages name it as the cure."""

REPAIR = "e2vsearch db verify --repair"
"""The cure of what is damaged in a catalog."""


class CatalogError(E2vsearchError):
    """The SQL database cannot be used as asked."""

    reason = "catalog"


class NoCollection(CatalogError):
    """There is no collection at that place yet."""

    reason = "no-collection"


class DamagedVector(CatalogError):
    """Stored vectors whose checksums are not those of what was stored.

    Attributes:
        segments: their numbers.
    """

    reason = "damaged-vector"

    def __init__(self, message: str, segments: frozenset[int] = frozenset()) -> None:
        super().__init__(message)
        self.segments = segments


class DamagedRow(CatalogError):
    """A row of a recording, segment, text or label whose checksum is not that of what was stored."""

    reason = "damaged-row"


class DamagedDate(CatalogError):
    """A cell that should hold a date, and holds none."""

    reason = "damaged-date"


class SpaceChanged(CatalogError):
    """The collection was re-embedded while something was made in its former space."""

    reason = "space-changed"


class LeaseLost(CatalogError):
    """A worker was away for too long: the recording it had is another's now, and its own result is thrown away."""

    reason = "lease-lost"


class SchemaTooOld(CatalogError):
    """The database was made by an older e2vsearch and must be upgraded first."""

    reason = "schema-too-old"


class SchemaTooNew(CatalogError):
    """The database was made by a newer e2vsearch than this one."""

    reason = "schema-too-new"


class GenerationError(E2vsearchError):
    """An index generation on disk that is damaged or unfit."""

    reason = "generation"


class GenerationBusy(GenerationError):
    """Another process is building the index right now."""

    reason = "generation-busy"


class EngineError(E2vsearchError):
    """A vector engine that does not answer, or that cannot do what is asked of it."""

    reason = "engine"


class QueryError(E2vsearchError):
    """A query that cannot be answered as asked."""

    reason = "query"


class BadFilter(QueryError):
    """A filter that does not parse, or that compares what cannot be compared."""

    reason = "bad-filter"


class NotStored(QueryError):
    """An id, label, classifier, map or side that the collection does not hold."""

    reason = "not-stored"


class PathForbidden(QueryError):
    """A path outside the folders that a service may read."""

    reason = "path-forbidden"


class UnlawfulUse(E2vsearchError):
    """What the law prohibits, unless the collection's policy says why it is allowed here."""

    reason = "unlawful"


class AnalysisError(E2vsearchError):
    """A map or a classifier that cannot be made of what there is."""

    reason = "analysis"


class TooFewExamples(AnalysisError):
    """Fewer labelled segments than a classifier can be trained or judged on."""

    reason = "too-few-examples"


class TranscriptError(E2vsearchError):
    """A transcript that cannot be read."""

    reason = "transcript"


class ServiceError(E2vsearchError):
    """A service that cannot start as asked, or cannot answer now."""

    reason = "service"


class Overloaded(ServiceError):
    """Its queue is full: ask again a little later."""

    reason = "overloaded"


class TooSlow(ServiceError):
    """It took longer than a request may."""

    reason = "too-slow"


class SettingsError(E2vsearchError):
    """A flag, environment variable or e2vsearch.toml entry that makes no sense."""

    reason = "settings"


class ExportError(E2vsearchError):
    """An export folder that cannot be written or read."""

    reason = "export"


class MissingExtra(E2vsearchError):
    """An optional dependency is not installed."""

    reason = "missing-extra"


def missing_extra(feature: str, extra: str) -> MissingExtra:
    """Return the error for `feature` when the optional dependencies of `extra` are not installed."""
    return MissingExtra(f"{feature} needs the '{extra}' extra: pip install 'e2vsearch[{extra}]'")


class Cancelled(Exception):
    """Listening was given up because `stop` said so."""


def first_line(error: BaseException) -> str:
    """Return what a foreign error says, in one line; of SQLAlchemy's, without its statement and link."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
