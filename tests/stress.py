"""Writers, readers and a builder on one collection, killed at random: nothing may be lost, doubled or made up.

``python tests/stress.py`` runs four writers, four readers and a builder for ten minutes and ends with 1 if anything was
wrong; the suite runs a short one. Each writer keeps a ledger beside the collection: a line before and a
line after each transaction. So what a reader must find is known whatever was killed when: all that a ledger has as
stored before the query began, unless its removal had begun before the query ended, and nothing whose removal had ended.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import upgrade
from e2vsearch.catalog.database import connect, sqlite_file
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import GenerationBusy
from e2vsearch.types import Space
from e2vsearch.vectors.engine import IndexOptions
from e2vsearch.vectors.faiss.index import FaissEngine

DIM, SEGMENTS, FIRST = 16, 5, 320  # 1,600 segments are enough for lists
SPACE = Space("fake", "stress", DIM, ())
REMOVED_SHARE = 0.25


def vectors_of(number: int) -> NDArray[np.float32]:
    """The vectors of a made recording, by its number: around one of 40 centres, as calls are."""
    rng = np.random.default_rng(number)
    centre = np.random.default_rng(number % 40).standard_normal(DIM)
    return np.asarray(centre + 0.4 * rng.standard_normal((SEGMENTS, DIM)), np.float32)


def recording(number: int) -> NewRecording:
    """A made recording."""
    segments = tuple(NewSegment(0, float(at), at + 1.0, vector) for at, vector in enumerate(vectors_of(number)))
    return NewRecording(
        uri=f"/calls/{number}.wav",
        name=str(number),
        content_sha256=sha256(str(number).encode()).hexdigest(),
        size_bytes=1,
        mtime_ns=1,
        recorded_at=datetime(2024, 3, 1, tzinfo=UTC),
        duration_s=10.0,
        channels=1,
        sampling_rate_hz=16_000,
        format="WAV",
        segments=segments,
        metadata={},
    )


@dataclass
class Ledgers:
    """What all writers have noted so far."""

    folder: Path
    stored: dict[int, tuple[int, list[int]]] = field(default_factory=dict)  # number: recording, segments
    intended: set[int] = field(default_factory=set)
    removing: set[int] = field(default_factory=set)  # numbers
    removed: set[int] = field(default_factory=set)
    _read: dict[Path, int] = field(default_factory=dict)

    def look(self) -> Ledgers:
        """Reads what is new; a line that is not whole is read later."""
        for path in self.folder.glob("*.ledger"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.decode().splitlines():
                sign, number, *rest = line.split()
                if sign == "i":
                    self.intended.add(int(number))
                elif sign == "+":
                    self.stored[int(number)] = (int(rest[0]), [int(each) for each in rest[1:]])
                elif sign == "r":
                    self.removing.add(int(number))
                else:
                    self.removed.add(int(number))
        return self


def opened(url: str, folder: Path) -> tuple[Catalog, FaissEngine]:
    """The collection, as any process opens it."""
    catalog = Catalog.open(url)
    return catalog, FaissEngine(folder / "index", catalog.feed(), IndexOptions(exact_below=1000))


def write(url: str, folder: Path, seed: int) -> None:
    """Stores recordings and removes some of its own, until it is killed."""
    catalog, rng = Catalog.open(url), random.Random(seed)
    mine: list[tuple[int, int]] = []
    with (folder / f"{seed}.ledger").open("a", buffering=1) as ledger:
        number = seed * 1_000_000
        while not (folder / "stop").exists():
            if mine and rng.random() < REMOVED_SHARE:
                gone, of = mine.pop(rng.randrange(len(mine)))
                ledger.write(f"r {gone}\n")
                assert catalog.remove([of]) == 1
                ledger.write(f"- {gone}\n")
            else:
                number += 1
                ledger.write(f"i {number}\n")
                stored = catalog.store(recording(number))
                ids, _ = catalog.segments_of([stored.id])
                ledger.write(f"+ {number} {stored.id} {' '.join(map(str, np.sort(ids).tolist()))}\n")
                mine.append((number, stored.id))
            time.sleep(rng.uniform(0, 0.01))


def read(url: str, folder: Path, seed: int) -> None:
    """Asks for what must be there and for what must not, until it is killed; says what was wrong and ends."""
    _, index = opened(url, folder)
    rng, ledgers, asked = random.Random(seed), Ledgers(folder), 0
    while not (folder / "stop").exists():
        ledgers.look()
        sure = [number for number in ledgers.stored if number not in ledgers.removing]
        gone = {segment for number in ledgers.removed & ledgers.stored.keys() for segment in ledgers.stored[number][1]}
        number = rng.choice(sure[-50:] if rng.random() < 0.5 else sure)
        at = rng.randrange(SEGMENTS)
        of, segments = ledgers.stored[number]
        allowed = (
            np.array(sorted(rng.choices(range(1, max(segments) + 1), k=50) + segments)) if asked % 4 == 3 else None
        )
        found = index.search(vectors_of(number)[at][None], 10, allowed=allowed, compare_all=asked % 8 == 5)
        asked += 1
        if asked % 10 == 1:  # not at the end alone: it may be killed before
            (folder / f"asked-{os.getpid()}").write_text(str(asked))
        ids = found.ids[0][found.ids[0] >= 0]
        wrong = []
        if np.unique(ids).size != ids.size:
            wrong.append("twice in one answer")
        if gone & set(ids.tolist()):
            wrong.append("removed before the query began")
        if allowed is not None and not np.isin(ids, allowed).all():
            wrong.append("outside the filter")
        ledgers.look()
        there = number not in ledgers.removing
        if there and (
            ids[:1].tolist() != [segments[at]] or found.recordings[0, 0] != of or found.scores[0, 0] < 0.9999
        ):
            wrong.append(f"seg:{segments[at]} was not found by its own vector")
        if wrong:
            report(folder, f"{'; '.join(wrong)}: {ids.tolist()} {found.scores[0].tolist()}")
            return


def build(url: str, folder: Path, seed: int) -> None:
    """Builds, tunes and verifies, until it is killed."""
    _, index = opened(url, folder)
    rng = random.Random(seed)
    while not (folder / "stop").exists():
        with contextlib.suppress(GenerationBusy):
            index.build(rng.choice(["auto", "flat", "ivf-flat", "ivf-rabitq"]))
            index.tune(rng.choice([0.9, 0.95]))
        for problem in index.verify():
            report(folder, f"verify: {problem}")
            return


def report(folder: Path, what: str) -> None:
    """Says what went wrong."""
    (folder / f"wrong-{os.getpid()}").write_text(what + "\n")


ROLES = {"write": write, "read": read, "build": build}


@dataclass
class Outcome:
    """What came of a run."""

    stored: int
    removed: int
    asked: int
    killed: Counter[str]
    wrong: list[str]


def run(url: str, folder: Path, seconds: float, writers: int, readers: int, kill_every_s: float) -> Outcome:
    """One run.

    Args:
        url: of a database; a new one.
        folder: for the index and the ledgers.
        seconds: how long.
        writers: processes that store and remove.
        readers: processes that ask.
        kill_every_s: on average, one of them is killed and another started in its place.
    """
    first(url, folder)
    rng, wrong, killed = random.Random(0), [], Counter[str]()
    wanted = ["write"] * writers + ["read"] * readers + ["build"]
    started = 0

    def start(role: str) -> subprocess.Popen[bytes]:
        nonlocal started
        started += 1
        code = f"import stress, pathlib; stress.{role}({url!r}, pathlib.Path({str(folder)!r}), {started})"
        paths = os.pathsep.join([str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)])
        with (folder / f"{started}.{role}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-c", code],
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                stderr=log,
            )

    running = [(role, start(role)) for role in wanted]
    until = time.monotonic() + seconds
    latest = until + 120  # on a machine so busy that nothing has begun by then
    try:
        while time.monotonic() < until or (time.monotonic() < latest and not begun(folder)):
            if list(folder.glob("wrong-*")):
                break
            time.sleep(rng.expovariate(1 / kill_every_s))
            at = rng.randrange(len(running))
            role, process = running[at]
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed[role] += 1
            elif process.returncode:
                wrong.append(f"a process to {role} ended with {process.returncode}: {logged(folder)}")
                break
            running[at] = (role, start(role))
    finally:
        (folder / "stop").touch()
        for role, process in running:
            try:
                code = process.wait(90)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # its log then says where it was
                process.wait()
                code, where = 0, logged(folder)
                wrong.append(f"a process to {role} did not end: {where}")
            if code:
                wrong.append(f"a process to {role} ended with {code}: {logged(folder)}")
    wrong += [path.read_text().strip() for path in folder.glob("wrong-*")]
    ledgers = Ledgers(folder).look()
    wrong += final(url, folder, ledgers)
    asked = sum(int(path.read_text() or 0) for path in folder.glob("asked-*"))  # empty: killed as it wrote
    return Outcome(len(ledgers.stored), len(ledgers.removed), asked, killed, wrong)


def begun(folder: Path) -> bool:
    """Whether somebody has stored a recording, and somebody has been answered."""
    return bool(list(folder.glob("asked-*"))) and len(Ledgers(folder).look().stored) > FIRST


def first(url: str, folder: Path) -> None:
    """A collection with enough in it for lists, and a builder's first generation."""
    if sqlite_file(url) is None:
        engine = connect(url)
        upgrade.upgrade(engine)
        engine.dispose()
    with contextlib.closing(Catalog.open(url, create=True)) as catalog:
        catalog.pin(SPACE, "fake")
        with (folder / "0.ledger").open("w") as ledger:
            for number in range(1, FIRST + 1):
                stored = catalog.store(recording(number))
                ids, _ = catalog.segments_of([stored.id])
                ledger.write(f"+ {number} {stored.id} {' '.join(map(str, np.sort(ids).tolist()))}\n")
    catalog, index = opened(url, folder)
    index.build("ivf-rabitq")
    catalog.close()


def final(url: str, folder: Path, ledgers: Ledgers) -> list[str]:
    """What is wrong now that nobody writes any more."""
    catalog, index = opened(url, folder)
    wrong = []
    there = {int(found.name): number for number, found in catalog.recordings()}
    must = {number for number in ledgers.stored if number not in ledgers.removing}
    may = must | ledgers.intended | (ledgers.removing - ledgers.removed)
    if lost := must - there.keys():
        wrong.append(f"lost: {sorted(lost)[:5]}")
    if ghosts := there.keys() - (may - ledgers.removed):
        wrong.append(f"ghosts: {sorted(ghosts)[:5]}")
    for build in (False, True):
        if build:
            index.build("ivf-rabitq", wait_s=30)
        wrong += [f"verify: {problem}" for problem in index.verify()]
        segments = np.array([segment for number in sorted(must) for segment in ledgers.stored[number][1]])
        queries = np.concatenate([vectors_of(number) for number in sorted(must)])
        missed = index.search(queries, 3).ids[:, 0] != segments
        if missed.any():
            wrong.append(f"not found by their own vectors: {segments[missed][:5].tolist()}")
    catalog.close()
    return wrong


def logged(folder: Path) -> str:
    """The last lines of each process that said anything."""
    return " | ".join(
        " < ".join(text.strip().splitlines()[-8:])
        for path in sorted(folder.glob("*.log"))
        if (text := path.read_text()).strip()
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--kill-every-s", type=float, default=2.0)
    parser.add_argument("--url", help="of an empty Postgres database; by default SQLite in a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or f"sqlite:///{folder}/catalog.db"
        done = run(url, Path(folder), given.seconds, given.writers, given.readers, given.kill_every_s)
    sys.stdout.write(f"{done.stored} stored, {done.removed} removed, {done.asked} asked, killed {dict(done.killed)}\n")
    sys.stdout.writelines(f"WRONG: {each}\n" for each in done.wrong)
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
