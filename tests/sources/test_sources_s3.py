"""Recordings in a real S3 server on this machine, and no secret in what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import Run
from opened_source import opened

from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote

pytestmark = pytest.mark.slow  # a server is started, and answers every test


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
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3_is_resumed_without_downloads(
    s3: Any, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    (tmp_path / "calls.csv").write_text("file,agent\ns3://bucket/calls/a.wav,Kim\nb c,Lee\n")
    fetched: list[str] = []
    copied = Stores._copied

    def counted(self: Stores, store: Any, source: Remote, path: Path, most: int) -> tuple[str, int]:
        fetched.append(source.uri)
        return copied(self, store, source, path, most)

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
    assert refused.code == 2
    assert "user or password" in refused.err
    assert "5ecret" not in refused.err
