"""Recordings behind URLs: a real S3 server and a real web server on this machine, and no secret in what is stored."""

from __future__ import annotations

import email.utils
import hashlib
import os
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
from command import Run
from made import save, speech

import e2vsearch
from e2vsearch.collection.hearing import Stopped
from e2vsearch.collection.roots import Roots
from e2vsearch.errors import AudioError, AudioUnreachable, E2vsearchError, MissingExtra, QueryError, SettingsError
from e2vsearch.ingest import Collection, expand
from e2vsearch.ingest import remote as remote_room
from e2vsearch.ingest.addresses import Remote, State, remote
from e2vsearch.ingest.remote import Backoff, Stores
from e2vsearch.ingest.sources import source_of, sources

QUICK = Backoff(tries=3, first_s=1.0, chance=lambda: 0.5)


def opened(place: object) -> Collection:
    return e2vsearch.open(place, encoder="fake")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.wav", "sub/b c.wav")):
        save(folder / name, speech(2.5, seed=number, pitch_hz=110 + 10 * number))
    (folder / "sub" / "bad.wav").write_text("no audio " * 100)
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_bytes((folder / "a.wav").read_bytes())
    return folder


# --- addresses


def test_an_address_stands_for_itself() -> None:
    assert remote("S3://bucket/calls/a b%20#1.wav").uri == "s3://bucket/calls/a b%20#1.wav"
    assert remote("s3://bucket/calls/a b.wav").path == Path("/bucket/calls/a b.wav")
    assert remote("https://example.org:8443/calls/a%20b.wav#t=3").uri == "https://example.org:8443/calls/a%20b.wav"
    assert remote("https://example.org:8443/calls/a%20b.wav").path.stem == "a b"


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Credential=AKIA&X-Amz-Signature=5ecret",
        "GoogleAccessId=me&Expires=1&Signature=5ecret",
        "X-Goog-Signature=5ecret",
        "sv=2024-01-01&se=2027&sig=5ecret",
    ],
)
def test_a_signature_is_used_and_not_kept(query: str) -> None:
    signed = remote(f"https://example.org/a.wav?{query}")
    assert signed.url.endswith(query)
    assert signed.uri == "https://example.org/a.wav"
    assert "5ecret" not in repr(signed)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://me:5ecret@example.org/a.wav", "user or password"),
        ("s3://key:5ecret@bucket/a.wav", "user or password"),
        ("https://example.org/a.wav?token=5ecret", "may be a secret"),
        ("https://example.org/a.wav?5ecret", "may be a secret"),
        ("ftp://example.org/a.wav", "nothing to ingest from"),
        ("memory://a.wav", "nothing to ingest from"),
        ("s3:///a.wav", "names no bucket"),
        ("http:///a.wav", "names no host"),
    ],
)
def test_what_may_hold_a_secret_is_refused_unsaid(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        remote(url)
    assert "5ecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_urls_are_paths(calls: Path) -> None:
    both = [str(calls / "sub" / "b c.wav"), (calls / "sub" / "b c.wav").as_uri()]
    assert list(expand(both)) == [calls / "sub" / "b c.wav"]
    assert list(sources(both, Stores())) == [calls / "sub" / "b c.wav"]
    assert source_of(both[1]) == calls / "sub" / "b c.wav"
    assert source_of("s3://bucket/a.wav") == Remote("s3://bucket/a.wav", "s3://bucket/a.wav")


def test_whoever_takes_files_alone_says_so(calls: Path) -> None:
    with pytest.raises(QueryError, match="download it first"):
        list(expand(["s3://bucket/a.wav"]))
    with pytest.raises(SettingsError, match="saved vectors are read from files"):
        list(sources(["s3://bucket/vectors/"], Stores(), of_vectors=True))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    for url, extra in (("s3://bucket/", "remote"), ("https://example.org/a.wav", "remote"), ("gs://bucket/", "gcs")):
        stores = Stores()
        with pytest.raises(MissingExtra, match=rf"e2vsearch\[{extra}\]"):
            stores.state(next(stores.expand(url)))


# --- patience


def test_waits_grow_up_to_a_limit_and_are_random() -> None:
    backoff = Backoff(first_s=0.5, longest_s=20.0, chance=lambda: 1.0)
    assert [backoff.before(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 20, 20]
    assert Backoff(chance=lambda: 0.0).before(5) == 0
    assert len({Backoff().before(3) for _ in range(20)}) > 10


def test_a_state_tells_whether_a_recording_changed() -> None:
    state = remote_room._state
    listed = state({"size": 5, "ETag": '"abc"', "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert listed.mtime_ns is not None
    assert listed.mtime_ns // 10**9 == email.utils.parsedate_to_datetime("Wed, 21 Oct 2026 07:28:00 GMT").timestamp()
    assert listed.is_as(5, listed.mtime_ns)
    assert not listed.is_as(6, listed.mtime_ns)
    other = state({"size": 5, "ETag": '"abd"', "Last-Modified": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert not other.is_as(5, listed.mtime_ns)
    assert not state({"size": 5}).is_as(5, 0)  # nothing to tell by: it must be read
    assert state({"size": None, "ETag": "x"}).is_as(5, state({"size": 5, "ETag": "x"}).mtime_ns or 0)


# --- a web server


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
    [by_number] = Stores(backoff=Backoff(tries=1)).expand("http://[::1]:9/calls/a.wav")
    assert (by_number.uri, by_number.error) == ("http://[::1]:9/calls/a.wav", None)


def test_a_full_disk_is_said(web: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("needs /dev/full")
    source = remote(f"{web.url}/a.wav")
    stores = Stores(backoff=QUICK)
    with pytest.raises(SettingsError, match=r"a\.wav: .* cannot hold it for a while: .* TMPDIR"):
        stores._copied(stores._store("http"), source, Path("/dev/full"))


def test_a_web_server_that_answers_the_third_time(web: Server, tmp_path: Path) -> None:
    web.trouble["/a.wav"] = [503, 503, 429, 429]  # a HEAD, and the GET that is tried in its place
    waits: list[float] = []
    stores = Stores(backoff=QUICK, wait=waits.append)
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
        Stores(backoff=QUICK, wait=waits.append).state(remote(f"{web.url}/a.wav"))
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
        Stores(backoff=QUICK, wait=waits.append).state(remote(url))
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
    with pytest.raises(Stopped):
        Stores(stop, QUICK, wait=lambda _: stop.set()).state(remote(f"{web.url}/a.wav"))
    with pytest.raises(Stopped), Stores(stop).fetched(Remote("http://x/a.wav", "http://x/a.wav", State(1, 1, None))):
        raise AssertionError("nothing is fetched")


def test_no_client_makes_a_service_fetch_anything(web: Server, tmp_path: Path) -> None:
    url = f"{web.url}/a.wav"
    with opened(tmp_path / "index") as collection:
        collection.ingest(url)
        web.asked.clear()
        for ask in (collection.query, collection.hear, Roots([tmp_path]).allowed, Roots().allowed):
            with pytest.raises(E2vsearchError) as caught:
                ask(url)  # type: ignore[operator]
            assert "\n" not in str(caught.value)
        [segment] = collection.segments("call:1")
        with pytest.raises(AudioError) as caught:  # what is stored of it is searched; its sound is not here
            collection.clip(segment.id)
        assert "a.wav" in str(caught.value)
        assert collection.query(segment.id, include_self=True)[0].uri == url
        assert not web.asked


# --- S3


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An S3 filesystem with a bucket of calls; what the environment says is all that anybody knows of it."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "5ecret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # made with another environment
    store = s3fs.S3FileSystem(use_listings_cache=False)
    store.mkdir("bucket")
    for name in ("a.wav", "sub/b c.wav", "sub/bad.wav", "notes.txt", ".hidden.wav"):
        store.pipe(f"bucket/calls/{name}", (calls / name).read_bytes())
    store.pipe("bucket/calls/.trash/c [2].wav", b"RIFF")
    yield store
    store.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


WHOLE = ["s3://bucket/calls/a.wav", "s3://bucket/calls/sub/b c.wav", "s3://bucket/calls/sub/bad.wav"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://bucket/calls/", WHOLE),
        ("s3://bucket/calls", WHOLE),
        ("s3://bucket", WHOLE),
        ("s3://bucket/calls/*.wav", WHOLE[:1]),
        ("s3://bucket/calls/sub/b*", WHOLE[1:]),
        ("s3://bucket/**/b?c.wav", WHOLE[1:2]),
        ("s3://bucket/calls/notes.txt", ["s3://bucket/calls/notes.txt"]),  # named, so taken
        ("s3://bucket/calls/none*.wav", []),
        ("s3://bucket/calls/.trash/", ["s3://bucket/calls/.trash/c [2].wav"]),  # named, so taken
        ("s3://bucket/calls/.trash/c [2].wav", ["s3://bucket/calls/.trash/c [2].wav"]),  # as it stands, not as a glob
    ],
)
def test_what_an_s3_url_names(s3: Any, url: str, found: list[str]) -> None:
    listed = list(Stores().expand(url))
    assert [(each.uri, each.error) for each in listed] == [(uri, None) for uri in found]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://nobucket/", "there is no bucket nobucket"),
        ("s3://nobucket/a.wav", "there is no bucket nobucket"),
        ("s3://nobucket/*.wav", "not found"),
        ("s3://bucket/none/", "not found"),
        ("s3://bucket/none.wav", "not found"),
    ],
)
def test_what_is_not_there_fails_alone(s3: Any, tmp_path: Path, url: str, says: str) -> None:
    with opened(tmp_path / "index") as collection:
        report = collection.ingest(url, "s3://bucket/calls/a.wav")
        assert report.stored == 1
        [failure] = report.failures
        assert (failure.uri, failure.reason) == (url, "missing")
        assert says in failure.message


def test_without_credentials_that_is_said(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with opened(tmp_path / "index") as collection:
        [failure] = collection.ingest("s3://bucket/calls/a.wav").failures
        assert failure.reason == "forbidden"
        assert "no credentials" in failure.message
        assert "AWS_ACCESS_KEY_ID" in failure.message


def test_s3_is_resumed_without_downloads(
    s3: Any, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    (tmp_path / "calls.csv").write_text("file,agent\ns3://bucket/calls/a.wav,Kim\nb c,Lee\n")
    fetched: list[str] = []
    copied = Stores._copied

    def counted(self: Stores, store: Any, source: Remote, path: Path) -> tuple[str, int]:
        fetched.append(source.uri)
        return copied(self, store, source, path)

    monkeypatch.setattr(Stores, "_copied", counted)
    with opened(database_url) as collection:
        rehearsed = collection.ingest("s3://bucket/calls/", dry_run=True)
        assert (rehearsed.stored, fetched) == (3, [])
        report = collection.ingest("s3://bucket/calls/", meta=tmp_path / "calls.csv")
        assert (report.stored, report.unused_metadata, len(report.failures)) == (2, 0, 1)
        assert {recording.name: recording.metadata["agent"] for _, recording in collection.catalog.recordings()} == {
            "a": "Kim",
            "b c": "Lee",
        }
        fetched.clear()
        assert collection.ingest(*WHOLE[:2]).already == 2
        assert collection.ingest("s3://bucket/calls/*.wav", "s3://bucket/calls/sub/b*").already == 2
        assert fetched == ["s3://bucket/calls/sub/bad.wav"]  # what failed is tried again

        s3.pipe("bucket/calls/a.wav", (calls / "sub" / "b c.wav").read_bytes()[:-2] + b"\x00\x00")
        assert collection.ingest("s3://bucket/calls/").replaced == 1
        s3.mv("bucket/calls/a.wav", "bucket/calls/z.wav")
        report = collection.ingest("s3://bucket/calls/")
        assert (report.moved, report.already) == (1, 1)
        assert {recording.name for _, recording in collection.catalog.recordings()} == {"b c", "z"}
        assert collection.ingest(calls / "sub" / "b c.wav").already == 1  # a copy: the bucket's is still there
        assert {recording.uri for _, recording in collection.catalog.recordings()} == {
            "s3://bucket/calls/sub/b c.wav",
            "s3://bucket/calls/z.wav",
        }


def test_transcripts_are_joined_by_name(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "said" / "sub").mkdir(parents=True)
    (tmp_path / "said" / "sub" / "b c.srt").write_text("1\n00:00:00,000 --> 00:00:02,500\nhello there\n")
    with opened(tmp_path / "index") as collection:
        report = collection.ingest("s3://bucket/calls/sub/b c.wav", transcripts=tmp_path / "said")
        assert (report.stored, report.transcripts) == (1, 1)


def test_the_command(s3: Any, run: Run, tmp_path: Path) -> None:
    done = run("ingest", "s3://bucket/calls/", "--index", tmp_path / "index", "--encoder", "fake")
    assert done.code == 3
    assert (done.rows[0]["stored"], done.rows[0]["failures"][0]["reason"]) == (2, "not-audio")
    assert "5ecret" not in done.out + done.err
    refused = run("ingest", "https://me:5ecret@example.org/a.wav", "--index", tmp_path / "index")
    assert refused.code == 1
    assert "user or password" in refused.err
    assert "5ecret" not in refused.err
