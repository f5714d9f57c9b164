"""How many recordings a second the queue in Postgres hands out and takes back, and where it saturates.

    python benchmarks/jobs.py             # 16 to 128 simulated workers of 50 ms a recording; some three minutes
    python benchmarks/jobs.py --quick     # 16 and 64 workers

Twice. The database by itself: pgbench, in C, sends what a worker sends to lease a recording and to end its lease, 50 ms
later, at the rate of so many workers, and then as fast as it can. And with the workers that there are
(`ingest.runner`, `ingest.worker`: threads, heartbeat, one recording leased ahead), whose recordings take 50 ms of
waiting, with nothing to store. Those are threads of four processes, 64 processes would be 6 GB, and share the cores of
this machine with the server: their processor time for each recording says how many machines they would fill. The ideal
is 20 a second for each.

The server is the tests', which does not wait for its disk.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _postgres import from_tests, server
from _table import Row, parser, show
from sqlalchemy import make_url, text

import e2vsearch
from e2vsearch.catalog import queue
from e2vsearch.catalog.queue import NewJob
from e2vsearch.catalog.schema import DEAD_LETTER, LEASED, QUEUED
from e2vsearch.ingest.recording import LoadedRecording
from e2vsearch.ingest.reports import RecordingReport
from e2vsearch.ingest.runner import IngestRunner
from e2vsearch.ingest.worker import LeasedJobs, WorkerOptions

WORK_S = 0.05
PROCESSES = 4
FILL = f"""
INSERT INTO job (uri, state, priority, attempts, enqueued_at, due_at)
SELECT '/calls/' || n || '.wav', '{QUEUED}', 0, 0, clock_timestamp(), clock_timestamp()
FROM generate_series(1, :count) AS n
"""
SECONDS = 10.0


LEASE = f"""
BEGIN;
SELECT id AS job, attempts FROM job WHERE due_at <= clock_timestamp() AND state <> '{DEAD_LETTER}'
    ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED \\gset
UPDATE job SET state = '{LEASED}', attempts = :attempts + 1, worker = 'machine:1:0', token = cast(:client_id AS text),
    due_at = clock_timestamp() + interval '60 s' WHERE id = :job;
COMMIT;
"""
"""As `catalog.queue.take` sends it."""

END = f"""
BEGIN;
DELETE FROM job WHERE id = :job AND token = cast(:client_id AS text) AND state = '{LEASED}'
    AND due_at > clock_timestamp() RETURNING uri \\gset
DELETE FROM ingest_failure WHERE uri = :uri;
COMMIT;
"""
"""As `catalog.rows.end_job` sends it."""


MOST_CLIENTS = 160
"""Of pgbench: the tests' server takes 200 connections, and each worker needs one while it waits."""


def database(url: str, workers: int, seconds: float) -> list[Row]:
    """Return the rate of the database by itself, at the rate of so many workers; of none: as fast as it can."""
    postgres = from_tests("postgres")
    found = make_url(url)
    with tempfile.TemporaryDirectory() as folder, e2vsearch.open(url, encoder="fake", create=True) as collection:
        queue.clear(collection.catalog)
        with collection.catalog.writing() as connection:
            connection.execute(text(FILL), {"count": int((seconds + 2) * (workers / WORK_S if workers else 8_000))})
        script = Path(folder, "script.sql")
        wait_us = round(WORK_S * 1e6) if workers else 0
        script.write_text(f"{LEASE}\\sleep {wait_us} us\n{END}" if workers else LEASE + END)
        clients = min(2 * workers, MOST_CLIENTS) or 16
        command = [
            str(postgres._binaries() / "pgbench"), "--no-vacuum", "--client", str(clients), "--jobs", "2",
            "--time", str(round(seconds)), "--file", str(script), "--protocol", "prepared",
            "--host", str(found.query["host"]), "--username", str(found.username), str(found.database),
        ]  # fmt: skip
        if workers:
            command[1:1] = ["--rate", str(round(workers / WORK_S))]
        before = _server_seconds(collection)
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"pgbench failed: {ran.stderr[-500:]}")
        done = ran.stdout
        used = _server_seconds(collection) - before
    (rate,) = re.findall(r"tps = ([\d.]+)", done)
    (count,) = re.findall(r"actually processed: (\d+)", done)
    ideal = workers / WORK_S
    shown = Row("the database, as fast as it can", float(rate), "recordings/s")
    if workers:
        name = f"the database, {workers} workers' rate"
        shown = Row(name, float(rate), "recordings/s", float(rate) / ideal, f"{ideal:,.0f}, the ideal")
    return [shown, Row("  processor time of the server", used / int(count) * 1e3, "ms each")]


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
        url, seconds = template.format(name="postgres"), 5.0 if arguments.quick else SECONDS
        counts = (16, 64) if arguments.quick else (16, 32, 64, 96, 128)
        for count in (*counts, 0):
            rows += database(url, count, seconds)
        for count in counts:
            rows += measured(url, count, seconds)
    show(f"the queue alone, {WORK_S * 1e3:.0f} ms a recording", rows, arguments.json)


if __name__ == "__main__":
    main()
