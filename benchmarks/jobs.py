"""How many recordings a second the queue in Postgres hands out and takes back, and where it saturates.

    python benchmarks/jobs.py             # 1 to 128 simulated workers of 50 ms a recording; some two minutes
    python benchmarks/jobs.py --quick     # 16 and 64 workers

Each worker is the real one (`ingest.runner`, `ingest.worker`: leases, heartbeat, one recording leased ahead), with a
recording that takes 50 ms of waiting to load, and nothing to store but the end of its lease. So the ideal rate is
20 a second for each. Workers are threads of a few processes: 64 of them, each its own process, would be 6 GB. A real
worker stores more with each recording, and decodes: on this machine a hundredth of these rates is real work.

The server is the tests', which does not wait for its disk; clients and server share the cores of this machine. Their
processor time for each recording says what either would cost elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _postgres import server
from _table import Row, parser, show
from sqlalchemy import text

import e2vsearch
from e2vsearch.catalog import queue
from e2vsearch.catalog.queue import NewJob
from e2vsearch.ingest.recording import LoadedRecording
from e2vsearch.ingest.reports import RecordingReport
from e2vsearch.ingest.runner import IngestRunner
from e2vsearch.ingest.worker import LeasedJobs, WorkerOptions

WORK_S = 0.05
PROCESSES = 4
SECONDS = 10.0


class Simulated:
    """Loads by waiting, and stores nothing."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog

    def load(self, source: Any, row: Any = None) -> LoadedRecording:  # noqa: ARG002 - as the real one
        """Wait as long as a recording takes."""
        time.sleep(WORK_S)
        return LoadedRecording(source, str(source), None)

    def store(self, loaded: LoadedRecording, lease: Any) -> RecordingReport:
        """End the lease."""
        queue.finish(self._catalog, lease)
        return RecordingReport(loaded.uri, "already")


def workers(url: str, count: int, seconds: float) -> None:
    """Run so many workers in this process for so long; prints recordings and processor seconds, when all have begun."""
    from sqlalchemy import create_engine

    with e2vsearch.open(url) as collection:
        catalog, context = collection.catalog, collection.queue
        # as many connections as processes of their own would have
        catalog._engine = create_engine(catalog.url, pool_size=2 * count, pool_pre_ping=True)
        stop = threading.Event()
        sources = [
            LeasedJobs(context, Simulated(catalog), WorkerOptions(workers=1), 1, stop)  # type: ignore[arg-type]
            for _ in range(count)
        ]
        with ThreadPoolExecutor(count) as pool:
            running: list[Future[None]] = [pool.submit(IngestRunner(source, 1, stop).run) for source in sources]
            time.sleep(2.0)
            before, used = sum(each.report().already for each in sources), time.process_time()
            started = time.perf_counter()
            time.sleep(seconds)
            done = sum(each.report().already for each in sources) - before
            spent, busy = time.perf_counter() - started, time.process_time() - used
            stop.set()
        for each in running:
            each.result()
    print(done / spent, busy / max(done, 1))


def measured(url: str, count: int, seconds: float) -> list[Row]:
    """Return the rate of so many workers, beside the ideal one, and what a recording costs."""
    processes = min(PROCESSES, count)
    expected = int(count / WORK_S * (seconds + 6))
    with e2vsearch.open(url, encoder="fake", create=True) as collection:
        queue.clear(collection.catalog)
        queue.enqueue(collection.catalog, (NewJob(f"/calls/{number:08}.wav") for number in range(expected)))
        command = [sys.executable, __file__, "--work", url, str(count // processes), str(seconds)]
        server_before = _server_seconds(collection)
        fleet = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        found = [process.communicate()[0].split() for process in fleet]
        server_used = _server_seconds(collection) - server_before
        left = queue.depth(collection.catalog)
        finished = expected - left.queued - left.leased
    rate, client = sum(float(each[0]) for each in found), sum(float(each[1]) for each in found) / processes
    ideal = count / WORK_S
    return [
        Row(f"{count} workers", rate, "recordings/s", rate / ideal, f"{ideal:,.0f}, the ideal"),
        Row("  processor time of the clients", client * 1e3, "ms each"),
        Row("  processor time of the server", server_used / max(finished, 1) * 1e3, "ms each"),
    ]


def _server_seconds(collection: e2vsearch.Collection) -> float:
    """Processor time of all processes of the server, those that have ended included."""
    with collection.catalog.reading() as connection:
        backend = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    postmaster = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat.parent.name == postmaster:
            ticks += sum(int(each) for each in fields[13:15])  # of its children that have ended
        if fields[1] == postmaster:
            ticks += sum(int(each) for each in fields[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure rates by the number of workers."""
    options = parser(__doc__)
    options.add_argument("--work", nargs=3, metavar=("URL", "COUNT", "SECONDS"), help="be the workers of one process")
    arguments = options.parse_args()
    if arguments.work:
        url, count, seconds = arguments.work
        workers(url, int(count), float(seconds))
        return
    rows: list[Row] = []
    with server() as template:
        for count in (16, 64) if arguments.quick else (1, 16, 32, 64, 96, 128):
            rows += measured(template.format(name="postgres"), count, 4.0 if arguments.quick else SECONDS)
    show(f"the queue alone, {WORK_S * 1e3:.0f} ms a recording", rows, arguments.json)


if __name__ == "__main__":
    main()
