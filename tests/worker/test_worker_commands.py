"""`e2vsearch worker` and `queue`, options, signals and metrics."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from command import Run

import e2vsearch
from e2vsearch.catalog import queue
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import ServiceError, SettingsError
from e2vsearch.ingest.worker import WorkerOptions

QUICK = WorkerOptions(workers=2, drain=True, retry_after_s=0.0, poll_s=0.01)


@pytest.fixture
def place(tmp_path: Path, calls: Path) -> Path:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.queue.add(calls)
    return tmp_path / "index"


def test_worker_command(run: Run, place: Path) -> None:
    done = run("worker", "--index", place, "--encoder", "fake", "--drain", "--workers", 2, "--log", "json")
    assert done.code == 0
    (report,) = done.rows
    assert (report["stored"], report["dead_letters"]) == (6, 0)
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    stored = [line for line in lines if line.get("outcome") == "stored"]
    assert len(stored) == 6
    assert {"time", "level", "uri", "attempt", "audio_s", "seconds", "real_time_factor", "worker"} <= stored[0].keys()
    assert run("worker", "--index", place, "--encoder", "fake", "--drain", "--format", "table").out.endswith(
        "nothing was queued\n"
    )


def test_ingest_queues_and_workers_do_it(run: Run, tmp_path: Path, calls: Path) -> None:
    index, meta = tmp_path / "queue", tmp_path / "calls.csv"
    meta.write_text("file,agent\n0.wav,Kim\n", encoding="utf-8")
    queued = run(
        "ingest", calls, tmp_path / "none.wav", "--queue", "--meta", meta, "--index", index, "--format", "table"
    )
    assert (queued.code, queued.out) == (3, f"{index}: 6 queued, 1 failed\n")
    assert "no such file" in queued.err
    assert "e2vsearch worker" in queued.err
    urgent = run("ingest", calls / "3.wav", "--queue", "--priority", 5, "--encoder", "fake", "--index", index)
    assert (urgent.code, urgent.rows[0]["queued"], urgent.rows[0]["waiting"]) == (0, 0, 1)
    with closing(Catalog.open(f"sqlite:///{index}/catalog.db")) as catalog:
        (first,) = queue.take(catalog, "x", 1, lease_s=60, attempts=3)
        assert Path(first.uri).name == "3.wav"
        queue.release(catalog, [first.lease])
    assert run("worker", "--index", index, "--drain").rows[0]["stored"] == 6  # with the encoder that was queued for
    assert run("ingest", calls, "--queue", "--index", index).rows[0]["already"] == 6
    assert run("ingest", calls, "--queue", "--transcripts", calls, "--index", index).code == 2


def test_worker_says_when_something_was_given_up(run: Run, place: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio at all " * 400, encoding="utf-8")
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        collection.queue.add(bad)
    done = run("worker", "--index", place, "--encoder", "fake", "--drain", "-q", "--format", "table")
    assert (done.code, done.out) == (3, f"{place}: 6 stored, 1 dead letters\n")
    shown = run("queue", "--index", place, "--format", "table")
    assert "dead letter: not-audio" in shown.out
    assert "".join(str(bad).split()) in "".join(shown.out.split())  # a long path goes on in the next line
    (whole,) = run("queue", "--index", place).rows
    assert whole["depth"]["dead_letters"] == 1
    assert whole["dead_letters"][0]["reason"] == "not-audio"
    assert run("failures", "--index", place).rows[0]["reason"] == "not-audio"
    unknown = run("queue", "retry", "nothing.wav", "--index", place)
    assert (unknown.code, "e2vsearch queue lists them" in unknown.err) == (2, True)
    assert run("queue", "retry", bad, "--index", place).rows == [{"queued": 1}]
    assert run("queue", "clear", "--yes", "--index", place).rows == [{"removed": 1}]
    assert run("queue", "--index", place).rows[0]["depth"]["queued"] == 0


def test_queue_shows_who_works(run: Run, place: Path) -> None:
    with closing(Catalog.open(f"sqlite:///{place}/catalog.db")) as catalog:
        queue.take(catalog, "there:7", 2, lease_s=60, attempts=3)
    shown = run("queue", "--index", place, "--format", "table").out
    assert re.search(r"queued +4\n", shown)
    assert re.search(r"leased +2\n", shown)
    assert re.search(r"there:7 +2 leased until \d\d:\d\d:\d\d UTC\n", shown)
    assert run("queue", "clear", "--failed-only", "--index", place).rows == [{"removed": 0}]


@pytest.mark.parametrize(
    "options", [{"lease_s": 0.0}, {"attempts": 0}, {"workers": -1}], ids=["lease", "attempts", "workers"]
)
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="--"):
        WorkerOptions(**options)  # type: ignore[arg-type]


def test_a_signed_address_is_not_queued(tmp_path: Path) -> None:
    pytest.importorskip("tenacity", reason="the 'remote' extra is not installed")
    with (
        e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection,
        pytest.raises(SettingsError, match="signed"),
    ):
        collection.queue.add("https://calls.example/a.wav?X-Amz-Signature=abc")


@pytest.mark.slow
def test_signals_end_a_worker_in_order(place: Path, calls: Path) -> None:
    """``e2vsearch worker`` idles on an empty queue until SIGTERM, and exits with 0."""
    command = [sys.executable, "-m", "e2vsearch", "worker", "--index", str(place), "--encoder", "fake"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        with closing(Catalog.open(f"sqlite:///{place}/catalog.db")) as catalog:
            for line in process.stderr:
                if "outcome=stored" in line and queue.depth(catalog).queued == 0:
                    break
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["given_back"] + json.loads(out)["stored"] == 6


# --------------------------------------------------------------------------------------------------------- metrics


@pytest.mark.slow
def test_metrics(tmp_path: Path, calls: Path) -> None:
    pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
    from e2vsearch.ingest.prometheus import WorkerMetrics

    bad = tmp_path / "bad.wav"
    bad.write_text("no audio at all " * 400, encoding="utf-8")
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.queue.add(calls, bad)
        metrics = WorkerMetrics(collection.catalog)
        collection.queue.work(QUICK, done=metrics)
        with metrics.serving(0) as port:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                found = answer.read().decode()
            with pytest.raises(ServiceError, match="--metrics-port"), metrics.serving(port):
                pass
    values = dict(line.rsplit(" ", 1) for line in found.splitlines() if not line.startswith("#"))
    assert found == metrics.text()
    assert float(values['e2vsearch_worker_recordings_total{outcome="stored"}']) == 6
    assert float(values['e2vsearch_worker_failures_total{reason="not-audio"}']) == 1
    assert float(values["e2vsearch_worker_audio_seconds_total"]) == pytest.approx(30, abs=0.5)
    assert float(values["e2vsearch_worker_real_time_factor"]) > 0
    assert float(values['e2vsearch_queue_recordings{state="dead_letter"}']) == 1
    assert float(values['e2vsearch_queue_recordings{state="queued"}']) == 0


def test_metrics_without_the_package(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = run("worker", "--index", place, "--encoder", "fake", "--drain", "--metrics-port", 0)
    assert done.code == 1
    assert "e2vsearch[serve]" in done.err
