"""Recordings on a real web server of this machine, which misbehaves where it is told to."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from made import save, speech
from opened_source import opened

from e2vsearch.access import AllowedFolders
from e2vsearch.errors import AudioError, AudioUnreachable, Cancelled, E2vsearchError, SettingsError
from e2vsearch.remote import stores
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote, State, remote


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, counts, and misbehaves where it is told to."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked[f"{self.command} {self.path.partition('?')[0]}"] += 1
        self.server.queries.append(self.path.partition("?")[2])
        trouble = self.server.trouble.get(self.path.partition("?")[0], [])
        status = trouble.pop(0) if trouble else 200
        if status == 200:
            super().do_GET() if self.command == "GET" else super().do_HEAD()
        elif status == 0:  # a connection that breaks in the middle
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"RIFF" * 10)
            self.close_connection = True
        else:
            self.send_error(status)

    do_HEAD = do_GET  # noqa: N815 - as the base has it

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.queries: list[str] = []
        self.trouble: dict[str, list[int]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def web(calls: Path, tmp_path: Path) -> Iterator[Server]:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    server = Server(shutil.copytree(calls, tmp_path / "web"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_of_a_web_server(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(f"{web.url}/")
        assert report.stored == 2
        [failure] = report.failures
        assert (failure.uri, failure.reason) == (f"{web.url}/sub/bad.wav", "not-audio")
        assert str(scratch) not in failure.message
        by_name = {recording.name: recording for _, recording in collection.catalog.recordings()}
        assert {recording.uri for recording in by_name.values()} == {f"{web.url}/a.wav", f"{web.url}/sub/b%20c.wav"}
        assert set(by_name) == {"a", "b c"}
        written = (tmp_path / "web" / "a.wav").stat()
        assert by_name["a"].recorded_at.timestamp() == int(written.st_mtime)
        assert by_name["a"].content_sha256 == hashlib.sha256((tmp_path / "web" / "a.wav").read_bytes()).hexdigest()
        assert list(scratch.iterdir()) == []

        web.asked.clear()
        again = collection.ingest(f"{web.url}/a.wav", f"{web.url}/sub/b%20c.wav")
        assert again.already == 2
        assert not [what for what in web.asked if what.startswith("GET")]

        save(tmp_path / "web" / "a.wav", speech(3.0, seed=9))
        os.utime(tmp_path / "web" / "a.wav", (written.st_mtime + 5, written.st_mtime + 5))
        assert collection.ingest(f"{web.url}/a.wav").replaced == 1


def test_what_a_web_url_names(web: Server) -> None:
    found = Stores().expand(f"{web.url}/*.wav")
    assert [(each.uri, each.error) for each in found] == [(f"{web.url}/a.wav", None)]
    (Path(web.folder) / "page").mkdir()
    (Path(web.folder) / "page" / "index.html").write_text("<html>nothing here</html>")
    [page] = Stores().expand(f"{web.url}/page/")
    assert "lists no files" in str(page.error)
    [missing] = Stores().expand(f"{web.url}/none/")
    assert "not found" in str(missing.error)
    [by_number] = Stores(tries=1).expand("http://[::1]:9/calls/a.wav")
    assert (by_number.uri, by_number.error) == ("http://[::1]:9/calls/a.wav", None)


def test_a_server_that_states_no_size_is_not_fetched_for_ever(
    web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_UNSTATED_BYTES", 50_000)
    monkeypatch.setattr(Stores, "state", lambda *_: State(None, None, None))
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(f"{web.url}/a.wav")
    [failure] = report.failures
    assert (failure.uri, failure.reason) == (f"{web.url}/a.wav", "too-long")
    assert "states no size, and over 50,000 bytes came" in failure.message


def test_a_full_disk_is_said(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("needs /dev/full")
    source = remote(f"{web.url}/a.wav")
    stores = Stores(tries=3)
    with pytest.raises(SettingsError, match=r"a\.wav: .* cannot hold it for a while: .* TMPDIR"):
        stores._copied(stores._store("http"), source, Path("/dev/full"), 1 << 20)


def test_waits_grow_and_are_random(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    web.trouble["/a.wav"] = [503] * 40
    waits: list[float] = []
    stores = Stores(wait=waits.append)
    for chance in (random.uniform, lambda _, high: high):
        monkeypatch.setattr("random.uniform", chance)
        with pytest.raises(AudioUnreachable):
            stores.state(remote(f"{web.url}/a.wav"))
    assert waits[5:] == [1, 2, 4, 8, 16]
    assert all(0 < wait < most for wait, most in zip(waits[:5], waits[5:], strict=True))


def test_a_web_server_that_answers_the_third_time(web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    web.trouble["/a.wav"] = [503, 503, 429, 429]  # a HEAD, and the GET that is tried in its place
    waits: list[float] = []
    stores = Stores(tries=3, wait=waits.append)
    web.trouble["/sub/b%20c.wav"] = [200, 200, 0, 200]
    assert stores.state(remote(f"{web.url}/a.wav")).size_bytes == (tmp_path / "web" / "a.wav").stat().st_size
    assert waits == [1.0, 2.0]
    with stores.fetched(remote(f"{web.url}/sub/b%20c.wav")) as fetched:
        assert fetched.path.read_bytes() == (tmp_path / "web" / "sub" / "b c.wav").read_bytes()
        assert fetched.path.suffix == ".wav"
    assert not fetched.path.exists()
    assert waits == [1.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("status", "reason", "says", "tries"),
    [
        (404, "missing", "not found", 1),
        (410, "missing", "not found", 1),
        (401, "forbidden", "credentials", 1),
        (403, "forbidden", "credentials", 1),
        (418, "missing", "refused with status 418", 1),
        (500, "unreachable", "status 500", 3),
        (503, "unreachable", "status 503", 3),
    ],
)
def test_what_a_web_server_says(web: Server, tmp_path: Path, status: int, reason: str, says: str, tries: int) -> None:
    web.trouble["/a.wav"] = [status] * 20
    waits: list[float] = []
    with pytest.raises(AudioError, match=says) as caught:
        Stores(tries=3, wait=waits.append).state(remote(f"{web.url}/a.wav"))
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{web.url}/a.wav: ")
    assert "\n" not in str(caught.value)
    assert len(waits) == tries - 1


def test_nobody_answers(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/a.wav"
    waits: list[float] = []
    with pytest.raises(AudioUnreachable, match="cannot be reached") as caught:
        Stores(tries=3, wait=waits.append).state(remote(url))
    assert (caught.value.reason, len(waits)) == ("unreachable", 2)


def test_a_signed_address_leaves_no_trace(web: Server, tmp_path: Path) -> None:
    signature = "X-Amz-Signature=5ecret&X-Amz-Expires=9"
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(*(f"{web.url}/{name}?{signature}" for name in ("a.wav", "none.wav", "sub/bad.wav")))
        assert report.stored == 1
        assert signature in web.queries
        assert {failure.reason for failure in report.failures} == {"missing", "not-audio"}
        assert "5ecret" not in repr((report, collection.failures(), list(collection.catalog.recordings())))
        assert collection.ingest(f"{web.url}/a.wav?X-Amz-Signature=another").already == 1
    assert b"5ecret" not in b"".join(path.read_bytes() for path in (tmp_path / "index").rglob("*") if path.is_file())


@pytest.mark.slow
def test_memory_is_bounded_however_long_a_recording_is(web: Server, tmp_path: Path) -> None:
    with (tmp_path / "web" / "long.wav").open("wb") as file:
        file.truncate(200 << 20)
    stores = Stores()
    with stores.fetched(remote(f"{web.url}/a.wav")):  # imports come first
        pass
    tracemalloc.start()
    try:
        with stores.fetched(remote(f"{web.url}/long.wav")) as fetched:
            assert fetched.size_bytes == 200 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_stopping_ends_waits_and_downloads(web: Server, tmp_path: Path) -> None:
    stop = threading.Event()
    web.trouble["/a.wav"] = [503] * 20
    with pytest.raises(Cancelled):
        Stores(stop, wait=lambda _: stop.set()).state(remote(f"{web.url}/a.wav"))
    with pytest.raises(Cancelled), Stores(stop).fetched(Remote("http://x/a.wav", "http://x/a.wav", State(1, 1, None))):
        raise AssertionError("nothing is fetched")


def test_no_client_makes_a_service_fetch_anything(web: Server, tmp_path: Path) -> None:
    url = f"{web.url}/a.wav"
    with opened(tmp_path / "index") as collection:
        collection.ingest(url)
        web.asked.clear()
        folders, none = AllowedFolders([tmp_path]), AllowedFolders()
        for ask in (collection.query, collection.embed, folders.allowed, none.allowed, folders.stored, none.stored):
            with pytest.raises(E2vsearchError) as caught:
                ask(url)
            assert "\n" not in str(caught.value)
        [segment] = collection.segments("call:1")
        assert collection.query(segment.id, include_self=True)[0].uri == url
        assert not web.asked
        assert collection.clip(segment.id).size > 0  # whoever has the collection open may listen
        assert web.asked
