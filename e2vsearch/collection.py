"""The collection that users hold: query, compare, status, remove, and the index behind them."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2vsearch import encoder_check, settings
from e2vsearch.audio import AudioSource, Signal, cut
from e2vsearch.catalog import named_vectors
from e2vsearch.catalog import recordings as stored
from e2vsearch.catalog.database import CollectionLocation, locate
from e2vsearch.catalog.recordings import find
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders import base
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.registry import SAVED, open_encoder
from e2vsearch.errors import EncoderError, GenerationBusy
from e2vsearch.pipeline import embed_audio
from e2vsearch.projections import recenter
from e2vsearch.projections.view import ProjectedVectors, SearchView, Views
from e2vsearch.search.compare import compare_audio
from e2vsearch.search.execute import execute
from e2vsearch.search.query import Query, Trajectory, WeightedReference
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import (
    By,
    Comparison,
    EmbeddedAudio,
    Failure,
    NamedVectors,
    QueryResult,
    Recording,
    Segment,
    Space,
    Status,
    number_of,
)
from e2vsearch.vectors.background import BackgroundBuilder
from e2vsearch.vectors.engine import IndexOptions, Kind
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.storage import Manifest

if TYPE_CHECKING:
    from e2vsearch.search.background import BackgroundScores
    from e2vsearch.search.query import NamedVectorWeights


class Collection:
    """One catalog, one vector index, one space. Open it with `e2vsearch.open`; safe to query from several threads.

    Attributes:
        place: where it lives.
        catalog: its database.
        speech: how speech is found and cut, in what is ingested and in references.
    """

    def __init__(
        self,
        place: CollectionLocation,
        catalog: Catalog,
        options: settings.Settings,
        speech: SpeechOptions | None = None,
        index: IndexOptions | None = None,
    ) -> None:
        self.place = place
        self.catalog = catalog
        self.speech = speech or SpeechOptions()
        self.settings = options
        self._index_options = index or IndexOptions(asked=options.asked)
        self._lock = threading.RLock()
        self._encoder: Encoder | None = None
        self._proven: Encoder | None = None  # the one that makes the golden vector
        self._lenses = Views(catalog, self._cached, self._index_options)
        self._mender = BackgroundBuilder(self.maintain)
        self._sample: BackgroundScores | None = None

    @classmethod
    def open(
        cls,
        index: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        encoder: str | Encoder | None = None,
        device: str | None = None,
        precision: str | None = None,
        speech: SpeechOptions | None = None,
        index_options: IndexOptions | None = None,
    ) -> Self:
        """Open a collection.

        Args:
            index: its folder or database URL; by default what `E2VSEARCH_INDEX` or e2vsearch.toml says, or ``index``.
            create: make it if there is none; reading commands open with False, so that a misspelt name makes nothing.
            encoder: a name, a model folder, or an open encoder; by default the one the collection was made with.
            device: where the encoder runs, ``cpu`` by default.
            precision: of emotion2vec, see `EncoderOptions`; by default the collection's own, fp32 for a new one.
            speech: how speech is found and cut.
            index_options: how its index is built.

        Raises:
            NoCollection: there is none, and `create` is not set.
            CatalogError: its database cannot be used.
        """
        named = encoder if isinstance(encoder, str) else None
        found = os.fspath(index) if index is not None else None
        options = settings.load(index=found, encoder=named, device=device, precision=precision)
        place = locate(options.index)
        if create and place.folder is not None:
            place.folder.mkdir(parents=True, exist_ok=True)
        catalog = Catalog.open(place.url, create=create, name=place.named)
        collection = cls(place, catalog, options, speech, index_options)
        if isinstance(encoder, Encoder):
            collection._encoder = encoder
        return collection

    def close(self) -> None:
        """Wait for an index build that is under way, and let go of the database."""
        self._mender.join()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space | None:
        """The space it is pinned to, None before the first ingest."""
        return self.catalog.space

    def require_space(self) -> Space:
        """The space it is pinned to.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        return self.catalog.require_space()

    def encoder(self) -> Encoder:
        """What makes vectors of this collection's space, opened once.

        Raises:
            EncoderError: it cannot be opened.
            MissingExtra: its packages are not installed.
            SpaceMismatch: it makes vectors of another space, or not those that it made before.
        """
        with self._lock:
            if self._encoder is None:
                name = self.settings.encoder or self.catalog.encoder_source or settings.DEFAULT_ENCODER
                if name == SAVED:
                    raise EncoderError(
                        f"{self.place.named} holds saved vectors, which no encoder here makes - "
                        "query it with an .npy file or a stored id such as seg:1"
                    )
                precision = self.settings.precision or base.precision_of(self.space)
                self._encoder = open_encoder(name, self.settings.device, precision)
            self.catalog.check_space(self._encoder.space)
            if self._proven is not self._encoder:
                encoder_check.check_encoder(self.catalog, self._encoder)
                self._proven = self._encoder
            return self._encoder

    def status(self) -> Status:
        """What the collection is, how much it holds, and how its index fares."""
        from e2vsearch.catalog.text_search import transcribed

        catalog = self.catalog
        space, index = catalog.space, None
        if space is not None:
            lens = self.lens()
            space, index = lens.named(space), lens.index.status()
        said = transcribed(catalog)
        return Status(self.place.named, catalog.collection_id, space, catalog.counts(), index, said, self.sides())

    def failures(self) -> list[Failure]:
        """Files that could not be ingested, with their reasons."""
        return self.catalog.failures()

    # -- asking ------------------------------------------------------------------------------------------------

    def query(
        self,
        *references: WeightedReference,
        k: int = 20,
        by: By = "call",
        where: str | None = None,
        include_self: bool = False,
        exact: bool = False,
        text: str | None = None,
        fuse: NamedVectorWeights | None = None,
        but_not: Sequence[WeightedReference] = (),
        emotion: str | Mapping[str, float] | None = None,
        emotion_min: float | None = None,
        arc: Trajectory | None = None,
        per: Mapping[str, int] | None = None,
        explain: bool = False,
    ) -> QueryResult:
        """The calls, or moments, that feel most like the references.

        Args:
            references: see `AudioQuery`; several count as one reference of all their segments. With a weight,
                ``("angry.wav", 2.0)``, each is one by itself, and the score is their weighted mean.
            k: how many hits.
            by: ``call``, each with its best moment, or ``segment``.
            where: a filter, such as ``agent = "Kim" and channel = 1``.
            include_self: keep stored segments that are themselves the reference.
            exact: compare every segment, whatever index there is; for references unlike anything stored.
            text: words that must be said in the moment, as `e2vsearch.catalog.text_search` reads them: ``refund``,
                ``"credit card"``, ``refund*``, ``-thanks``.
            fuse: side vectors that count as well, by weight, see `e2vsearch.search.score`:
                ``{"text": (0.5, vector)}``. Every segment is compared then.
            but_not: references that hits should be unlike; weight · max(0, cosine) is taken off, 0.5 by default. See
                `e2vsearch.search.score` for the score in full.
            emotion: an emotion or a label of one's own, as one more reference, or several in one mixture by weight:
                ``{"frustrated": 1, "shouting": -0.5}``. One below 0 is taken off as `but_not` is; one of 0 is only
                what `emotion_min` is of.
            emotion_min: the least probability of these emotions, all whose weight is not below 0, in a moment that
                is answered, whether or not one is its likeliest.
            arc: a call, or stations such as ``["neutral", "angry"]``: calls that run like it from beginning to end,
                see `e2vsearch.search.trajectory`. It takes no other reference.
            per: at most so many hits that share a recording, a day or a value of the metadata:
                ``{"recording": 1, "agent": 2}``. The list is filled up from further down.
            explain: say of each hit why it is one (`Hit.why`), and what % of random pairs here are less alike.

        Returns:
            Hits, best first, with exact cosines.

        Raises:
            QueryError: it cannot be answered as asked.
            AudioError, EncoderError: a reference that cannot be heard or encoded.
        """
        asked = Query(
            references, k, by, where, include_self, exact, text, fuse, but_not, emotion, emotion_min, arc, per or {},
            explain,
        )  # fmt: skip
        asked.check()
        with self.steady() as lens:
            result = execute(self, asked, lens.index)
        self._mender.mend(lens.index.newly_due)
        return result

    def sample(self) -> BackgroundScores:
        """Some of its moments, drawn once: what a cosine is worth among them."""
        from e2vsearch.search.background import background_scores

        self._sample = background_scores(self, self._sample)
        return self._sample

    def compare(self, a: AudioSource, b: AudioSource) -> Comparison:
        """How alike two recordings feel; neither needs to be stored. Each is a file, its bytes, or 16 kHz samples.

        Raises:
            AudioError, EncoderError: one of them cannot be heard or encoded.
            QueryError: one of them has no speech.
        """
        return self.compare_heard((_named(a), self.hear(a)), (_named(b), self.hear(b)))

    def compare_heard(self, a: tuple[str, EmbeddedAudio], b: tuple[str, EmbeddedAudio]) -> Comparison:
        """How alike two recordings feel that were listened to already, each with its name.

        Raises:
            QueryError: one of them has no speech.
        """
        space = self.catalog.space
        if space is None:  # nothing is stored: the encoder's own vectors
            return compare_audio(self.encoder().space, a, b)
        lens = self.lens()
        return compare_audio(lens.named(space), a, b, lens.projection)

    def hear(self, source: AudioSource) -> EmbeddedAudio:
        """The spoken spans of a recording, with their vectors; nothing is stored."""
        return recenter.recalibrate_stored(self.catalog, embed_audio(source, self.encoder(), self.speech))

    def recording(self, identifier: str) -> Recording:
        """One stored recording by its id, ``call:45``.

        Raises:
            NotStored: there is none.
        """
        return stored.recording(self.catalog, identifier)

    def segments(self, identifier: str) -> list[Segment]:
        """The segments of one stored recording, in order of time."""
        return stored.segments(self.catalog, identifier)

    def segment(self, identifier: str) -> Segment:
        """One stored segment by its id, ``seg:123``.

        Raises:
            NotStored: there is none.
        """
        return stored.segment(self.catalog, identifier)

    def clip(self, identifier: str, context_s: float = 0.0) -> Signal:
        """The sound of one stored segment, decoded from its recording: ``(1, samples)`` at 16 kHz.

        Args:
            identifier: ``seg:123``.
            context_s: heard before and after it as well.

        Raises:
            NotStored: there is no such segment.
            AudioError: its file is gone or damaged.
        """
        segment = self.segment(identifier)
        uri = self.recording(segment.recording).uri
        start_s = max(0.0, segment.start_s - context_s)
        return cut(uri, start_s, segment.end_s + context_s, channel=segment.channel)

    # -- changing ----------------------------------------------------------------------------------------------

    def find(self, *recordings: str, where: str | None = None) -> list[Recording]:
        """Stored recordings by id (``call:45``), by the file or folder they were ingested from, or by a filter.

        Raises:
            NotStored: one of them is not there.
            BadFilter: `where` does not parse, or names nothing known.
        """
        return find(self.catalog, recordings, where)

    def remove(self, *recordings: str, where: str | None = None) -> int:
        """Remove recordings, named as for `find`, with all that belongs to them; gives how many there were."""
        return self.catalog.remove([number_of(found.id, "call") for found in self.find(*recordings, where=where)])

    def attach(self, name: str, ids: Sequence[str | int] | NDArray[np.int64], vectors: ArrayLike) -> NamedVectors:
        """Attach side vectors to segments, to be combined with the emotion's by `query` with ``fuse``.

        Args:
            name: of the set they belong to, such as ``text``; made if need be.
            ids: the segments, ``seg:12`` or 12, each once.
            vectors: ``(n, dim)``, one for each; one that a segment has in this set is replaced.

        Returns:
            The set as it is now.

        Raises:
            NotStored: a segment that is not there.
            VectorFileError: vectors that are none, or not one for each id.
            SpaceMismatch: the set has vectors of another dimension.
            SettingsError: the name cannot be used.
        """
        numbers = [int(each) if isinstance(each, int | np.integer) else number_of(each, "seg") for each in ids]
        return named_vectors.attach(self.catalog, name, np.array(numbers, np.int64), vectors)

    def sides(self) -> tuple[NamedVectors, ...]:
        """The sets of side vectors that were attached."""
        return named_vectors.listed(self.catalog)

    def detach(self, name: str) -> int:
        """Drop a set of side vectors; gives how many segments had one.

        Raises:
            NotStored: there is none of that name.
        """
        return named_vectors.detach(self.catalog, name)

    # -- the index ---------------------------------------------------------------------------------------------

    def lens(self) -> SearchView:
        """What it is searched through right now: a projection, vectors and their index that belong together.

        Raises:
            NoCollection: nothing has been ingested yet.
            AnalysisError: the projection in use is damaged.
        """
        return self._lenses.now()

    def through(self, projection: str) -> SearchView:
        """What it would be searched through with another projection in use, ``raw`` for none.

        Raises:
            NotStored: there is no such projection.
        """
        return self._lenses.of(projection)

    def steady(self) -> AbstractContextManager[SearchView]:
        """Inside it, `lens`, `feed` and `index` give this thread one and the same, whatever is put to use meanwhile."""
        return self._lenses.steady()

    def feed(self) -> ProjectedVectors:
        """The stored vectors as they are compared: projected. As the encoder made them, `catalog.feed` has them.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        return self.lens().source

    def index(self) -> FaissEngine:
        """The vector index of what is searched now, opened once.

        Raises:
            NoCollection: nothing has been ingested yet.
        """
        return self.lens().index

    def index_folder(self, revision: str) -> Path:
        """Where the index of a projection is, by the projection's revision."""
        return self._lenses.folder(revision)

    def _cached(self) -> Path:
        return self.place.cached(self.settings.cache, self.catalog.collection_id)

    def build(
        self,
        kind: Kind | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        *,
        recall: float | None = None,
        retrain: bool = False,
    ) -> Manifest:
        """Build a new generation of the index; see `FaissEngine.build`, where `recall` is the target."""
        return self.index().build(kind, progress, target=recall, retrain=retrain)

    def backup(self, target: str | os.PathLike[str]) -> int:
        """Copy the database to a new file while others use it, and give its size in bytes; see `catalog.backup`.

        Raises:
            CatalogError: the file is there, or cannot be written; a collection in Postgres, which has pg_dump.
        """
        from e2vsearch.catalog.backup import backup

        return backup(self.catalog.url, Path(target).expanduser().absolute())

    def maintain(self, progress: Callable[[str, int, int], None] | None = None) -> Manifest | None:
        """Fit the projection that was adopted, and build a new generation, each if it is due.

        A generation is after many changes since the last, or if that is damaged; for the projection see `centring`.
        """
        wanted: tuple[Kind | None, float | None] = (None, None)
        replaced = recenter.recenter(self.catalog)
        if replaced is not None:
            folder = self.index_folder(replaced)
            if self.lens().projection.name in recenter.BY_ITSELF:  # as its index was built, the next one is
                wanted = FaissEngine(folder, self.feed(), self._index_options).wanted()
            shutil.rmtree(folder, ignore_errors=True)
        index = self.index()
        try:
            return index.build(wanted[0], progress, target=wanted[1]) if index.due() else None
        except GenerationBusy:  # another process is at it
            return None

    def due(self) -> str | None:
        """Why `maintain` has something to do; None if it has not."""
        return recenter.recentering_due(self.catalog) or self.index().due()

    @property
    def mending(self) -> str | None:
        """Why the index is being rebuilt right now, after a query that found it wanting; None if it is not."""
        return self._mender.mending


def _named(source: AudioSource) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"{type(source).__name__} audio"
