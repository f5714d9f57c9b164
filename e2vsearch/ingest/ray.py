"""Starts workers on the machines of a Ray cluster; the queue in Postgres holds the state of the work.

Ray's own checkpoints are for files, and let work be done twice (ray-project/ray 59409, 61047). Here an actor runs the
loop of `e2vsearch worker`, and each recording is stored together with the end of its lease: an actor, a node, a spot
machine or the driver that is lost costs what was in work there, once more, and nothing that is stored.

Nodes need this version of e2vsearch, the database, and the recordings by the same names: in a bucket, or in a folder
that all of them mount at the same place.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import URL

from e2vsearch._version import __version__
from e2vsearch.catalog import queue, recordings
from e2vsearch.errors import E2vsearchError, ServiceError, SettingsError, first_line, missing_extra
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.worker import WorkerOptions

LOCAL = "local"
"""The address of a cluster of this machine's cores, which is started and ended with the work."""

_LOOK_S = 1.0  # between two looks at the queue
_LOST_IN_A_ROW = 10  # actors, beyond one each, without a recording done: something is wrong with the nodes


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Options of work on a Ray cluster."""

    address: str = "auto"  # ``ray://host:10001``, ``host:6379`` from a node, ``auto``, or `LOCAL`
    actors: int = 0  # at a time; 0: as many as the cluster holds, also when it grows or shrinks
    cpus: float = 1.0  # of each actor
    gpus: float = 0.0  # of each actor: several share one with 0.25

    def __post_init__(self) -> None:
        for name, ok in (("actors", self.actors >= 0), ("cpus", self.cpus > 0), ("gpus", self.gpus >= 0)):
            if not ok:
                raise SettingsError(f"--ray-{name} is {getattr(self, name)}: give more, see e2vsearch ingest --help")


@dataclass(frozen=True, slots=True)
class RayReport:
    """The outcome of work on a cluster, as counted in the database."""

    recordings: int  # more than before
    dead_letters: int
    lost: int  # actors that ended without a word: their recordings were taken by others
    left: int  # queued or leased, where it was stopped
    seconds: float


def work_on_ray(
    context: IngestContext,
    options: RayOptions | None = None,
    work: WorkerOptions | None = None,
    *,
    stop: threading.Event | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> RayReport:
    """Ingest what is queued on a Ray cluster, until nothing is left.

    Args:
        context: of the collection, which is in Postgres.
        options: where, how many actors, and what each takes.
        work: options of each worker; of 0 `workers` it takes one for each of its CPUs.
        stop: set it to end: actors finish what they have in work, and the rest stays queued. Ctrl-C does so.
        progress: called with the recordings done, and of how many.

    Raises:
        SettingsError: the collection is not in Postgres.
        MissingExtra: Ray is not installed.
        ServiceError: no cluster is there, it was lost, or its nodes cannot run a worker.
        E2vsearchError: what ended a worker, see `e2vsearch.ingest.worker.work`.
    """
    options, work, stop = options or RayOptions(), work or WorkerOptions(), stop or threading.Event()
    check_place(context.catalog.url, context.catalog.name)
    work = replace(work, drain=True, workers=work.workers or max(1, round(options.cpus)))
    started, before, depth = time.monotonic(), recordings.count(context.catalog), queue.depth(context.catalog)
    with _connected(options.address) as ray:
        driver = _Driver(ray, context, options, work, stop)
        try:
            driver.run(progress)
        except KeyboardInterrupt:
            stop.set()
        except ray.exceptions.RayError as error:
            raise ServiceError(f"the Ray cluster was lost ({first_line(error)}) - run it again to go on") from error
        finally:
            driver.end()
    left = queue.depth(context.catalog)
    return RayReport(
        recordings=recordings.count(context.catalog) - before,
        dead_letters=max(0, left.dead_letters - depth.dead_letters),
        lost=driver.lost,
        left=left.queued + left.leased,
        seconds=time.monotonic() - started,
    )


def check_place(url: URL, name: str) -> None:
    """See that machines can share a collection.

    Raises:
        SettingsError: it is not in Postgres.
    """
    if url.get_backend_name() != "postgresql":
        raise SettingsError(
            f"{name} is SQLite, which one machine has - make the collection in Postgres, with --index "
            "postgresql://user@host/NAME: e2vsearch export, then import, brings one over"
        )


class RayWorker:
    """An actor: the loop of a worker, in a process of the cluster."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def work(self, version: str, reopen: Callable[[], AbstractContextManager[Any]], options: WorkerOptions) -> None:
        """Ingest what is queued, until nothing is left or `stop` is called."""
        if version != __version__:
            raise SettingsError(f"a node of the cluster has e2vsearch {__version__}, and not {version} - install that")
        with reopen() as collection:
            collection.queue.work(options, stop=self._stop)

    def stop(self) -> None:
        """Have `work` end once what is in work is done."""
        self._stop.set()


class _Driver:
    """Keeps as many actors at work as there is room and need for."""

    def __init__(
        self, ray: Any, context: IngestContext, options: RayOptions, work: WorkerOptions, stop: threading.Event
    ) -> None:
        self.lost = 0
        self._ray = ray
        self._catalog = context.catalog
        self._options = options
        self._work = work
        self._stop = stop
        self._actors: dict[Any, Any] = {}  # by what their work returns
        settings = context.settings
        self._reopen = partial(
            context.reopen,
            context.catalog.url.render_as_string(hide_password=False),
            encoder=settings.named_encoder or None,
            device="cuda" if options.gpus and settings.device == "cpu" else settings.device,
            precision=settings.precision or None,
        )
        # `stop` is called while `work` runs. Ray restarts no actor: how many are wanted is seen here
        self._kind = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_concurrency=2)(RayWorker)

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Start actors until nothing is left to do, or `stop` is set."""
        total = in_a_row = 0
        left_before = -1
        while not self._stop.is_set():
            depth = queue.depth(self._catalog)
            left = depth.queued + depth.leased
            total = max(total, left)
            progress(total - left, total)
            if not left and not self._actors:
                return
            in_a_row = in_a_row if left == left_before else 0
            left_before = left
            wanted = min(left, self._options.actors or self._room())
            for _ in range(wanted - len(self._actors)):
                self._start()
            lost = self._ended(_LOOK_S)
            in_a_row += lost
            if in_a_row > _LOST_IN_A_ROW + wanted:
                raise ServiceError(
                    f"{in_a_row} actors ended as soon as they had started - is e2vsearch installed on every node, with "
                    "'postgres' and the encoder's extra?"
                )

    def end(self) -> None:
        """Have all actors finish what they have in work, and end those that take longer than a lease."""
        for actor in self._actors.values():
            with suppress(Exception):
                actor.stop.remote()
        until = time.monotonic() + self._work.lease_s
        with suppress(Exception):
            while self._actors and time.monotonic() < until:
                self._ended(_LOOK_S)
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor)

    def _start(self) -> None:
        actor = self._kind.remote()
        self._actors[actor.work.remote(__version__, self._reopen, self._work)] = actor

    def _room(self) -> int:
        """Return how many actors the cluster holds; one at least, for which it may start a node."""
        has = self._ray.cluster_resources()
        room = has.get("CPU", 0.0) / self._options.cpus
        if self._options.gpus:
            room = min(room, has.get("GPU", 0.0) / self._options.gpus)
        return max(1, int(room + 1e-6))

    def _ended(self, timeout_s: float) -> int:
        """Wait for actors to end, and return how many were lost.

        Raises:
            E2vsearchError: what ended one.
        """
        if not self._actors:
            self._stop.wait(timeout_s)
            return 0
        ready, _ = self._ray.wait(list(self._actors), num_returns=len(self._actors), timeout=timeout_s)
        lost = 0
        for done in ready:
            del self._actors[done]
            try:
                self._ray.get(done)
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, E2vsearchError):
                    raise error.cause from None
                raise ServiceError(f"a worker failed: {str(error.cause)[:300]} - see the log of its node") from error
            except self._ray.exceptions.RayActorError:
                lost += 1
        self.lost += lost
        return lost


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connect to a cluster, or start one of this machine's cores.

    Raises:
        MissingExtra, ServiceError: Ray is not installed, or no cluster is there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports home unless it is told not to
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise missing_extra("ingesting on a Ray cluster", "ray") from error
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        alone = {"include_dashboard": False} if address == LOCAL else {}
        ray.init(address, log_to_driver=False, **alone)
    except Exception as error:  # of many kinds, by where it fails
        raise ServiceError(
            f"no Ray cluster can be used at {address} ({first_line(error)}) - start one with: ray start --head, or "
            "use --ray local"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray puts its own in their place
                signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()
