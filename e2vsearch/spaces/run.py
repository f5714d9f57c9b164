"""Re-embedding: new vectors beside the old ones, a new index, one switch, and the former space deleted.

Every step can be stopped, by Ctrl-C or a kill, and done again: which recordings have vectors of the new space, and
whether the switch has happened, is in the database. Searches are answered in the former space until the switch, and in
the new one from then on, by whatever process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.catalog import erasure, projections, space_switch, spaces
from e2vsearch.catalog.spaces import LEAVING, LeftBehind
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoder_check import check_encoder, pin_reference
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.registry import SAVED, open_encoder
from e2vsearch.errors import (
    AudioForbidden,
    AudioNotFound,
    AudioUnreachable,
    CatalogError,
    E2vsearchError,
    SettingsError,
)
from e2vsearch.files import legible, local_path, stat_of, uri_scheme
from e2vsearch.index import Index
from e2vsearch.ingest.reports import FileFailure
from e2vsearch.ingest.runner import IngestRunner
from e2vsearch.ingest.throttle import ThrottledEncoder
from e2vsearch.pipeline import TIME_RANGE
from e2vsearch.projections import refit
from e2vsearch.projections.base import RAW
from e2vsearch.projections.view import Views
from e2vsearch.settings import Settings, cores
from e2vsearch.spaces.report import ReembedPlan, ReembedReport
from e2vsearch.spaces.work import StoredRecordings
from e2vsearch.types import Space, recording_id

_log = logging.getLogger(__name__)

_WAIT_S = 600.0  # for another builder of the new index

_FOR_NOW = {AudioUnreachable.reason, AudioForbidden.reason}
"""Reasons for which no recording is removed: the audio may be read again when a store, or a person, lets us."""


def reembed(
    catalog: Catalog,
    views: Views,
    index: Index,
    settings: Settings,
    encoder: str | Encoder,
    *,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    keep_old: bool = False,
    allow_missing: bool = False,
    progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
    stopping: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> ReembedReport:
    """Embed the stored segments of a collection with another encoder, and switch to its space.

    Segments keep their ids and times, so labels, transcripts and the audit log stay valid. What is ingested or removed
    meanwhile is caught up with before the switch. Run again after it was stopped, it goes on where it was, or deletes
    what a switch has left.

    Args:
        catalog: of the collection.
        views: of the collection.
        index: of the collection.
        settings: of which device and number of workers are used.
        encoder: a name, a model folder, or an open encoder.
        device: where it runs.
        precision: of emotion2vec.
        workers: recordings in work at a time.
        keep_old: keep vectors and index of the former space: switching back then embeds nothing again.
        allow_missing: remove recordings, and examples of labels, whose audio is gone, damaged or another now. Without
            it there is no switch while there are any; nor with it while a store does not give some.
        progress: called with ``(stage, done, total)``; stages are ``recordings`` and those of an index build.
        stopping: called once when it is told to end, with the number of recordings that are waited for.
        stop: set it from another thread to end early, as Ctrl-C does.

    Raises:
        NoCollection: nothing is stored yet.
        SettingsError: vectors of a third space are beside the one in use; the collection holds saved vectors; or no
            recording's audio is there at all.
        EncoderError, MissingExtra: the encoder cannot be opened.
        SpaceChanged: another process has ended this re-embedding.
    """
    opened = _opened(catalog, settings, encoder, device, precision)
    run = _Run(catalog, views, index, opened, keep_old, allow_missing, progress, stopping, stop or threading.Event())
    run.workers = workers or settings.workers or opened.calls_at_once or cores()
    return run.report()


def plan(
    catalog: Catalog,
    settings: Settings,
    encoder: str | Encoder,
    *,
    device: str | None = None,
    precision: str | None = None,
) -> ReembedPlan:
    """Return what `reembed` would do; nothing is read of the audio, and nothing is written.

    Raises:
        NoCollection, SettingsError, EncoderError, MissingExtra: as `reembed`.
    """
    opened = _opened(catalog, settings, encoder, device, precision)
    before, other = catalog.require_space(), spaces.beside(catalog)
    if opened.space == before:
        return ReembedPlan(before, before, 0, spaces.spoken(catalog), ())
    spaces.check_only(catalog, opened.space)
    same = other is not None and other.space == opened.space and other.state != LEAVING
    numbers = spaces.pending(catalog, other.vectors if other is not None and same else None)
    missing = []
    for number, recording in catalog.recordings(numbers):
        if uri_scheme(recording.uri) not in (None, "file"):
            continue  # a store is not asked for each of them
        try:
            stat_of(local_path(recording.uri))
        except E2vsearchError as error:
            missing.append(FileFailure(recording.uri, error.reason, f"{recording_id(number)}: {error}"))
    return ReembedPlan(before, opened.space, len(numbers), spaces.spoken(catalog) - len(numbers), tuple(missing))


def discard(catalog: Catalog, index: Index) -> Space | None:
    """Delete the space that is not in use, unfinished or kept, and return it; None where there is none."""
    other = spaces.beside(catalog)
    if other is None:
        return None
    spaces.keep(catalog, other.number, kept=False)
    clean(catalog, index)
    return other.space


def clean(catalog: Catalog, index: Index) -> str:
    """Delete the space that is leaving, if there is one: vectors, projections, indexes, kept queries and cosines.

    Returns:
        Why the database's log may still hold bytes of it, "" if it does not.
    """
    other = spaces.beside(catalog)
    if other is None or other.state != LEAVING:
        return ""
    index.drop_other_spaces()
    spaces.clear(catalog, other)
    try:
        erasure.scrub(catalog, vacuum=False)
    except CatalogError as error:  # others read: what is left is overwritten with the log, or by `forget`
        return str(error)
    return ""


def _opened(
    catalog: Catalog, settings: Settings, encoder: str | Encoder, device: str | None, precision: str | None
) -> Encoder:
    catalog.require_space()
    if catalog.encoder_source == SAVED:
        raise SettingsError(
            f"{catalog.name} holds saved vectors, whose audio nobody embedded here - ingest the recordings themselves "
            "into another collection, with --index ANOTHER"
        )
    if isinstance(encoder, Encoder):
        return encoder
    return open_encoder(encoder, device or settings.device, precision or settings.precision or "fp32")


@dataclass
class _Run:
    """One run, from where the last one ended."""

    catalog: Catalog
    views: Views
    index: Index
    encoder: Encoder
    keep_old: bool
    allow_missing: bool
    progress: Callable[[str, int, int], None]
    stopping: Callable[[int], None]
    stop: threading.Event
    workers: int = 1
    recordings: int = 0
    segments: int = 0
    failures: dict[int, FileFailure] = field(default_factory=dict)
    examples: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    example_failures: list[FileFailure] = field(default_factory=list)

    def report(self) -> ReembedReport:
        """Do all that is left to do, and return what was done."""
        started = time.monotonic()
        before, after = self.catalog.require_space(), self.encoder.space
        left, already, removed, log_left = LeftBehind(), 0, 0, ""
        switched = before == after
        if switched:  # by a run that was killed then, perhaps
            already = spaces.spoken(self.catalog)
            other = spaces.beside(self.catalog)
            if other is not None and other.state != spaces.BUILDING and not self.keep_old:
                spaces.keep(self.catalog, other.number, kept=False)
            log_left = clean(self.catalog, self.index)
            self.index.maintain()
        else:
            clean(self.catalog, self.index)  # of a third space that a killed run left
            source = self.encoder.opened_by or after.encoder
            target = self.catalog.in_space(spaces.begin(self.catalog, after, source))
            pin_reference(target, self.encoder)
            check_encoder(target, self.encoder)
            already = spaces.spoken(self.catalog) - len(spaces.pending(self.catalog, target.vectors))
            left = spaces.left_behind(self.catalog)
            switched = self._filled(target) and self._switched(target)
            if switched:
                removed = len(self.failures) + len(self.example_failures)
                self.views.follow()
                self.index.maintain()
                log_left = clean(self.catalog, self.index)
        return ReembedReport(
            before=before,
            after=after,
            switched=switched,
            interrupted=self.stop.is_set(),
            recordings=self.recordings,
            segments=self.segments,
            already=already,
            missing=(*self.failures.values(), *self.example_failures),
            removed=removed,
            kept=self.keep_old and switched,
            log_left=log_left,
            classifiers=left.classifiers,
            maps=left.maps,
            projections=tuple(name for name in left.projections if name not in refit.NAMES),
            seconds=time.monotonic() - started,
        )

    def _filled(self, target: Catalog) -> bool:
        """Embed what lacks vectors; whether there can be a switch."""
        self._embed(target, note=False)
        self._embed_examples()
        if self.stop.is_set():
            return False
        if self.failures and len(self.failures) == spaces.spoken(self.catalog):
            raise SettingsError(
                f"no recording of {self.catalog.name} can be read again (the first: "
                f"{next(iter(self.failures.values())).message}) - is a disk or share missing? Nothing was changed"
            )
        return self._may_switch()

    def _may_switch(self) -> bool:
        """Whether all has vectors, or what has none may be removed: not what a store did not give for the moment."""
        failures = (*self.failures.values(), *self.example_failures)
        return not failures or (self.allow_missing and not {each.reason for each in failures} & _FOR_NOW)

    def _embed(self, target: Catalog, *, note: bool) -> None:
        """Embed what lacks vectors until nothing new does."""
        known: set[int] = set()
        while not self.stop.is_set():
            numbers = [each for each in spaces.pending(self.catalog, target.vectors) if each not in self.failures]
            numbers = [each for each in numbers if each not in known]
            if not numbers:
                return
            known.update(numbers)
            limited = self.encoder.calls_at_once
            encoder = ThrottledEncoder(self.encoder, self.stop) if limited else self.encoder
            step = _named(self.progress, "recordings")
            source = StoredRecordings(target, numbers, encoder, self.workers, self.stop, note=note, progress=step)
            IngestRunner(source, self.workers, self.stop, self.stopping).run()
            self.recordings += source.recordings
            self.segments += source.segments
            self.failures |= source.failures

    def _embed_examples(self) -> None:
        """Embed the examples of labels anew that are no stored segments, from their files."""
        for example in spaces.file_examples(self.catalog):
            if example.id in self.examples or self.stop.is_set():
                continue
            self.examples[example.id] = None
            try:
                self.examples[example.id] = self._embedded(example.source)
            except E2vsearchError as error:
                why = f"an example of label {example.label!r}: {error}"
                self.example_failures.append(FileFailure(example.source, error.reason, legible(why)))

    def _embedded(self, source: str) -> NDArray[np.float32]:
        part = TIME_RANGE.fullmatch(source)
        if part is None or not local_path(part["head"]).is_file():
            raise AudioNotFound(f"{source} is no file that is there - label it again after the switch")
        at = float(part["start"]), float(part["end"])
        channel = int(part["channel"] or 0)
        signal = audio.cut(local_path(part["head"]), *at, channel=channel, stop=self.stop.is_set)
        vector: NDArray[np.float32] = self.encoder.encode([signal[0]]).vectors[0]
        return vector

    def _switched(self, target: Catalog) -> bool:
        """Build the new index, catch up with what came and went meanwhile, and switch."""
        through = self._build(target)
        while not self.stop.is_set():
            self._embed(target, note=True)
            self._embed_examples()
            if self.stop.is_set() or not self._may_switch():
                return False
            assert target.space_number is not None
            if space_switch.switch(
                self.catalog,
                target.space_number,
                without=list(self.failures),
                examples=self.examples,
                projection=through,
                keep=self.keep_old,
            ):
                return True
        return False

    def _build(self, target: Catalog) -> str | None:
        """Fit the projection that the new space is searched through, build its index, and return the projection."""
        refit.install(target, self.encoder)
        refit.refit(target, anew=True)
        adopted = [name for name in refit.NAMES if projections.find(target, name) is not None]
        stored = [name for name in refit.NAMES if projections.find(self.catalog, name) is not None]
        raw_by_choice = bool(stored) and projections.used(self.catalog) is None
        through = adopted[0] if adopted and not raw_by_choice else None
        view = self.views.in_space(target).named(through or RAW.name)
        view.index.drop(_WAIT_S)  # of a run that was killed: vectors came since that no change feed tells of
        kind, recall = self.index.engine.requested()
        if kind is not None or view.index.due():
            view.index.build(kind, self.progress, _WAIT_S, target=recall)
        view.background.refresh()
        return through


def _named(progress: Callable[[str, int, int], None], stage: str) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> Any:
        progress(stage, done, total)

    return step
