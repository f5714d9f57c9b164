"""Workers on a Ray cluster: what is asked wrongly is said, and what is killed costs nothing that is stored."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Run

import e2vsearch
from e2vsearch.catalog import recordings
from e2vsearch.errors import MissingExtra, SettingsError
from e2vsearch.ingest.ray import RayOptions, work_on_ray

RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the 'ray' extra is not installed")
ALONE = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def alone() -> list[str]:
    """What a command needs before it to have a network of its own: Ray picks an address that may reach nothing."""
    try:
        ran = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        ran = False
    return ALONE if ran else []


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A folder whose name is short enough for Ray's sockets, and in which no other cluster is."""
    with tempfile.TemporaryDirectory(prefix="e2v", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_collection_of_one_machine_is_refused(run: Run, tmp_path: Path, calls: Path) -> None:
    done = run("ingest", calls, "--ray", "local", "--index", tmp_path / "index", "--encoder", "fake")
    assert not (tmp_path / "index").exists()
    with (
        e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection,
        pytest.raises(SettingsError, match="postgresql://"),
    ):
        work_on_ray(collection.queue)
    assert done.code == 2
    assert "SQLite" in done.err
    assert "postgresql://" in done.err
    assert run("ingest", calls, "--ray", "local", "--watch", "--index", tmp_path / "index").code == 2
    assert run("ingest", calls, "--ray", "local", "--ray-cpus", "0", "--index", tmp_path / "index").code == 2


def test_options_that_make_no_sense_are_refused() -> None:
    for options in ({"actors": -1}, {"cpus": 0.0}, {"gpus": -0.5}):
        with pytest.raises(SettingsError, match="--ray-"):
            RayOptions(**options)


def test_a_missing_package_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("Postgres alone has workers on other machines")
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        e2vsearch.open(database_url, encoder="fake", create=True) as collection,
        pytest.raises(MissingExtra, match=r"e2vsearch\[ray\]"),
    ):
        collection.queue.work_on_ray()


@RAY
@pytest.mark.slow
def test_ctrl_c_ends_the_actors_in_order(
    postgres_database: object, tmp_path: Path, calls: Path, ray_folder: Path
) -> None:
    """The command starts a cluster of this machine's cores, and is interrupted once something is stored."""
    url = str(postgres_database())  # type: ignore[operator]
    with e2vsearch.open(url, encoder="fake", create=True) as collection:
        command = [sys.executable, "-m", "e2vsearch", "ingest", str(calls), "--ray", "local", "--ray-actors", "1"]
        environment = {**os.environ, "RAY_TMPDIR": str(ray_folder), "E2VSEARCH_CACHE": str(tmp_path / "cache")}
        with subprocess.Popen(
            [*alone(), *command, "--index", url, "--encoder", "fake", "-f", "json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stderr is not None
            next(line for line in process.stderr if "working for" in line)
            pause = threading.Event()  # it says nothing when it begins: the database does
            while process.poll() is None and not recordings.count(collection.catalog):
                pause.wait(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        assert process.returncode in (0, 130), err
        (report,) = json.loads(out) if out.startswith("[") else [json.loads(out)]
        stored, depth = recordings.count(collection.catalog), collection.queue.state().depth
        assert report["recordings"] == stored
        assert (report["lost"], report["left"]) == (0, depth.queued + depth.leased)
        assert depth.leased == 0  # what was not begun was given back, and what was is stored
        assert stored + depth.queued == 6


@RAY
@pytest.mark.slow
def test_a_lost_node_and_a_lost_driver_lose_no_recording(repository: Path, tmp_path: Path) -> None:
    """Two nodes and a driver with sixteen recordings: one node and the driver are killed."""
    pytest.importorskip("psycopg", reason="the 'postgres' extra is not installed")
    rows = tmp_path / "rows.json"
    command = [sys.executable, str(repository / "benchmarks" / "cluster.py"), "--quick", "--json", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "needs Postgres" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row["value"] for row in json.loads(rows.read_text())}
    assert (found["recordings stored"], found["nodes lost"], found["drivers lost"]) == (16, 1, 1)
