"""What stands for a recording: addresses without secrets, waits, and how a change is told."""

from __future__ import annotations

import email.utils
from pathlib import Path

import pytest

from e2vsearch.audio.paths import expand
from e2vsearch.errors import MissingExtra, QueryError, SettingsError
from e2vsearch.ingest.sources import source_of, sources
from e2vsearch.remote import stores as remote_room
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote, remote

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
