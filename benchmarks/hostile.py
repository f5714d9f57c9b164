"""Hostile recordings: their effect on an ingest and a service, and the cost of decoding in processes of their own.

    python benchmarks/hostile.py                    # 10,000 damaged files; an hour on two cores
    python benchmarks/hostile.py --files 2000

Damaged copies of sound files of every format that can be written here, and files built to use up a decoder
(tests/bombs.py: an MP4's index of 80 million samples, packets that never decode, 65,535 channels, hours of silence,
chains of empty chunks, pipes and devices), go through `e2vsearch ingest` and through `/query/upload` of a service. Exit
code 1 unless no process crashes, each file that fails has one line that says why, the service stays under 500 MB, and
an honest upload beside two poisoned ones is answered within 5 s, or in twice the time that it takes beside two honest
ones. Then calls are ingested in turns with and without a
process of their own that decodes: it may cost 5 % of the processor time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from _apart import memory_mb
from _mutations import mutated, seeds
from _postgres import from_tests
from _table import Row, parser, show
from ingest import compose
from serve import OURS, SAMPLES, serving

import e2vsearch
from e2vsearch.audio import pool

FILES, QUICK_FILES = 10_000, 100
BATCH = 500  # files in one ingest
SHARE_UPLOADED = 0.25  # of the damaged files go through the service as well
CLIENTS = 4
HONEST = 6  # uploads beside each pair of poisoned ones
MOST_MB, LONGEST_S, MOST_COST = 500.0, 5.0, 1.05
UNCLEAR = ("unexpected", "Traceback", "please report", "Internal Server Error")
CALLS, QUICK_CALLS = 12, 5
CALL_S, QUICK_CALL_S = 120.0, 15.0
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")  # of calls, in turn
ROUNDS, QUICK_ROUNDS = 7, 2


@dataclass
class Campaign:
    """Outcomes of the files of one campaign, counted."""

    tried: int = 0
    failed: int = 0  # with one clear line
    crashes: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    child_mb: float = 0.0

    def rows(self, name: str) -> list[Row]:
        """Return the rows of the table."""
        return [
            Row(f"{name}: files", self.tried),
            Row("  of them refused with a line", self.failed),
            Row("  crashes", len(self.crashes)),
            Row("  unclear lines", len(self.unclear)),
            Row("  a file, on average of an ingest; the slowest upload", self.slowest_s, "s"),
            Row("  peak memory", self.peak_mb, "MB"),
            Row("  peak memory of a process that decodes for it", self.child_mb, "MB"),
        ]

    def judge(self, message: str) -> None:
        """Count the line that says why a file failed."""
        self.failed += 1
        if "\n" in message.strip() or any(each in message for each in UNCLEAR) or len(message) < 20:
            self.unclear.append(message[:300])


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")
            if int(rest.split()[1]) == pid:
                found.append(int(name.partition(" ")[0]))
    return found


@contextmanager
def watched(pid: int, campaign: Campaign) -> Iterator[None]:
    """Note the most memory that a process takes, and those that it starts."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            with suppress(OSError, IndexError):
                campaign.peak_mb = max(campaign.peak_mb, memory_mb([pid], "VmHWM"))
            for each in children(pid):
                with suppress(OSError, IndexError):
                    campaign.child_mb = max(campaign.child_mb, memory_mb([each], "VmHWM"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def ingested(folder: Path, index: Path, campaign: Campaign) -> None:
    """Ingest a folder by the command line, and judge what it says."""
    paths = sorted(folder.iterdir())  # by name, since a walk takes known suffixes only
    count = len(paths)
    command = [*OURS, "ingest", "-", "--index", str(index), "--encoder", "light", "--max-audio-s", "3600", "-f", "json"]
    started, pipe = time.monotonic(), subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    with watched(process.pid, campaign):
        out, said = process.communicate("\n".join(map(str, paths)))
    campaign.slowest_s = max(campaign.slowest_s, (time.monotonic() - started) / count)
    campaign.tried += count
    if process.returncode not in (0, 3) or "Traceback" in said:
        campaign.crashes.append(f"ingest ended with {process.returncode}: {said[-300:]}")
        return
    report = json.loads(out)
    done = report["stored"] + report["already"] + report["replaced"] + report["moved"]
    if done + len(report["failures"]) != count:
        campaign.crashes.append(f"{count} files, and {done} done, {len(report['failures'])} failed")
    for failure in report["failures"]:
        campaign.judge(failure["message"])


def uploaded(address: str, files: Iterable[tuple[str, bytes]], campaign: Campaign) -> None:
    """Send files to a running service, a few at a time, and judge what it answers."""

    def send(file: tuple[str, bytes]) -> None:
        name, data = file
        started = time.monotonic()
        try:
            answer = httpx.post(f"{address}/query/upload", files={"file": (name, data)}, data={"k": "3"}, timeout=90)
        except httpx.HTTPError as error:
            campaign.crashes.append(f"{name}: {type(error).__name__}")
            return
        campaign.slowest_s = max(campaign.slowest_s, time.monotonic() - started)
        campaign.tried += 1
        if answer.status_code >= 500:
            campaign.crashes.append(f"{name}: {answer.status_code} {answer.text[:200]}")
        elif answer.status_code != 200:
            campaign.judge(answer.json()["error"]["message"])

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(send, files))


def beside(address: str, poison: tuple[str, bytes], honest: bytes, count: int) -> list[float]:
    """Return how long honest uploads take while two clients send the same poison again and again."""
    ended = threading.Event()

    def poisoning() -> None:
        while not ended.is_set():
            with suppress(httpx.HTTPError):
                httpx.post(f"{address}/query/upload", files={"file": poison}, timeout=90)

    spent = []
    with ThreadPoolExecutor(2) as clients:
        for _ in range(2):
            clients.submit(poisoning)
        time.sleep(0.3)
        for _ in range(count):
            started = time.monotonic()
            answer = httpx.post(f"{address}/query/upload", files={"file": ("honest.ogg", honest)}, timeout=90)
            spent.append(time.monotonic() - started if answer.status_code == 200 else 90.0)
        ended.set()
    return spent


def special(folder: Path) -> None:
    """Put into a folder what is no file but called like one."""
    os.mkfifo(folder / "pipe.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "random.wav").symlink_to("/dev/urandom")
    (folder / "link.wav").symlink_to(folder / "pipe.wav")


def spent_s() -> float:
    """Return the processor time of this process and of those that decode for it."""
    total = time.process_time()
    for process in pool.POOL._all:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def cost(folder: Path, calls: int, seconds: float, rounds: int) -> list[Row]:
    """Ingest the same calls with and without processes that decode, in turns."""
    for number, path in enumerate(compose(folder / "calls", calls, seconds)):
        encoded(path, SUFFIXES[number % len(SUFFIXES)])
    busy: dict[bool, list[float]] = {True: [], False: []}
    clock: dict[bool, list[float]] = {True: [], False: []}
    with e2vsearch.open(folder / "warm", encoder="light", create=True) as collection:
        collection.ingest(SAMPLES / "calls")
        encoder = collection.encoder()
    for number in range(rounds):
        for isolated in (True, False) if number % 2 else (False, True):
            pool.ISOLATED = isolated
            with e2vsearch.open(folder / f"{number}-{isolated}", encoder=encoder, create=True) as collection:
                used, started = spent_s(), time.perf_counter()
                report = collection.ingest(folder / "calls")
                busy[isolated].append(spent_s() - used)
                clock[isolated].append(time.perf_counter() - started)
            if report.failures:
                raise SystemExit(f"not all were stored: {report.failures[0].message}")
    pool.ISOLATED = True
    rows = []
    for name, figures in (("processor time", busy), ("wall time", clock)):
        ours, theirs = statistics.median(figures[True]), statistics.median(figures[False])
        ratio = statistics.median(a / b for a, b in zip(figures[True], figures[False], strict=True))
        base = f"the same, decoded in the process itself ({theirs:.2f} s)"
        rows.append(Row(f"ingesting {calls} calls of {seconds:.0f} s with light, {name}", ours, "s", ratio, base))
    return rows


def encoded(path: Path, suffix: str) -> None:
    """Replace a WAV by the same call in another format."""
    import soundfile

    if suffix == path.suffix:
        return
    signal, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    made, target = from_tests("made"), path.with_suffix(suffix)
    if suffix == ".m4a":
        made.save_av(target, signal.T, "aac", rate_hz)
    else:
        made.save(target, signal.T, rate_hz)
    path.unlink()


def bombs(folder: Path, *, quick: bool) -> Iterator[tuple[str, bytes]]:
    """Yield what is built to use up a decoder."""
    for name, make in from_tests("bombs").bytes_of(folder).items():
        if not quick or name.partition("-")[0] not in ("channels", "id3", "riff", "rate", "claim"):
            yield name, make()
    for name in ("silence.flac", "silence.webm"):
        path = folder / f"made-{name}"
        from_tests("bombs").long_silence(path, 3.0)
        yield name, path.read_bytes()
        path.unlink()


def main() -> int:
    """Measure, print, and return 1 unless all held."""
    options = parser(__doc__)
    options.add_argument("--files", type=int, help=f"damaged files ({FILES})")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", nargs="+", default=["ingest", "service", "cost"], help="%(default)s")
    arguments = options.parse_args()
    if sys.platform != "linux":
        print("processes are watched as Linux shows them")
        return 77
    count = arguments.files or (QUICK_FILES if arguments.quick else FILES)
    rows: list[Row] = []
    checks: dict[str, bool] = {}
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        folder = Path(scratch)
        (folder / "made").mkdir()
        sound = seeds(folder / "seeds")
        rows.append(Row("formats", len(sound)))
        built = [] if arguments.only == ["cost"] else list(bombs(folder / "made", quick=arguments.quick))
        damaged = list(mutated(sound, count, arguments.seed)) if built else []
        index = folder / "index"
        if "ingest" in arguments.only:
            campaign = Campaign()
            for at in range(0, count, BATCH):
                (batch := folder / "batch").mkdir()
                for name, data in damaged[at : at + BATCH]:
                    (batch / name).write_bytes(data)
                ingested(batch, index, campaign)
                remove(batch)
            rows += campaign.rows("damaged files, ingested")
            built_campaign = Campaign()
            (batch := folder / "batch").mkdir()
            for name, data in built:
                (batch / name).write_bytes(data)
            special(batch)
            ingested(batch, index, built_campaign)
            remove(batch)
            rows += built_campaign.rows("built files, pipes and devices, ingested")
            for name, each in (("damaged", campaign), ("built", built_campaign)):
                checks[f"no crash of an ingest, {name}"] = not each.crashes
                checks[f"no unclear line of an ingest, {name}"] = not each.unclear
                told.update(each.crashes + each.unclear)
        if "service" in arguments.only:
            ingest = [*OURS, "ingest", str(SAMPLES / "calls"), "--encoder", "light", "--index", str(index), "-q"]
            subprocess.run(ingest, check=True, capture_output=True)
            campaign = Campaign()
            honest = (SAMPLES / "angry.ogg").read_bytes()
            slow: dict[str, float] = {}
            with serving(index, folder / "log") as service:
                # what is honest takes its share of memory too: the encoder, arenas, pools
                uploaded(service.address, [("honest.ogg", honest)] * 20, Campaign())
                with watched(service.process.pid, campaign):
                    uploaded(service.address, damaged[: max(50, round(count * SHARE_UPLOADED))], campaign)
                    uploaded(service.address, built, campaign)
                    alone = [each for _ in range(2) for each in beside(service.address, ("honest", honest), honest, 3)]
                    for poison in built:
                        spent = beside(service.address, poison, honest, 1 if arguments.quick else HONEST)
                        slow[poison[0]] = max(spent)
                if service.process.poll() is not None:
                    campaign.crashes.append(f"the service ended with {service.process.returncode}")
            log = (folder / "log").read_text(encoding="utf-8")
            if "Traceback" in log:
                campaign.unclear.append(log[log.index("Traceback") :][:600])
            rows += campaign.rows("damaged and built files, uploaded")
            worst = max(slow, key=lambda name: slow[name])
            rows.append(Row("an honest upload beside two more of its kind, slowest", max(alone), "s"))
            base = f"two of {worst}, the worst of {len(slow)}"
            rows.append(Row("an honest upload beside two poisoned ones, slowest", slow[worst], "s", None, base))
            checks["no crash of the service"] = not campaign.crashes
            checks["no unclear line of the service"] = not campaign.unclear
            checks[f"the service stays under {MOST_MB:.0f} MB"] = campaign.peak_mb < MOST_MB
            # a busy machine is slow for everybody
            checks["honest uploads are answered in time"] = slow[worst] < max(LONGEST_S, 2 * max(alone))
            told.update(campaign.crashes + campaign.unclear)
        if "cost" in arguments.only:
            sizes = (QUICK_CALLS, QUICK_CALL_S, QUICK_ROUNDS) if arguments.quick else (CALLS, CALL_S, ROUNDS)
            measured = cost(folder / "cost", *sizes)
            rows += measured
            ratio = measured[0].ratio or 0.0
            checks["decoding apart costs 5 % at most"] = arguments.quick or ratio <= MOST_COST
    rows += [Row(f"{name} (1: yes)", float(held)) for name, held in checks.items()]
    show(f"Hostile recordings, {count:,} damaged files", rows, arguments.json)
    for line, times in told.most_common(20):
        print(f"  {times} x {line}")
    if not all(checks.values()):
        print("failed: " + "; ".join(name for name, held in checks.items() if not held))
        return 1
    return 0


def remove(folder: Path) -> None:
    """Remove a folder and the files in it."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
