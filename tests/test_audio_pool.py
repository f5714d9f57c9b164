"""Decoding in processes of their own: what they hold, what ends them, and that it ends nothing else."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bombs
import numpy as np
import pytest
from made import save, save_av, sine, speech, wav_bytes

from e2vsearch import audio, errors
from e2vsearch.audio import child, decode, pool, protocol
from e2vsearch.audio.pool import DecoderPool
from e2vsearch.audio.sources import opened

pytestmark = pytest.mark.skipif(not pool.ISOLATED, reason="files are decoded in this process here")
IN_PROC = pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="looks at processes as Linux shows them")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    """A pool of this test's own, of two processes at most."""
    own = DecoderPool(most=2, kept=2)
    monkeypatch.setattr(pool, "POOL", own)
    yield own
    own.close()


def pids(of: DecoderPool) -> set[int]:
    return {process.pid for process in of._all}


def test_one_process_decodes_many_files(tmp_path: Path, alone: DecoderPool) -> None:
    first = save(tmp_path / "a.wav", speech(2.0))
    audio.read(first)
    kept = pids(alone)
    assert len(kept) == 1
    for name, codec in (("a.m4a", "aac"), ("a.webm", "libopus")):
        audio.read(save_av(tmp_path / name, speech(2.0, rate_hz=48_000), codec, 48_000))
    (tmp_path / "bad.wav").write_text("no audio " * 100, encoding="utf-8")
    with pytest.raises(errors.AudioUnreadable):
        audio.read(tmp_path / "bad.wav")
    assert audio.cut(first, 0.5, 1.0).shape == (1, 8_000)
    assert audio.probe(first.read_bytes()).duration_s == 2.0
    assert pids(alone) == kept


@IN_PROC
def test_it_is_kept_beside_a_large_process(tmp_path: Path, alone: DecoderPool) -> None:
    """Its own memory counts, and not that of the process that started it, whose peak a fork inherits."""
    path = save(tmp_path / "a.wav", speech(1.0))
    large = np.ones(300 << 20, np.uint8)
    audio.read(path)
    first = pids(alone)
    audio.read(path)
    assert large.size
    assert pids(alone) == first != set()


def test_it_gives_what_this_process_would(tmp_path: Path) -> None:
    stereo = np.stack([speech(3.0, rate_hz=44_100), sine(3.0, rate_hz=44_100)])
    for path in (save(tmp_path / "a.flac", stereo, 44_100), save_av(tmp_path / "a.mka", stereo, "flac", 44_100)):
        with opened(path) as source, decode.open_decoder(source) as here:
            expected, info = np.concatenate(list(here.blocks(10_000))), here.info
        with opened(path) as source, pool.open_decoder(source) as there:
            assert there.info == info
            assert np.array_equal(np.concatenate(list(there.blocks(10_000))), expected)


def test_samples_are_gathered_into_messages_of_limited_size() -> None:
    samples = np.random.default_rng(1).random((10_000, 32), np.float32)
    pieces = [samples[at : at + 700] for at in range(0, 10_000, 700)]
    gathered = list(child.gathered(iter(pieces), 3_000))
    assert [len(block) for block in gathered] == [3_000, 3_000, 3_000, 1_000]
    assert np.array_equal(np.concatenate(gathered), samples)
    wide = [np.zeros((100_000, 32), np.float32)]
    assert {block.nbytes for block in child.gathered(iter(wide), 100_000)} <= {
        protocol.BLOCK_BYTES,
        100_000 * 128 % (4 << 20),
    }


@IN_PROC
def test_it_holds_no_secret_and_has_limits(tmp_path: Path, alone: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2VSEARCH_API_KEY", "a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    with (tmp_path / "catalog.db").open("wb"), audio.open(save(tmp_path / "a.wav", sine(1.0))):
        (pid,) = pids(alone)
        proc = Path(f"/proc/{pid}")
        assert b"secret" not in (proc / "environ").read_bytes()
        held = [each.readlink() for each in (proc / "fd").iterdir()]
        assert not [path for path in held if path.suffix == ".db"]
        assert tmp_path / "a.wav" in held
        limits = (proc / "limits").read_text(encoding="ascii")
    soft = {name.strip(): value for name, value in re.findall(r"^(Max [a-z ]+?)  +(\S+)", limits, re.MULTILINE)}
    assert soft["Max address space"] == str(child.MEMORY_BYTES)
    assert soft["Max core file size"] == soft["Max file size"] == "0"
    assert int(soft["Max cpu time"]) <= child.PROCESSOR_S + 60
    assert int(soft["Max open files"]) <= 64


def test_ctrl_c_of_a_terminal_does_not_reach_it(tmp_path: Path, alone: DecoderPool) -> None:
    """It goes to a whole group: a process that has only just started would end, and its recording fail."""
    audio.read(save(tmp_path / "a.wav", speech(1.0)))
    (pid,) = pids(alone)
    assert os.getpgid(pid) == pid != os.getpgrp()


@IN_PROC
def test_it_reaches_no_network(tmp_path: Path, alone: DecoderPool) -> None:
    allowed = subprocess.run(
        ["unshare", "--net", "true"] if os.geteuid() == 0 else ["unshare", "-Un", "true"], check=False
    )
    if allowed.returncode:
        pytest.skip("this system gives no process a network of its own")
    audio.read(save(tmp_path / "a.wav", speech(1.0)))
    (pid,) = pids(alone)
    assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert len(Path(f"/proc/{pid}/net/route").read_text(encoding="ascii").splitlines()) <= 1, "a header, no route"


@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL"), (signal.SIGXCPU, "longer to decode than any recording")],
)
def test_what_ends_it_is_told_of_the_file_and_ends_nothing_else(
    tmp_path: Path, alone: DecoderPool, number: signal.Signals, says: str
) -> None:
    path = save(tmp_path / "a.wav", speech(30.0))
    blocks = audio.stream(path, block_s=1.0)
    next(blocks)
    (pid,) = pids(alone)
    os.kill(pid, number)
    with pytest.raises(errors.AudioUnreadable, match=says) as caught:
        list(blocks)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert pids(alone) == set()
    assert audio.read(path).shape == (1, 480_000)


def test_memory_that_no_recording_takes_is_refused(tmp_path: Path, alone: DecoderPool) -> None:
    with pytest.raises(errors.AudioUnreadable, match="more memory than any recording"):
        audio.probe(bombs.ape(60_000_000))
    padded = tmp_path / "a.m4a"
    padded.write_bytes(bombs.bytes_of(tmp_path)["mp4-index-padded.m4a"]())
    with pytest.raises(errors.AudioError, match=r"a\.m4a"):
        audio.read(padded)
    assert audio.read(wav_bytes(sine(1.0))).shape == (1, 16_000)


def test_what_is_wanted_no_more_is_given_up(tmp_path: Path, alone: DecoderPool) -> None:
    stop = threading.Event()
    path = save(tmp_path / "a.wav", speech(30.0))
    audio.read(path)
    (pid,) = pids(alone)
    blocks = audio.stream(path, block_s=1.0, stop=stop.is_set)
    next(blocks)
    os.kill(pid, signal.SIGSTOP)  # a decoder that never comes back
    stop.set()
    with pytest.raises(errors.Cancelled):
        list(blocks)
    assert pids(alone) == set()


def test_a_generator_that_outlives_its_source_says_so(tmp_path: Path, alone: DecoderPool) -> None:
    with audio.open(save(tmp_path / "a.wav", speech(30.0))) as recording:
        blocks = recording.blocks(1.0)
        next(blocks)
    with pytest.raises(errors.AudioError, match="is closed"):
        next(blocks)
    assert len(pids(alone)) == 1


def test_more_files_at_a_time_than_processes(tmp_path: Path, alone: DecoderPool) -> None:
    paths = [save(tmp_path / f"{number}.flac", speech(2.0, seed=number)) for number in range(6)]
    expected = [audio.read(path) for path in paths]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            assert all(map(np.array_equal, threads.map(audio.read, paths), expected))
    assert 1 <= len(pids(alone)) <= 2


def test_too_many_open_files_wait_and_are_then_refused(
    tmp_path: Path, alone: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_WAIT_S", 0.0)
    path = save(tmp_path / "a.wav", speech(2.0))
    with audio.open(path), audio.open(path):
        with pytest.raises(errors.AudioError, match="close some of them"):
            audio.probe(path)
        with pytest.raises(errors.Cancelled), audio.open(path, stop=lambda: True):
            pass
    assert audio.probe(path).channels == 1


def test_a_process_that_cannot_start_is_no_fault_of_the_file(
    tmp_path: Path, alone: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_CODE", "raise SystemExit(3)")
    with pytest.raises(errors.AudioError, match=r"has not started \(exit code 3\)") as caught:
        audio.read(save(tmp_path / "a.wav", sine(1.0)))
    assert not isinstance(caught.value, errors.AudioUnreadable)


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", speech(30.0))
    code = (
        "import os, sys\n"
        "from e2vsearch import audio\n"
        "from e2vsearch.audio.pool import POOL\n"
        "next(audio.stream(sys.argv[1], block_s=1.0))\n"
        "left = audio.stream(sys.argv[1], block_s=1.0)\n"
        "next(left)\n"
        "print(*(each.pid for each in POOL._all), flush=True)\n"
        "if sys.argv[2] == 'killed': os.kill(os.getpid(), 9)\n"
    )
    for how in ("in order", "killed"):
        done = subprocess.run([sys.executable, "-c", code, path, how], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        for pid in map(int, done.stdout.split()):
            while _runs(pid):
                threading.Event().wait(0.002)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_processes_of_its_own(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", speech(3.0))
    code = (
        "import os, sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "from e2vsearch import audio\n"
        "from e2vsearch.audio.pool import POOL\n"
        "audio.read(sys.argv[1])\n"
        "before = {each.pid for each in POOL._all}\n"
        "if (forked := os.fork()) == 0:\n"
        "    audio.read(sys.argv[1])\n"
        "    ours = {each.pid for each in POOL._all}\n"
        "    POOL.close()\n"
        "    os._exit(len(ours & before) + 10 * len(ours))\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1])\n"
        "assert audio.read(sys.argv[1]).shape == (1, 48_000)\n"
        "assert {each.pid for each in POOL._all} == before\n"
        "print(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("10\n", "")


def test_preparing_starts_one_process_that_the_next_file_takes(
    tmp_path: Path, alone: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "POOL", alone)
    audio.prepare(sine(1.0))
    assert pids(alone) == set()
    path = save(tmp_path / "a.wav", sine(1.0))
    audio.prepare(path)
    prepared = pids(alone)
    assert len(prepared) == 1
    audio.prepare(b"")
    audio.read(path)
    assert pids(alone) == prepared


def test_a_message_that_is_none() -> None:
    for sent in (b"", b"S\x00", b"S\xff\xff\xff\xff\x00\x00\x00\x00", b"S\x01\x00\x00\x00\x00\x00\x00\x00{"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(protocol.ProtocolError):
                protocol.receive(ours)
