"""One bit flipped in a file: of a collection, of an export, of a classifier. Answers are as before, or it is said."""

from __future__ import annotations

import logging
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _fault_scenarios import Campaign
from _fault_states import State, compared, state_of
from _injector import Ended, apart, command

Outcome = tuple[str, str, str]
"""The bit that was flipped, its outcome, and a detail."""

_QUERIES: tuple[dict[str, Any], ...] = (
    {"references": ("seg:7",), "k": 5000, "by": "segment", "exact": True},
    {"references": ("seg:11", "seg:300"), "k": 50},
    {"references": ("seg:501",), "k": 50, "where": "queue = billing and emotion_score > 0.5"},
)


def flips(campaign: Campaign, count: int, rng: random.Random) -> Iterator[Outcome]:
    """Flip so many bits: half of them in the database, the rest in every other kind of file by turns."""
    if not count:
        return
    work = campaign.copied("indexed")
    generations = sorted(path.relative_to(work) for path in _files(work / "index") if "catalog.db" not in path.name)
    expected = apart(lambda: _answers(work / "index"), work)[0]
    command(("import", "export", "--index", "whole"), campaign.copied("exported"))
    imported = state_of(campaign.folder / "work" / "whole" / "catalog.db")
    exports = sorted(
        path.relative_to(campaign.folder / "exported") for path in _files(campaign.folder / "exported" / "export")
    )
    for number in range(count):
        if number % 2 == 0:
            yield _collection(campaign, Path("index/catalog.db"), expected, rng)
        elif number % 4 == 1:
            yield _collection(campaign, generations[number // 4 % len(generations)], expected, rng)
        elif number % 8 == 3 or not (campaign.folder / "trained").is_dir():
            yield _export(campaign, exports[number // 8 % len(exports)], imported, rng)
        else:
            yield _classifier(campaign, rng)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


def _flip(path: Path, rng: random.Random) -> str:
    """Flip a bit, with the file's times as they were in one of three cases; returns where."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    at, bit = rng.randrange(len(content)), rng.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    if rng.random() < 0.3:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return f"{path.name}, bit {bit} of byte {at}"


def _collection(campaign: Campaign, file: Path, expected: list[Any], rng: random.Random) -> Outcome:
    work = campaign.copied("indexed")
    where = _flip(work / file, rng)
    name = "catalog.db" if file.name == "catalog.db" else "a generation's files"
    try:
        found, warned, line = apart(lambda: _answers(work / "index"), work)
    except RuntimeError as error:
        signal = "ended with -" in str(error)
        return name, "SIGNAL" if signal else "UNCLEAR LINE", f"{where}: {error}"
    if line:
        return name, "refused", ""
    if found == expected:
        return name, "fine", ""
    if warned:
        return name, "told", ""
    return name, "SILENT WRONG", f"{where}: {_difference(found, expected)}"


def _difference(found: list[Any], expected: list[Any]) -> str:
    """Return the first field that differs."""
    for query, (these, those) in enumerate(zip(found, expected, strict=True), start=1):
        if len(these) != len(those):
            return f"query {query} has {len(these)} hits, not {len(those)}"
        for this, that in zip(these, those, strict=True):
            for at, (a, b) in enumerate(zip(this, that, strict=True)):
                if a != b:
                    return f"query {query}, hit {this[0]}, field {at}: {str(a)[:60]!r}, not {str(b)[:60]!r}"
    return "nothing"


def _answers(index: Path) -> tuple[list[Any], list[str], str]:
    """Return hits, what was warned of, and the line of what was refused."""
    import e2vsearch
    from e2vsearch.errors import E2vsearchError

    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("e2vsearch").addHandler(handler)
    found: list[Any] = []
    try:
        with e2vsearch.open(index) as collection:
            for fields in _QUERIES:
                rest = {name: value for name, value in fields.items() if name != "references"}
                hits = collection.query(*fields["references"], **rest)
                found.append([_row(hit) for hit in hits])
    except E2vsearchError as error:
        return found, warned, str(error)
    return found, warned, ""


def _row(hit: Any) -> tuple[Any, ...]:
    about = (hit.name, hit.uri, hit.channel, hit.start_s, hit.end_s, hit.emotion, hit.emotion_score)
    return (hit.segment, round(hit.score, 5), hit.recording, *about, tuple(sorted(hit.metadata.items())))


def _export(campaign: Campaign, file: Path, source: State, rng: random.Random) -> Outcome:
    work = campaign.copied("exported")
    where = _flip(work / file, rng)
    ended = command(("import", "export", "--index", "copy"), work)
    copy = state_of(work / "copy" / "catalog.db")
    same = (copy.recordings, copy.segments, copy.lists) == (source.recordings, source.segments, source.lists)
    return "an export's files", *_judged(ended, same, where)


def _classifier(campaign: Campaign, rng: random.Random) -> Outcome:
    work = campaign.copied("trained")
    command(("classifier", "export", "mood", "mood.npz"), work)
    whole = work / "whole"
    shutil.copytree(work / "index", whole)
    command(("classify", "mood", "--index", "whole"), work)
    where = _flip(work / "mood.npz", rng)
    ended = command(("classifier", "import", "mood.npz"), work)
    same = True
    if ended.code == 0:
        command(("classify", "mood"), work)
        expected, found = state_of(whole / "catalog.db"), state_of(work / "index" / "catalog.db")
        same = not compared(found, expected, expected) and found.lists["classified"] == expected.lists["classified"]
    return "a classifier's file", *_judged(ended, same, where)


def _judged(ended: Ended, same: bool, where: str) -> tuple[str, str]:
    if ended.code < 0:
        return "SIGNAL", f"{where}: {ended.code}"
    if ended.code == 0:
        return ("fine", "") if same else ("SILENT WRONG", f"{where}: accepted, and is other than it was")
    unclear = "unexpected" in ended.err or "Traceback" in ended.err or ended.code != 1
    return ("UNCLEAR LINE", f"{where}: {ended.err.strip()[-200:]}") if unclear else ("refused", "")
