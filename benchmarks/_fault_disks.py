"""A real file system that fills up, and a real Postgres that is restarted under an ingest."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from _fault_scenarios import Campaign, Scenario
from _fault_states import compared, state_of
from _injector import apart, command

Outcome = tuple[str, str, str]
"""The fault that was injected, its outcome, and a detail."""

_NEW_MOUNTS, _PRIVATE, _REMOUNT = 0x00020000, 0x44000, 0x20
_FREE_KB = (4, 16, 40, 80, 160, 320)
_COMMANDS = ("ingest, new", "ingest, more", "index build", "export", "backup", "import", "label", "embed")
_CALLS = Path(__file__).parent.parent / "samples" / "calls"


def full_disks(campaign: Campaign, count: int) -> Iterator[Outcome]:
    """Run commands on file systems of little space, in a namespace of mounts that ends with its process."""
    if not count:
        return
    chosen = [each for each in campaign.scenarios if each.name in _COMMANDS]
    if os.geteuid() != 0:
        print("  disk: not run, since only root may mount a tmpfs", file=sys.stderr)
        return
    for number in range(count):
        scenario = chosen[number % len(chosen)]
        free_kb = _FREE_KB[number // len(chosen) % len(_FREE_KB)]
        try:
            outcome, detail = apart(lambda s=scenario, kb=free_kb: _on_disk(campaign, s, kb), campaign.folder)  # type: ignore[misc]
        except RuntimeError as error:
            if "may not be mounted" in str(error):
                print(f"  disk: not run: {error}", file=sys.stderr)
                return
            outcome, detail = "SIGNAL", str(error)
        yield scenario.name, outcome, f"{free_kb} kB free: {detail}" if detail else ""


def _on_disk(campaign: Campaign, scenario: Scenario, free_kb: int) -> tuple[str, str]:
    template = campaign.folder / scenario.template
    used_kb = sum(-(-path.stat().st_size // 4096) * 4 for path in template.rglob("*") if path.is_file())
    libc = ctypes.CDLL(None, use_errno=True)
    disk = campaign.folder / "disk"
    disk.mkdir(exist_ok=True)
    size = f"size={used_kb + free_kb + 4}k".encode()
    if (
        libc.unshare(_NEW_MOUNTS)
        or libc.mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None)
        or libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", ctypes.c_ulong(0), size)
    ):
        raise RuntimeError(f"a tmpfs may not be mounted here: {os.strerror(ctypes.get_errno())}")
    work = Path(shutil.copytree(template, disk / "work"))
    ended = command(scenario.words, work)
    if ended.code < 0:
        return "SIGNAL", f"{ended.code} {ended.err[-200:]}"
    if ended.code not in (0, 1, 2, 3) or "unexpected" in ended.err or "Traceback" in ended.err:
        return "UNCLEAR LINE", ended.err.strip()[-300:]
    file = work / scenario.made / "catalog.db"
    looked = campaign.folder / "looked"
    if file.parent.is_dir():  # else the command makes none, or there was no space for one
        shutil.copytree(file.parent, looked)
    problems = compared(state_of(looked / "catalog.db"), scenario.before, scenario.after)
    shutil.rmtree(looked, ignore_errors=True)
    empty = [
        path.name for path in work.rglob("*") if scenario.name == "embed" and path.is_file() and not path.stat().st_size
    ]
    problems += [f"LOST: {each} is there and empty" for each in empty]
    libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", ctypes.c_ulong(_REMOUNT), b"size=64m")
    again = command(scenario.words, work)
    if again.code and "already" not in again.err:
        return "UNCLEAR LINE", f"with space again: {again.err.strip()[-300:]}"
    after = state_of(file)
    problems += compared(after, scenario.after, scenario.after)
    if problems:
        outcome, _, detail = problems[0].partition(": ")
        return outcome, detail
    return ("refused" if ended.code else "fine"), ""


def restarts(count: int) -> Iterator[Outcome]:
    """Restart a Postgres server while calls are ingested into it, and ingest again."""
    if not count:
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import postgres

    place = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    place.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    try:
        url = postgres.running(place).replace("+psycopg", "")
    except postgres.NoServerError as error:
        print(f"  restart: not run: {error}", file=sys.stderr)
        return
    try:
        for number in range(count):
            yield "ingest into Postgres", *_restarted(url, number, place, environment)
    finally:
        postgres.stop(place)
        shutil.rmtree(place, ignore_errors=True)


def _restarted(url: str, number: int, place: Path, environment: dict[str, str]) -> tuple[str, str]:
    import postgres
    import psycopg

    with psycopg.connect(url.format(name="postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_commit = on")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE DATABASE faults{number}")
    target = url.format(name=f"faults{number}")
    words = [sys.executable, "-m", "e2vsearch", "ingest", str(_CALLS), "--encoder", "fake", "--workers", "1"]
    words += ["--index", target]
    ingest = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 60
    while _stored(target) < 1 + 3 * number and ingest.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    postgres.stop(place)
    (place / "postgres" / "started").unlink()
    data = place / "postgres"
    postgres._run(data, *postgres._control(postgres._readable(postgres._binaries(), data), data), "-l", data / "log",
                  "-o", f"-k {data} -c listen_addresses=''", "start")  # fmt: skip
    (data / "started").touch()
    said, _ = ingest.communicate(timeout=120)
    if "Traceback" in said or "unexpected" in said:
        return "UNCLEAR LINE", said.strip()[-300:]
    again = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    with psycopg.connect(target) as connection:
        row = connection.execute(
            "SELECT count(*), count(DISTINCT uri), (SELECT count(*) FROM segment), (SELECT count(*) FROM vector), "
            "(SELECT count(*) FROM change WHERE op = '+') - (SELECT count(*) FROM change WHERE op = '-') FROM recording"
        ).fetchone()
    recordings, distinct, segments, vectors, feed = row or (0, 0, 0, 0, 0)
    expected = len(list(_CALLS.glob("*.*")))
    if again.returncode or recordings < expected or not segments == vectors == feed:
        return (
            "LOST",
            f"{recordings} of {expected} recordings, {segments} segments, {vectors} vectors, {feed} in the feed",
        )
    return ("DOUBLED", "") if distinct != recordings else ("fine", "")


def _stored(url: str) -> int:
    import psycopg

    try:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*) FROM recording").fetchone()
            return int(row[0]) if row else 0
    except psycopg.Error:
        return 0
