"""The collection: one catalog, one vector index, one space, and the verbs on them."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from e2vsearch import encoder_check, pipeline, settings
from e2vsearch.audio import AudioSource, Signal, cut
from e2vsearch.catalog import recordings
from e2vsearch.catalog.database import CollectionLocation, locate
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.index import Index
from e2vsearch.listing import Listing
from e2vsearch.projections import recenter
from e2vsearch.projections.view import Views
from e2vsearch.search.background import BackgroundScores, background_scores
from e2vsearch.search.compare import ComparisonView, compare_audio, comparison_view
from e2vsearch.search.context import SearchContext
from e2vsearch.search.execute import execute
from e2vsearch.search.query import AudioQuery, Query, Reference, identifier_of
from e2vsearch.search.result import QueryResult
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import Comparison, EmbeddedAudio, Failure, Recording, Segment, Space, Status, number_of
from e2vsearch.vectors.engine import IndexOptions

if TYPE_CHECKING:
    from e2vsearch.analysis.evaluation.types import Condition, Evaluation
    from e2vsearch.analysis.labels import Labels
    from e2vsearch.analysis.maps import Maps
    from e2vsearch.analysis.projections import Projections
    from e2vsearch.ingest.queue import Queue
    from e2vsearch.ingest.runner import IngestReport
    from e2vsearch.named_vectors import NamedVectorSets
    from e2vsearch.transfer.export import TransferReport

Embed = Callable[[AudioSource, Callable[[], Encoder], SpeechOptions], EmbeddedAudio]
"""Embeds audio: the source, what opens the collection's encoder, how speech is found."""


def _embed(source: AudioSource, encoder: Callable[[], Encoder], speech: SpeechOptions) -> EmbeddedAudio:
    return pipeline.embed_audio(source, encoder(), speech)


class Collection:
    """Recordings and their segments, to add to and to search. Open it with `e2vsearch.open`.

    It may be queried from several threads. Facets hold the verbs that the command line has as groups: `index`,
    `labels`, `maps`, `projections`, `queue`, `named_vectors`; they are imported when first used.

    Attributes:
        location: where it lives.
        catalog: its database.
        speech: how speech is found and cut, in what is ingested and in references.
        index: builds, measures and audits the vector index.

    Example:
        >>> import e2vsearch
        >>> with e2vsearch.open("calls-index", encoder="light", create=True) as collection:
        ...     collection.space is None
        True
    """

    def __init__(
        self,
        location: CollectionLocation,
        catalog: Catalog,
        options: settings.Settings,
        *,
        speech: SpeechOptions | None = None,
        index: IndexOptions | None = None,
        encoder: Encoder | None = None,
        embed: Embed | None = None,
    ) -> None:
        """Join the parts of an open collection; `open` finds them.

        Args:
            location: where it lives.
            catalog: its database, which `close` closes.
            options: of which the encoder, device, precision, cache and workers are used.
            speech: how speech is found and cut.
            index: how its index is built.
            encoder: an open one of the collection's space.
            embed: embeds references and compared clips, within a service's limits.
        """
        self.location = location
        self.catalog = catalog
        self.speech = speech or SpeechOptions()
        self.settings = options
        index_options = index or IndexOptions(query_log_size=options.asked)
        self._views = Views(catalog, lambda: location.cached(options.cache, catalog.collection_id), index_options)
        self.index = Index(catalog, self._views, index_options)
        self._embed = embed or _embed
        self._encoder = encoder_check.CheckedEncoder(catalog, options, encoder)
        self._background: BackgroundScores | None = None

    @classmethod
    def open(
        cls,
        index: str | os.PathLike[str] | None = None,
        *,
        create: bool = False,
        encoder: str | Encoder | None = None,
        device: str | None = None,
        precision: str | None = None,
        speech: SpeechOptions | None = None,
        index_options: IndexOptions | None = None,
    ) -> Self:
        """Open a collection.

        Args:
            index: its folder or database URL; by default what `E2VSEARCH_INDEX` or e2vsearch.toml says, or ``index``.
            create: make it if there is none.
            encoder: a name, a model folder, or an open encoder; by default the one the collection was made with.
            device: where the encoder runs, ``cpu`` by default.
            precision: of emotion2vec, see `EncoderOptions`; by default the collection's own, fp32 for a new one.
            speech: how speech is found and cut.
            index_options: how its index is built.

        Raises:
            NoCollection: there is none, and `create` is not set.
            CatalogError: its database cannot be used.
        """
        name = encoder if isinstance(encoder, str) else None
        given = os.fspath(index) if index is not None else None
        options = settings.load(index=given, encoder=name, device=device, precision=precision)
        location = locate(options.index)
        if create and location.folder is not None:
            location.folder.mkdir(parents=True, exist_ok=True)
        catalog = Catalog.open(location.url, create=create, name=location.named)
        opened = encoder if isinstance(encoder, Encoder) else None
        return cls(location, catalog, options, speech=speech, index=index_options, encoder=opened)

    def close(self) -> None:
        """Wait for an index build that is under way, and close the database."""
        self.index.builder.join()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def with_embed(self, embed: Embed) -> Self:
        """Return the same open collection with another way to embed; closing one closes both."""
        other = copy(self)
        other._embed = embed
        for facet in ("labels", "maps", "projections"):
            other.__dict__.pop(facet, None)
        return other

    @property
    def space(self) -> Space | None:
        """The space it is pinned to, None before the first ingest."""
        return self.catalog.space

    def encoder(self) -> Encoder:
        """Return the encoder of this collection's space, opened and checked once.

        Raises:
            EncoderError: it cannot be opened.
            MissingExtra: its packages are not installed.
            SpaceMismatch: it makes vectors of another space, or not those that it made before.
        """
        return self._encoder.open()

    def status(self) -> Status:
        """Return what the collection is, how much it holds, and how its index fares."""
        from e2vsearch.catalog.named_vectors import listed
        from e2vsearch.catalog.text_search import transcribed

        space, index = self.catalog.space, None
        if space is not None:
            view = self._views.now()
            space, index = view.named(space), view.index.status()
        counts, words = self.catalog.counts(), transcribed(self.catalog)
        names = tuple(listed(self.catalog))
        return Status(self.location.named, self.catalog.collection_id, space, counts, index, words, names)

    def failures(self) -> Listing[Failure]:
        """Return the files that could not be ingested, with the reasons."""
        return Listing(self.catalog.failures())

    def query(self, *references: AudioQuery | Reference | Query, **fields: Any) -> QueryResult:
        """Return the recordings, or segments, that feel most like the references.

        Args:
            references: examples, or one `Query`.
            **fields: of `Query`, which says what each means: ``k=20, by="segment", where='queue = "billing"'``.

        Raises:
            QueryError: it cannot be answered.
            AudioError, EncoderError: a reference that cannot be read or encoded.
        """
        query = Query.of(*references, **fields)
        with self._views.steady() as view:
            context = SearchContext(self.catalog, view, self.embed, self._background_scores)
            result = execute(query, context)
        self.index.builder.start(view.index.newly_due)
        return result

    def embed(self, source: AudioSource) -> EmbeddedAudio:
        """Return the spoken segments of a clip with their vectors and class probabilities; nothing is stored.

        Raises:
            AudioError, EncoderError: it cannot be read or encoded.
        """
        return recenter.recalibrate_stored(self.catalog, self._embed(source, self.encoder, self.speech))

    def compare(self, a: AudioQuery, b: AudioQuery) -> Comparison:
        """Return how alike two recordings feel: clips, of which nothing is stored, or ids such as ``call:45``.

        Raises:
            AudioError, EncoderError: one of them cannot be read or encoded.
            QueryError: one of them has no speech.
        """
        pairs = [(self._name(source), self._embedded(source)) for source in (a, b)]
        view = self.comparison_view(self.encoder() if self.space is None else None)
        return compare_audio(view, pairs[0], pairs[1])

    def comparison_view(self, encoder: Encoder | None = None) -> ComparisonView:
        """Return what clips are compared through here.

        Args:
            encoder: that embeds the clips, where that may be another than the collection's.
        """
        view = None if self.space is None else self._views.now()
        empty = " holds no recordings yet" if view is None else ""
        return comparison_view(encoder, view, self.space, f"{self.location.named}{empty}")

    def ingest(self, *paths: str | os.PathLike[str], **options: Any) -> IngestReport:
        """Add recordings: files, folders, globs and URLs, see `e2vsearch.ingest.runner.ingest` for all options."""
        from e2vsearch.ingest.runner import ingest

        return ingest(self.queue, *paths, **options)

    def watch(self, *folders: str | os.PathLike[str], **options: Any) -> IngestReport:
        """Add the recordings of folders as they come, until told to stop, see `e2vsearch.ingest.watch.watch`."""
        from e2vsearch.ingest.watch import watch

        return watch(self.queue, *folders, **options)

    def recordings(self, *names: str, where: str | None = None) -> Listing[Recording]:
        """Return stored recordings, all by default.

        Args:
            names: ids (``call:45``), and the files, folders or URLs that recordings were ingested from.
            where: only those with a segment that meets this filter.

        Raises:
            NotStored: one of them is not there.
            BadFilter: `where` does not parse, or names nothing known.
        """
        if not names and where is None:
            return Listing([found for _, found in self.catalog.recordings()])
        return Listing(recordings.find(self.catalog, names, where))

    def segments(self, *names: str, where: str | None = None) -> Listing[Segment]:
        """Return stored segments, all by default, in order of recording and time.

        Args:
            names: ids of segments (``seg:123``), or recordings as `recordings` takes them.
            where: only those that meet this filter.

        Raises:
            NotStored: one of them is not there.
            BadFilter: `where` does not parse, or names nothing known.
        """
        return Listing(recordings.find_segments(self.catalog, names, where))

    def clip(self, segment: str, context_s: float = 0.0) -> Signal:
        """Return the sound of one stored segment, decoded from its recording: ``(1, samples)`` at 16 kHz.

        Args:
            segment: ``seg:123``.
            context_s: seconds before and after it that are returned as well.

        Raises:
            NotStored: there is no such segment.
            AudioError: its file is gone or damaged.
        """
        found = recordings.segment(self.catalog, segment)
        uri = recordings.recording(self.catalog, found.recording).uri
        start_s = max(0.0, found.start_s - context_s)
        return cut(uri, start_s, found.end_s + context_s, channel=found.channel)

    def remove(self, *names: str, where: str | None = None) -> int:
        """Forget recordings, named as `recordings` takes them, and return how many; their files stay.

        Raises:
            NotStored: one of them is not there.
            BadFilter: `where` does not parse, or names nothing known.
        """
        found = recordings.find(self.catalog, names, where)
        return self.catalog.remove([number_of(each.id, "call") for each in found])

    def backup(self, target: str | os.PathLike[str]) -> int:
        """Copy the database to a new file while others use it, and return its size in bytes.

        Raises:
            CatalogError: the file is there, or cannot be written; a collection in Postgres, which has pg_dump.
        """
        from e2vsearch.catalog.backup import backup

        return backup(self.catalog.url, Path(target).expanduser().absolute())

    def export(self, folder: str | os.PathLike[str]) -> TransferReport:
        """Write the collection to a new folder as plain files, see `e2vsearch.transfer.export`."""
        from e2vsearch.transfer.export import export

        return export(self.catalog, Path(folder).expanduser().absolute())

    def import_(self, folder: str | os.PathLike[str]) -> TransferReport:
        """Add everything from an exported folder, see `e2vsearch.transfer.import_`."""
        from e2vsearch.transfer.import_ import load

        done = load(self.catalog, Path(folder).expanduser().absolute())
        self.index.maintain()
        return done

    def evaluate(
        self,
        labels: str | os.PathLike[str],
        projection: str | None = None,
        *,
        encoder: Encoder | None = None,
        condition: Condition = "clean",
        **options: Any,
    ) -> Evaluation:
        """Measure how well labelled emotions are found in other voices, see `e2vsearch.analysis.evaluation.evaluate`.

        Stored segments are compared; telephone copies, or all files where an encoder is given, are embedded anew.
        """
        from e2vsearch.analysis.evaluation.evaluate import evaluate

        if encoder is None and condition != "clean":
            encoder = self.encoder()
        options |= {"context": self.projections, "projection": projection, "condition": condition}
        return evaluate(labels, encoder, **options)

    @cached_property
    def labels(self) -> Labels:
        """Labels of one's own, and the classifiers that are trained on them."""
        from e2vsearch.analysis.labels import Labels

        return Labels(*self._parts())

    @cached_property
    def maps(self) -> Maps:
        """Maps with clusters."""
        from e2vsearch.analysis.maps import Maps

        return Maps(*self._parts())

    @cached_property
    def projections(self) -> Projections:
        """Projections that the collection is searched through."""
        from e2vsearch.analysis.projections import Projections

        return Projections(*self._parts())

    @cached_property
    def named_vectors(self) -> NamedVectorSets:
        """Other models' vectors on segments."""
        from e2vsearch.named_vectors import NamedVectorSets

        return NamedVectorSets(self.catalog)

    @cached_property
    def queue(self) -> Queue:
        """Recordings that wait for workers."""
        from e2vsearch.ingest.queue import Queue

        pin = partial(encoder_check.pin_encoder, self.catalog)
        owns_index = self.location.folder is not None
        index = self.index
        return Queue(self.catalog, self.settings, self.speech, self.encoder, pin, index.maintain, index.due, owns_index)

    def _parts(self) -> tuple[Any, ...]:
        views = self._views
        return self.catalog, views.now, views.of, self.index.folder, self.embed, self.encoder, self.clip

    def _background_scores(self) -> BackgroundScores:
        self._background = background_scores(self.catalog, self._views.now().source, self._background)
        return self._background

    def _embedded(self, source: AudioQuery) -> EmbeddedAudio:
        identifier = identifier_of(source)
        if identifier is not None:
            return pipeline.stored_audio(self.catalog, identifier)
        return self.embed(cast(AudioSource, source))

    def _name(self, source: AudioQuery) -> str:
        return identifier_of(source) or (
            os.fspath(source) if isinstance(source, str | os.PathLike) else f"{type(source).__name__} audio"
        )
