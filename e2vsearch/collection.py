"""The collection: one catalog, one vector index, one space, and the verbs on them."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack, closing
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from e2vsearch import audio, encoder_check, notebook, pipeline, settings, status
from e2vsearch.audio import AudioSource, Signal
from e2vsearch.catalog import audit, backup, calls, engine_choice, recordings
from e2vsearch.catalog.database import Location, locate
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.index import Index
from e2vsearch.listing import Listing
from e2vsearch.named_vectors import NamedVectorSets
from e2vsearch.playback import Playback
from e2vsearch.policy import Policy
from e2vsearch.projections import recalibrate
from e2vsearch.projections.view import Views
from e2vsearch.search import compare, execute
from e2vsearch.search.query import AudioQuery, Query, Reference
from e2vsearch.search.result import QueryResult
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import AuditEntry, Call, Comparison, EmbeddedAudio, Failure, Recording, Segment, Space, Status
from e2vsearch.vectors.engine import IndexOptions

if TYPE_CHECKING:
    from e2vsearch.analysis.evaluation.types import Evaluation
    from e2vsearch.analysis.labels import Labels
    from e2vsearch.analysis.maps import Maps
    from e2vsearch.analysis.projections import Projections
    from e2vsearch.analysis.timeline import Timeline
    from e2vsearch.analysis.trends.types import Trends
    from e2vsearch.erasure import ForgetReport
    from e2vsearch.ingest.queue import Queue
    from e2vsearch.ingest.reports import IngestReport
    from e2vsearch.spaces import Spaces
    from e2vsearch.transfer.contents import Contents, TransferReport


class Collection(AbstractContextManager["Collection"]):
    """Recordings and their segments, to add to and to search, from several threads. Open it with `e2vsearch.open`.

    Facets hold the verbs of groups of commands; `labels`, `maps`, `projections`, `queue` and `spaces` load when used.
    """

    def __init__(
        self,
        location: Location,
        catalog: Catalog,
        options: settings.Settings,
        *,
        speech: SpeechOptions | None = None,
        index: IndexOptions | None = None,
        encoder: Encoder | None = None,
        embed: pipeline.Embed | None = None,
        actor: str = "python",
    ) -> None:
        """Join the parts of an open collection, which `open` finds; see `used_by` for the last two."""
        self.location, self._catalog, self.actor = location, catalog, actor
        self.speech, self.settings, self.named_vectors = speech or SpeechOptions(), options, NamedVectorSets(catalog)
        self.playback = Playback(catalog, options)
        index_options = index or IndexOptions(query_log_size=options.query_log)
        self._views = Views(catalog, lambda: location.cached(options.cache, catalog.collection_id), index_options)
        self.index = Index(catalog, self._views, index_options)
        self._embed = embed or (lambda source, encoder, speech: pipeline.embed_audio(source, encoder(), speech))
        self._encoder = encoder_check.CheckedEncoder(catalog, options, encoder)

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
        engine: str | None = None,
        engine_url: str | None = None,
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
            engine: that a new collection is searched in, ``faiss`` by default; `Index.build` moves another to it.
            engine_url: of Milvus.

        Raises:
            NoCollection, CatalogError: there is none, and `create` is not set; or its database cannot be used.
        """
        place = None if index is None else os.fspath(index)
        opened, name = (encoder, None) if isinstance(encoder, Encoder) else (None, encoder)
        options = settings.load(index=place, encoder=name, device=device, precision=precision)
        location = locate(options.index)
        with ExitStack() as failed:
            catalog = failed.enter_context(closing(Catalog.open(location.url, create=create, name=location.named)))
            engine_choice.settle(catalog, engine, engine_url, options)
            collection = cls(location, catalog, options, speech=speech, index=index_options, encoder=opened)
            failed.pop_all()
        return collection

    def close(self) -> None:
        """Wait for an index build that is under way, and close the database."""
        self.index.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def used_by(self, actor: str | None = None, embed: pipeline.Embed | None = None) -> Self:
        """Return the same open collection for another door, which the audit log names, or with another way to embed."""
        other = copy(self)
        other.actor, other._embed = actor or self.actor, embed or self._embed
        return other

    @property
    def catalog(self) -> Catalog:
        """Its database, in the space in use: any process may switch to another, see `spaces`."""
        self._views.follow()
        return self._catalog

    @property
    def space(self) -> Space | None:
        """The space it is pinned to, None before the first ingest."""
        return self.catalog.space

    def encoder(self) -> Encoder:
        """Return the encoder of this collection's space, opened and checked once, see `CheckedEncoder`."""
        return self._encoder.open()

    @property
    def policy(self) -> Policy:
        """What the collection is for, and what may be done with it; see `set_policy`."""
        return self.catalog.policy

    def set_policy(self, **changes: Any) -> Policy:
        """Set attributes of the policy, see `Catalog.set_policy`; the others stay as they are."""
        return self.catalog.set_policy(changes, self.actor)

    def status(self) -> Status:
        """Return what the collection is, how much it holds, and how its index fares."""
        return status.status(self.catalog, self._views)

    _repr_html_, __repr__ = notebook.collection_html, notebook.collection_text

    def failures(self) -> Listing[Failure]:
        """Return the files that could not be ingested, with the reasons."""
        return Listing(self.catalog.failures(), Failure)

    def audit(self) -> Listing[AuditEntry]:
        """Return the audit log: who asked what, and which ids came back; the oldest first."""
        return Listing(audit.entries(self.catalog.reading), AuditEntry)

    def query(self, *references: AudioQuery | Reference | Query, **fields: Any) -> QueryResult:
        """Return what feels most like the references; keywords are fields of `Query`, errors those of `answer`."""
        query = Query.of(*references, **fields)
        result, view = execute.answer(query, self._catalog, self._views, self.embed, self.actor)
        if (due := view.index.newly_due()) is not None and self._catalog.read_only is None:
            self.index.builder.start(lambda: due)
        return result

    def embed(self, source: AudioSource) -> EmbeddedAudio:
        """Return the spoken segments of a clip with their vectors and class probabilities; nothing is stored."""
        audio.prepare(source)  # it starts while the encoder is loaded
        return recalibrate.recalibrate_stored(self.catalog, self._embed(source, self.encoder, self.speech))

    def trends(self, **options: Any) -> Trends:
        """Return shares of emotions, labels or clusters by period and group, see `analysis.trends.measure.trends`."""
        from e2vsearch.analysis.trends.measure import trends

        return trends(self.catalog, self.actor, **options)

    def compare(self, a: AudioQuery, b: AudioQuery) -> Comparison:
        """Return how alike two recordings feel, clips or ids such as ``call:45``, see `e2vsearch.search.compare`."""
        through = self.encoder() if self.space is None else self._views.current()
        return compare.compare(a, b, through, self.catalog, self.embed, self.actor)

    def ingest(self, *paths: str | os.PathLike[str], **options: Any) -> IngestReport:
        """Add recordings: files, folders, globs and URLs, see `e2vsearch.ingest.runner.ingest` for all options."""
        from e2vsearch.ingest.runner import ingest

        return ingest(self.queue, *paths, **options)

    def watch(self, *folders: str | os.PathLike[str], **options: Any) -> IngestReport:
        """Add the recordings of folders as they come, until told to stop, see `e2vsearch.ingest.watch.watch`."""
        from e2vsearch.ingest.watch import watch

        return watch(self.queue, *folders, **options)

    def recordings(self, *names: str, where: str | None = None, damaged: bool = False) -> Listing[Recording]:
        """Return stored recordings, all by default: by id, path or URL, or by a filter; `damaged`: see `remove`."""
        return Listing(recordings.listed(self.catalog, names, where, damaged=damaged), Recording)

    def calls(self, limit: int = 20, **options: str | None) -> Listing[Call]:
        """Return the newest recordings with their emotions, by `where`, `text` or page, see `catalog.calls.newest`."""
        return Listing(calls.newest(self.catalog, limit, **options), Call)

    def segments(self, *names: str, where: str | None = None) -> Listing[Segment]:
        """Return stored segments by id, or of recordings as `recordings` takes them; all by default, in order."""
        return Listing(recordings.find_segments(self.catalog, names, where), Segment)

    def clip(self, name: str, context_s: float = 0.0) -> Signal:
        """Return the sound of ``seg:123`` with so many seconds around it, see `e2vsearch.pipeline.stored_clip`."""
        return pipeline.stored_clip(self.catalog, self.playback, name, context_s)

    def remove(self, *names: str, where: str | None = None) -> int:
        """Delete recordings, `damaged` ones too, and return how many; traces stay, see `forget`."""
        return recordings.remove(self.catalog, names, where)

    def forget(self, *names: str, **options: Any) -> ForgetReport:
        """Erase recordings with every trace of them, see `e2vsearch.erasure.forget` for all options."""
        from e2vsearch.erasure import forget

        return forget(self.catalog, self.index, self.playback, names, **options)

    def about(self, recording: str) -> dict[str, Any]:
        """Return everything that is held about ``call:45`` or a path, as plain values, see `subject_access.about`."""
        from e2vsearch.subject_access import about

        return about(self.catalog, self.index, self.playback, recording)

    def timeline(self, recording: str) -> Timeline:
        """Return the channels, dynamics and course of ``call:45``, or of a path or name, see `analysis.timeline`."""
        from e2vsearch.analysis.timeline import stored_timeline

        return stored_timeline(self.catalog, recording)

    def backup(self, target: str | os.PathLike[str]) -> int:
        """Copy the database to a new file and return its size in bytes, see `e2vsearch.catalog.backup`."""
        return backup.backup(self.catalog.url, target)

    def export(self, target: str | os.PathLike[str], **options: Any) -> TransferReport:
        """Write all to a new folder, or segments to a ``.parquet``, see `transfer.export` and `transfer.parquet`."""
        from e2vsearch.transfer.export import export_to

        return export_to(self.catalog, self._views, target, **options)

    def import_(self, folder: str | os.PathLike[str] | Contents) -> TransferReport:
        """Add everything from an exported folder, or nothing if it is damaged, see `e2vsearch.transfer.import_`."""
        from e2vsearch.transfer.import_ import load

        return load(self.catalog, folder, self.index.maintain)

    def evaluate(self, labels: str | os.PathLike[str], projection: str | None = None, **options: Any) -> Evaluation:
        """Measure how well labelled emotions are found in other voices, see `analysis.evaluation.evaluate`."""
        from e2vsearch.analysis.evaluation.evaluate import evaluate

        return evaluate(labels, context=self.projections, projection=projection, **options)

    @property
    def labels(self) -> Labels:
        """Labels of one's own, and the classifiers that are trained on them."""
        from e2vsearch.analysis.labels import Labels

        return Labels(*self._context())

    @property
    def maps(self) -> Maps:
        """Maps with clusters."""
        from e2vsearch.analysis.maps import Maps

        return Maps(*self._context())

    @property
    def projections(self) -> Projections:
        """Projections that the collection is searched through."""
        from e2vsearch.analysis.projections import Projections

        return Projections(*self._context())

    @property
    def spaces(self) -> Spaces:
        """The space of its vectors, and the way to another encoder's: `Spaces.reembed`."""
        from e2vsearch.spaces import Spaces

        return Spaces(self.catalog, self._views, self.index, self.settings, self._encoder.adopt)

    @property
    def queue(self) -> Queue:
        """Recordings that wait for workers."""
        from e2vsearch.ingest.queue import Queue
        from e2vsearch.retention import running

        index, retention = self.index, partial(running, self.catalog, self.index, self.playback)
        parts = self.catalog, self.settings, self.speech, self.encoder
        return Queue(*parts, index.maintain, index.due, self.location.folder is not None, retention, Collection.open)

    def _context(self) -> tuple[Any, ...]:
        return self.catalog, *self._views.doors, self.index.drop_index, self.embed, self.encoder, self.clip
