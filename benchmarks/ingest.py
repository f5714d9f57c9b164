"""How fast calls become searchable, beside the bare encoder, and what a queue stands when its workers are killed.

    python benchmarks/ingest.py                    # an hour of stereo calls; some ten minutes on two cores
    python benchmarks/ingest.py --stress 300       # only the queue: four workers on one Postgres, kill -9 every 4 s

Calls of five minutes are composed of the sides of real ones (../shared/audio/calls, else samples/calls), each begun at
another place; short clips are 4 s of them. The bare encoder gets the very segments that ingesting finds, already
decoded, a minute of speech at a time, whosever it is; both take turns. emotion2vec has random weights of its published
shape: times are those of real ones.

The stress kills for that long, then lets the queue run empty. Exit code 1 unless every recording is stored exactly
once, none is left, and a killed worker's recordings were taken by others after their leases had ended and not before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
from _postgres import from_tests, server
from _table import Row, parser, show
from numpy.typing import NDArray

import e2vsearch
from e2vsearch import audio, settings, speech
from e2vsearch.catalog import queue
from e2vsearch.catalog.rows import database_time
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import Encoder

CHECKOUT = Path(__file__).resolve().parent.parent
TELEPHONE_HZ = 8_000
CALL_S = 300.0
BATCH_S = 60.0  # of speech, as `e2vsearch.pipeline` hands it to an encoder
WORKERS, LEASE_S, KILL_EVERY_S = 4, 3.0, 4.0
LONGEST_DRAIN_S = 180.0
Side = NDArray[np.int16]


def sides() -> list[Side]:
    """One voice line each, as a telephone has it."""
    import soxr

    folder = CHECKOUT.parent / "shared" / "audio" / "calls" / "audio"
    stereo = sorted(folder.glob("*")) if folder.is_dir() else []
    stereo = [path for path in stereo if audio.probe(path).channels == 2] or sorted(
        (CHECKOUT / "samples/calls").glob("*")
    )
    found = [channel for path in stereo for channel in audio.read(path)]
    telephone = [soxr.resample(channel, audio.SAMPLING_RATE_HZ, TELEPHONE_HZ) for channel in found]
    return [(channel.clip(-1, 1) * 32767).astype(np.int16) for channel in telephone]


def compose(folder: Path, calls: int, seconds: float, seed: int = 0) -> list[Path]:
    """Write that many stereo calls, no two alike: WAV, 16 bit, 8 kHz."""
    import soundfile

    rng, lines = np.random.default_rng(seed), sides()
    folder.mkdir(parents=True)
    length, paths = round(seconds * TELEPHONE_HZ), []
    for number in range(calls):
        pair = rng.choice(len(lines), 2, replace=False)
        starts = (int(rng.integers(lines[side].size)) for side in pair)
        both = [np.resize(np.roll(lines[side], -start), length) for side, start in zip(pair, starts, strict=True)]
        paths.append(folder / f"{number:05}.wav")
        soundfile.write(paths[-1], np.stack(both, axis=1), TELEPHONE_HZ, subtype="PCM_16")
    return paths


def spoken(path: Path) -> list[NDArray[np.float32]]:
    """Return the spoken segments of a call."""
    return [segment.signal for segment in speech.segments(audio.stream(path))]


def batches(signals: Iterable[NDArray[np.float32]]) -> list[list[NDArray[np.float32]]]:
    """As many together as go to an encoder at once, whosever they are."""
    out: list[list[NDArray[np.float32]]] = [[]]
    for each in signals:
        out[-1].append(each)
        if sum(clip.size for clip in out[-1]) >= BATCH_S * audio.SAMPLING_RATE_HZ:
            out.append([])
    return [batch for batch in out if batch]


def race(runs: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each, and seconds of processor time; who begins moves on by one each round."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    busy: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started, used = time.perf_counter(), time.process_time()
            runs[name]()
            spent[name].append(time.perf_counter() - started)
            busy[name].append(time.process_time() - used)
    medians = ({name: statistics.median(each) for name, each in times.items()} for times in (spent, busy))
    return next(medians), next(medians)


def speed(name: str, encoder: Encoder, folder: Path, calls: int, seconds: float, rounds: int) -> list[Row]:
    """Measure a whole ingest beside the bare encoder."""
    paths = compose(folder / "calls", calls, seconds)
    cores = settings.cores()

    def listen() -> list[list[NDArray[np.float32]]]:
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(spoken, paths))

    heard = batches(signal for call in listen() for signal in call)
    clips = sum(map(len, heard))
    spoken_s = sum(signal.size for batch in heard for signal in batch) / audio.SAMPLING_RATE_HZ
    encoder.encode(heard[0][:2])  # buffers and arenas fill once

    def bare() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(encoder.encode, heard))

    def whole() -> None:
        with (
            tempfile.TemporaryDirectory(dir=folder) as index,
            e2vsearch.open(index, encoder=encoder, create=True) as collection,
        ):
            report = collection.ingest(folder / "calls")
            if (report.stored, report.failures) != (calls, ()):
                raise SystemExit(f"not all were stored: {report}")

    spent, busy = race({"bare": bare, "whole": whole, "listen": listen}, rounds)
    total_s, base = calls * seconds, f"{name}: the bare encoder"
    return [
        Row(base, clips / spent["bare"], "clips/s"),
        Row(f"{name}: whole ingest", clips / spent["whole"], "clips/s", spent["bare"] / spent["whole"], base),
        Row("  decoding and finding speech alone", clips / spent["listen"], "clips/s"),
        Row("  audio a second", total_s / spent["whole"], "x real time"),
        Row("  real-time factor", spent["whole"] / total_s, ""),
        Row("  an hour of stereo calls takes", 3600 * spent["whole"] / total_s, "s"),
        Row("  of it, processor time a core", 3600 * busy["whole"] / total_s / cores, "s"),
        Row("  processor time of the bare encoder a core", 3600 * busy["bare"] / total_s / cores, "s"),
        Row("  speech in it, both sides summed", 100 * spoken_s / total_s, "%"),
    ]


# ---------------------------------------------------------------------------------------------------------- the queue


def is_of(name: str, pid: int) -> bool:
    """Return whether that is a worker's name in the queue (machine:process:nonce), and of this process here."""
    return name.startswith(f"{socket.gethostname()}:{pid}:")


class Fleet:
    """Worker processes on one database, one of which is killed now and then."""

    def __init__(self, url: str, cache: Path, log: Path) -> None:
        self._command = [sys.executable, "-m", "e2vsearch", "worker", "--index", url, "--encoder", "light"]
        self._command += ["--workers", "1", "--lease", str(LEASE_S), "--attempts", "50", "--log", "json"]
        self._environ = {**os.environ, "E2VSEARCH_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        self._log_path, self._log = log, log.open("a", encoding="utf-8")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.killed = 0

    def start(self) -> None:
        """One more."""
        log = self._log
        process = subprocess.Popen(self._command, env=self._environ, stdout=subprocess.DEVNULL, stderr=log)
        self.processes.append(process)

    def kill_one(self, rng: random.Random, at_work: set[str]) -> int | None:
        """``kill -9`` to one that has recordings in work, and another in its place; gives its process id.

        None, and no harm done, unless two have: a fleet that is killed faster than its processes start does nothing.
        """
        victims = [each for each in self.processes if any(is_of(name, each.pid) for name in at_work)]
        if len(victims) < 2:
            return None
        process = rng.choice(victims)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.processes.remove(process)
        self.killed += 1
        self.start()
        return process.pid

    def check(self) -> None:
        """See that all are alive."""
        if any(process.poll() is not None for process in self.processes):
            raise SystemExit(f"a worker ended by itself: {self._log_path.read_text(encoding='utf-8')[-2000:]}")

    def end(self) -> list[int]:
        """SIGTERM to all; gives their exit codes."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in self.processes]
        self._log.close()
        return codes


class Takeovers:
    """What killed workers held, and when others took it: never before its lease had ended."""

    def __init__(self, collection: e2vsearch.Collection) -> None:
        self._catalog = collection.catalog
        self._left: dict[str, queue.LeaseHolder] = {}
        self.early = 0
        self.delays_s: list[float] = []
        self.too_long = 0  # leases of more than their length

    def at_work(self) -> set[str]:
        """Workers that have recordings in work."""
        return {holder.name for holder in queue.state(self._catalog).workers}

    def killed(self, pid: int) -> None:
        """Note what a process left behind."""
        moment = self._now()
        for holder in queue.state(self._catalog).workers:
            if is_of(holder.name, pid):
                self._left[holder.name] = holder
                self.too_long += (holder.leased_until - moment).total_seconds() > LEASE_S

    def look(self) -> None:
        """Note what was taken since."""
        held = {holder.name: holder.jobs for holder in queue.state(self._catalog).workers}
        moment = self._now()
        for name, left in list(self._left.items()):
            over_s = (moment - left.leased_until).total_seconds()
            if held.get(name, 0) < left.jobs:
                self.early += over_s < 0
            if name not in held:
                self.delays_s.append(over_s)
                del self._left[name]

    def _now(self) -> datetime:
        with self._catalog.reading() as connection:
            return database_time(connection)


def stress(seconds: float, json_path: Path | None) -> None:
    """Four workers on one Postgres, killed one after another, and a queue that is filled until the time is up."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch, server() as template, ExitStack() as stack:
        folder = Path(scratch)
        url = template.format(name="postgres")
        collection = stack.enter_context(e2vsearch.open(url, encoder="light", create=True))
        takeovers = Takeovers(collection)
        fleet = Fleet(url, folder / "cache", folder / "log")
        for _ in range(WORKERS):
            fleet.start()
        queued = 0
        started = killed_at = time.monotonic()
        try:
            while True:
                spent = time.monotonic() - started
                depth = queue.depth(collection.catalog)
                takeovers.look()
                fleet.check()
                if spent < seconds and depth.queued < 2 * WORKERS:
                    paths = compose(folder / "calls" / f"{queued:05}", 4 * WORKERS, 20.0, seed=queued)
                    queued += collection.queue.add(*paths).queued
                if spent < seconds and time.monotonic() - killed_at > KILL_EVERY_S * rng.uniform(0.5, 1.5):
                    pid = fleet.kill_one(rng, takeovers.at_work())
                    if pid is not None:
                        takeovers.killed(pid)
                        killed_at = time.monotonic()
                if spent > seconds and (depth.queued + depth.leased == 0 or spent > seconds + LONGEST_DRAIN_S):
                    break
                time.sleep(0.1)
            drained_s = time.monotonic() - started - seconds
        finally:
            codes = fleet.end()
        rows, checks = _counted(collection, folder / "log", queued)
        rows += [
            Row("workers killed with kill -9", fleet.killed),
            Row("  that had recordings in work", len(takeovers.delays_s)),
            Row("from a lease's end to its taking over, median", statistics.median(takeovers.delays_s or [0.0]), "s"),
            Row("  at most", max(takeovers.delays_s, default=0.0), "s"),
            Row("recordings a second", queued / (seconds + drained_s), "/s"),
            Row("until the queue was empty", drained_s, "s"),
        ]
        checks["no lease was longer than asked for"] = takeovers.too_long == 0
        checks["none was taken before its lease had ended"] = takeovers.early == 0
        checks["every worker ended in order"] = set(codes) == {0}
        rows += [Row(f"{name} (1: yes)", float(held)) for name, held in checks.items()]
    show(f"{WORKERS} workers on one Postgres, leases of {LEASE_S:.0f} s, {seconds:.0f} s of kills", rows, json_path)
    if not all(checks.values()):
        raise SystemExit("failed: " + "; ".join(name for name, held in checks.items() if not held))


def _counted(collection: e2vsearch.Collection, log: Path, queued: int) -> tuple[list[Row], dict[str, bool]]:
    catalog = collection.catalog
    counts, depth = catalog.counts(), queue.depth(catalog)
    stored = Counter(recording.uri for _, recording in catalog.recordings())
    with catalog.feed().snapshot() as snapshot:
        in_feed = snapshot.count
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    commits = Counter(line["uri"] for line in lines if line.get("outcome") == "stored")
    attempts = Counter(line["attempt"] for line in lines if line.get("outcome") == "stored")
    rows = [
        Row("recordings queued", queued),
        Row("recordings stored", counts.recordings, "", counts.recordings / max(1, queued), "recordings queued"),
        Row("segments stored", counts.segments),
        Row("stored at a second attempt or later", sum(n for attempt, n in attempts.items() if attempt > 1)),
        Row("  the most attempts of one", max(attempts, default=0)),
        Row("results thrown away, their lease lost", sum(line.get("outcome") == "lost" for line in lines)),
    ]
    checks = {
        "every recording is stored": len(stored) == queued,
        "none is stored twice": max((stored | commits).values(), default=0) <= 1 and counts.recordings == queued,
        "every segment is in the change feed once": in_feed == counts.segments,
        "nothing is left in the queue": depth.queued + depth.leased + depth.dead_letters == 0,
        "nothing failed": counts.failures == 0,
    }
    return rows, checks


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--stress", type=float, metavar="SECONDS", help="only kill workers of a queue, for so long")
    options.add_argument("--encoder", help="only this one: light, or a model folder")
    arguments = options.parse_args()
    if arguments.stress:
        stress(arguments.stress, arguments.json)
        return
    calls, seconds, rounds = (2, 120.0, 3) if arguments.quick else (12, CALL_S, 3)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments.encoder in (None, "light"):
            rows += speed("light", registry.open("light"), folder / "light", calls, seconds, rounds)
        model = arguments.encoder if arguments.encoder != "light" else None
        if arguments.encoder is None and importlib.util.find_spec("funasr") is not None:
            shape = "base" if arguments.quick else "large"
            model = str(from_tests("random_emotion2vec").write_model(folder / f"emotion2vec_plus_{shape}", shape))
        if model is not None:
            calls, seconds = (2, 20.0) if arguments.quick else (4, 60.0)
            encoder = registry.open(model)
            name, rounds = Path(model).name, 3 if arguments.quick else 5
            rows += speed(name, encoder, folder / "emotion2vec", calls, seconds, rounds)
            rows += speed(f"{name}, short clips", encoder, folder / "short", 8 if arguments.quick else 30, 4.0, rounds)
    show(f"ingesting stereo calls on {settings.cores()} cores", rows, arguments.json)


if __name__ == "__main__":
    main()
