"""Kills nodes and the driver of a Ray cluster on this machine, and measures its rate beside plain workers.

    python benchmarks/cluster.py             # four nodes, a thousand recordings, five minutes of kills; some 12 minutes
    python benchmarks/cluster.py --quick     # two nodes, 16 recordings; a node and the driver are killed

Nodes are started by `ray.cluster_utils.Cluster`, in a network of their own (`unshare -n`) where that is allowed: Ray
picks the address of this machine's network, which may reach nothing. Postgres is the tests' server, by its Unix socket.
A node is lost as a spot machine is: its processes get SIGKILL, and another one comes. So does the driver, which is
started again and finds the queue as it is. Recordings are made, 10 s of speech each, and embedded by `light`.

The efficiency is the rate of as many actors beside that of plain `e2vsearch worker` processes, taken in turns: of the
recordings between the first and the last tenth, so that starting is not counted. On a machine that others use as well
the rate depends on them; the workers' processor time for each recording does not.

Exit code 1 unless every recording is stored exactly once, and none is left.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _postgres import CHECKOUT, from_tests, server
from _table import Row, parser, show
from sqlalchemy import func, select

import e2vsearch
from e2vsearch.catalog import queue
from e2vsearch.catalog import recordings as recordings_in
from e2vsearch.catalog.schema import ChangeRow, RecordingRow, SegmentRow

LEASE_S = 5.0
STORE_BYTES = 80_000_000  # of each node's shared memory, of which nothing is used
DRAIN_S = 600.0
CALL_S = 10.0
KILL_EVERY_S = 25.0  # on average: two cores take some ten seconds to start what is lost
VOICES = 12

DRIVER = """
import sys, e2vsearch
from e2vsearch.ingest.ray import RayOptions
from e2vsearch.ingest.worker import WorkerOptions
index, address, actors, lease_s = sys.argv[1:]
with e2vsearch.open(index) as collection:
    work = WorkerOptions(lease_s=float(lease_s), poll_s=0.2)
    print(collection.queue.work_on_ray(RayOptions(address, actors=int(actors)), work), flush=True)
"""


class Calls:
    """Made recordings, no two alike."""

    def __init__(self, folder: Path, seconds: float) -> None:
        made = from_tests("made")
        self._folder = folder
        self._save = made.save
        self._voices = [made.speech(seconds, seed=seed, pitch_hz=100 + 12 * seed) for seed in range(VOICES)]
        self._samples = self._voices[0].size
        self.made = 0

    def more(self, count: int) -> list[Path]:
        """Write so many more."""
        paths = []
        for _ in range(count):
            rng = np.random.default_rng(self.made)
            signal = self._voices[self.made % VOICES] + rng.normal(0, 1e-3, self._samples).astype(np.float32)
            paths.append(self._save(self._folder / f"{self.made:05}.wav", signal))
            self.made += 1
        return paths


class Nodes:
    """A head that works on nothing, and nodes of one CPU that come and go."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        try:
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
        except Exception as error:  # Ray has no type of its own for it
            raise SystemExit(
                f"Ray's head did not start ({error}): what runs beside it has 15 s, whatever else the machine does "
                "(Ray's issue 65983) - run this while it does less"
            ) from error
        self._nodes: list[Any] = []
        self.lost = 0
        for _ in range(count):
            self.add()

    @property
    def address(self) -> str:
        """Where drivers connect to."""
        return str(self._cluster.address)

    def add(self) -> None:
        """Start a node."""
        self._nodes.append(self._cluster.add_node(wait=False, num_cpus=1, object_store_memory=STORE_BYTES))

    def lose(self, rng: random.Random) -> None:
        """Kill one, with all that runs on it."""
        self._cluster.remove_node(self._nodes.pop(rng.randrange(len(self._nodes))), allow_graceful=False)
        self.lost += 1

    def end(self) -> None:
        """End all of them."""
        self._cluster.shutdown()


class Driver:
    """One driver at a time, in a process of its own."""

    def __init__(self, url: str, address: str, actors: int, log: Path) -> None:
        self._command = [sys.executable, "-c", DRIVER, url, address, str(actors), str(LEASE_S)]
        self._log = log
        self.killed = 0
        self.failed: list[str] = []
        self._start()

    def _start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it, and start another."""
        self._process.kill()
        self._process.wait()
        self.killed += 1
        self._start()

    def look(self, *, again: bool) -> bool:
        """Return whether it runs; one that has ended is started again if there is more to do."""
        code = self._process.poll()
        if code is None:
            return True
        if code:
            self.failed.append(f"exit code {code}: {self._log.read_text()[-500:]}")
        if again:
            self._start()
        return again

    def end(self) -> None:
        """Wait for it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        self._process.kill()
        self._process.wait()


def campaign(
    url: str, nodes: Nodes, calls: Calls, recordings: int, seconds: float, log: Path, *, quick: bool
) -> list[Row]:
    """Kill nodes and drivers while recordings are ingested, and see what is stored."""
    rng = random.Random(0)
    with e2vsearch.open(url, encoder="light", create=True) as collection:
        collection.queue.pinned_encoder()
        queued = collection.queue.add(*calls.more(recordings)).queued
        catalog = collection.catalog
        driver = Driver(url, nodes.address, 0, log)
        started = last_kill = time.monotonic()
        try:
            while True:
                spent = time.monotonic() - started
                depth = queue.depth(catalog)
                left = depth.queued + depth.leased
                if spent < seconds and not quick and left < 20:
                    queued += collection.queue.add(*calls.more(50)).queued
                done = queued - left
                if quick:
                    due = nodes.lost + driver.killed < 2 and done >= (1 + nodes.lost + driver.killed) * recordings // 4
                else:
                    due = spent < seconds and time.monotonic() - last_kill > KILL_EVERY_S * rng.uniform(0.5, 1.5)
                if due:
                    if rng.random() < 0.6 if not quick else not nodes.lost:
                        nodes.lose(rng)
                        nodes.add()
                    else:
                        driver.kill()
                    last_kill = time.monotonic()
                    print(
                        f"{spent:.0f} s: {done} of {queued}, {nodes.lost} nodes, {driver.killed} drivers",
                        file=sys.stderr,
                    )
                if (not left and (quick or spent > seconds)) or spent > seconds + DRAIN_S:
                    break
                driver.look(again=left > 0)
                time.sleep(0.2)
        finally:
            driver.end()
        spent = time.monotonic() - started
        with catalog.reading() as connection:
            stored, distinct = connection.execute(
                select(func.count(), func.count(RecordingRow.uri.distinct())).select_from(RecordingRow)
            ).one()
            segments = connection.execute(select(func.count()).select_from(SegmentRow)).scalar_one()
            changes = connection.execute(select(func.count()).select_from(ChangeRow)).scalar_one()
        depth, failures = queue.depth(catalog), catalog.counts().failures
    checks = {
        "every recording is stored, and once": stored == distinct == queued,
        "every segment was added once": changes == segments,
        "nothing is left in the queue": depth.queued + depth.leased + depth.dead_letters == 0,
        "nothing failed": failures == 0,
        "no driver failed by itself": not driver.failed,
    }
    for each in driver.failed:
        print(each, file=sys.stderr)
    rows = [
        Row("recordings queued", queued),
        Row("recordings stored", stored, "", stored / queued, "recordings queued"),
        Row("nodes lost", nodes.lost),
        Row("drivers lost", driver.killed),
        Row("seconds, until the queue was empty", spent, "s"),
    ]
    return rows + [Row(f"{name} (1: yes)", float(held)) for name, held in checks.items()]


class ProcessorTime:
    """Adds up the processor time of the processes whose command line has some bytes, while they run."""

    def __init__(self, marks: dict[str, bytes]) -> None:
        self._marks = marks
        self._seen: dict[tuple[str, str], int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def seconds(self, kind: str) -> float:
        """Return what all processes of a kind took so far; of one that has ended, up to a fifth of a second before."""
        return sum(ticks for (of, _), ticks in self._seen.items() if of == kind) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    for kind, mark in self._marks.items():
                        if mark in command:
                            fields = (process / "stat").read_text().rpartition(")")[2].split()
                            self._seen[kind, process.name] = sum(map(int, fields[11:15]))


def efficiency(
    url: str, nodes: Nodes, calls: Calls, workers: int, recordings: int, rounds: int, log: Path
) -> list[Row]:
    """Measure the rate of actors beside that of plain workers, in turns."""
    rates: dict[str, list[float]] = {"plain": [], "ray": []}
    used = ProcessorTime({"plain": b"e2vsearch\0worker", "ray": b"ray::RayWorker"})
    plain = [sys.executable, "-m", "e2vsearch", "worker", "--index", url, "--drain", "--workers", "1", "-q"]
    for number in range(rounds):
        for kind in ("plain", "ray") if number % 2 == 0 else ("ray", "plain"):
            with e2vsearch.open(url, encoder="light") as collection:
                collection.queue.pinned_encoder()
                before = recordings_in.count(collection.catalog)
                collection.queue.add(*calls.more(recordings))
                with log.open("a") as output:
                    if kind == "plain":
                        fleet = [subprocess.Popen(plain, stdout=output, stderr=output) for _ in range(workers)]
                    else:
                        command = [sys.executable, "-c", DRIVER, url, nodes.address, str(workers), str(LEASE_S)]
                        fleet = [subprocess.Popen(command, stdout=output, stderr=output)]
                    if any(process.wait() for process in fleet):
                        raise SystemExit(f"{kind} workers failed: {log.read_text()[-1000:]}")
                with collection.catalog.reading() as connection:
                    added = select(RecordingRow.added_at).order_by(RecordingRow.added_at).offset(before)
                    times = [each.timestamp() for each in connection.execute(added).scalars()]
            first, last = len(times) // 10, len(times) - 1 - len(times) // 10
            rates[kind].append((last - first) / (times[last] - times[first]))
    used.end()
    ray, beside = median(rates["ray"]), median(rates["plain"])
    count = recordings * rounds
    times_s = {kind: used.seconds(kind) / count for kind in rates}
    return [
        Row(f"{workers} plain workers", beside, "recordings/s"),
        Row(f"{workers} actors", ray, "recordings/s", ray / beside, f"{workers} plain workers"),
        Row("processor time a recording, plain", times_s["plain"], "s"),
        Row("processor time a recording, Ray", times_s["ray"], "s", times_s["ray"] / times_s["plain"], "plain"),
    ]


def inside(arguments: Any) -> None:
    """Run in a network where Ray reaches itself, with a server that is there."""
    # Ray's workers are niced by 15, which costs them nothing on a node of their own, and half of a shared machine
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1", RAY_worker_niceness="0")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    quick = arguments.quick
    seconds = 30.0 if quick else arguments.seconds
    with tempfile.TemporaryDirectory(prefix="e2v", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        os.environ.update(E2VSEARCH_CACHE=str(folder / "cache"), RAY_TMPDIR=scratch)
        (folder / "calls").mkdir()
        calls, nodes = Calls(folder / "calls", 5.0 if quick else CALL_S), Nodes(2 if quick else arguments.nodes)
        try:
            killed = arguments.inside.format(name="killed")
            rows: list[Row] = []
            if arguments.only != "efficiency":
                rows += campaign(killed, nodes, calls, 16 if quick else 1000, seconds, folder / "log", quick=quick)
            if arguments.only != "kills" and not quick:
                url = arguments.inside.format(name="rate")
                with e2vsearch.open(url, encoder="light", create=True):
                    pass
                rows += efficiency(url, nodes, calls, 2, 40, 6, folder / "log")
        finally:
            nodes.end()
    show(f"a Ray cluster, leases of {LEASE_S:.0f} s", rows, arguments.json)
    wrong = [row.name for row in rows if row.name.endswith("(1: yes)") and not row.value]
    if wrong:
        raise SystemExit(f"failed: {'; '.join(wrong)}")


def main() -> None:
    """Start Postgres, and the rest in a network of its own."""
    options = parser(__doc__)
    options.add_argument("--nodes", type=int, default=4)
    options.add_argument("--seconds", type=float, default=300.0, help="of kills")
    options.add_argument("--only", choices=["kills", "efficiency"])
    options.add_argument("--inside", metavar="URL", help="the Postgres server to use, in this network")
    arguments = options.parse_args()
    if arguments.inside:
        inside(arguments)
        return
    with server() as template:
        import psycopg

        with psycopg.connect(template.format(name="postgres").replace("+psycopg", ""), autocommit=True) as connection:
            for name in ("killed", "rate"):
                connection.execute(f"CREATE DATABASE {name}")
        command = [sys.executable, *sys.argv, "--inside", template]
        alone = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if (
            shutil.which("unshare")
            and subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
        ):
            command = alone + command
        raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
