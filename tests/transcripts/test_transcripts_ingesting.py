"""Transcripts of a folder: which is whose, joined while ingesting, and broken ones that stop nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import damaged
from made_transcripts import SRT, put, srt

import e2vsearch
from e2vsearch.catalog import text_search
from e2vsearch.collection import Collection
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.transcripts.alignment import TranscriptFolder

# --- by name


def test_which_transcript_is_whose(tmp_path: Path) -> None:
    folder = tmp_path / "said"
    for name in (
        "a.srt",
        "monday/a.srt",
        "b.wav.vtt",
        "c.json",
        "c.srt",
        "c.txt",
        "odd.name.srt",
        ".hidden.srt",
        "x.md",
    ):
        put(folder / name, "1\n00:00:01,000 --> 00:00:02,000\nhello" if name != "c.json" else "{}")
    calls = tmp_path / "calls"
    named = ("a.wav", "monday/a.wav", "b.wav", "c.mp3", "odd.name.flac", "none.wav")
    found = TranscriptFolder(folder, [calls / name for name in named])

    def of(name: str) -> str | None:
        match = found.find(calls / name)
        return None if match is None else str(match.path.relative_to(folder))

    assert [of(name) for name in named] == ["a.srt", "monday/a.srt", "b.wav.vtt", "c.srt", "odd.name.srt", None]
    assert found.unused() == 0
    assert TranscriptFolder(folder, [calls / "a.wav"]).unused() == 4
    with pytest.raises(SettingsError, match="no folder"):
        TranscriptFolder(tmp_path / "nowhere", [])


def test_one_transcript_for_two_recordings(tmp_path: Path) -> None:
    put(tmp_path / "said" / "a.srt", SRT)
    two = [tmp_path / "monday" / "a.wav", tmp_path / "friday" / "a.wav"]
    match = TranscriptFolder(tmp_path / "said", two).find(two[0])
    assert match is not None
    assert "fits a recording in" in str(match.error)
    # beside the one, it is not the other's
    put(tmp_path / "a.srt", SRT)
    both = [tmp_path / "a.wav", tmp_path / "monday" / "a.wav"]
    beside = TranscriptFolder(tmp_path, both)
    assert beside.find(both[0]) is not None
    assert beside.find(both[1]) is None
    # two formats of one recording in one folder share it
    same = [tmp_path / "monday" / "a.wav", tmp_path / "monday" / "a.mp3"]
    assert TranscriptFolder(tmp_path / "said", same).find(same[1]).transcript is not None  # type: ignore[union-attr]


# --- ingesting


def said_in(collection: Collection, name: str) -> list[str | None]:
    return [segment.text for segment in collection.segments(collection.recordings(where=f"name = {name}")[0].id)]


def test_ingest_joins_and_joins_again(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning"), (4.5, 7.4, "I want a refund")))
    put(
        folder / "pair.vtt",
        "WEBVTT\n\n00:00.600 --> 00:03.900\n<v Agent>Hello\n\n00:05.100 --> 00:08.900\n<v Kim>Angry!",
    )
    put(folder / "quiet.srt", "")
    put(folder / "stranger.srt", SRT)
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        report = collection.ingest(calls, transcripts=folder)
        assert (report.stored, report.transcripts, report.unused_transcripts, report.failures) == (3, 3, 1, ())
        assert said_in(collection, "mono") == ["Good morning", "I want a refund"]
        assert said_in(collection, "pair") == ["Hello", "Angry!"]
        assert collection.status().transcribed == 4

        put(folder / "mono.srt", srt((4.5, 7.4, "Never mind")))
        again = collection.ingest(calls, transcripts=folder)
        assert (again.already, again.stored, again.transcripts) == (3, 0, 3)
        assert said_in(collection, "mono") == [None, "Never mind"]
        assert text_search.search_text(collection.catalog, "refund").tolist() == []
        assert collection.ingest(calls).transcripts == 0  # what was joined stays
        assert said_in(collection, "mono") == [None, "Never mind"]

        assert collection.remove(where="name = mono") == 1
        assert text_search.search_text(collection.catalog, "mind").tolist() == []
        assert collection.status().transcribed == 2


def test_transcripts_beside_the_audio_of_a_stored_call(calls: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls / "mono.wav")
        put(calls / "mono.txt", "word " * 20)
        try:
            rehearsed = collection.ingest(calls, transcripts=calls, dry_run=True)
            assert (rehearsed.already, rehearsed.transcripts) == (1, 1)
            assert said_in(collection, "mono") == [None, None]
            report = collection.ingest(calls / "mono.wav", transcripts=calls)
        finally:
            (calls / "mono.txt").unlink()
        assert (report.already, report.audio_s, report.transcripts) == (1, 0.0, 1)
        assert sum(len(str(text).split()) for text in said_in(collection, "mono")) == 20


def test_broken_transcripts_never_stop_the_rest(database_url: str, calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "said"
    put(folder / "mono.json", "{")
    put(folder / "pair.txt", "nobody knows who says this")
    put(folder / "bad.srt", SRT)
    bad = damaged("text-as-wav", tmp_path).rename(tmp_path / "bad.wav")
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        report = collection.ingest(calls, bad, transcripts=folder)
        assert (report.stored, report.transcripts) == (3, 0)
        failed = {Path(failure.uri).name: failure.reason for failure in report.failures}
        assert failed == {"mono.json": "transcript", "pair.txt": "transcript", "bad.wav": "not-audio"}
        assert {Path(failure.uri).name for failure in collection.failures()} == set(failed)
        put(folder / "mono.srt", srt((0.2, 2.9, "Good morning")))  # one that can be read is enough
        put(folder / "mono.json", {"segments": [{"start": 0.2, "end": 2.9, "text": "Good day"}]})
        again = collection.ingest(calls, transcripts=folder)
        assert said_in(collection, "mono")[0] == "Good day"
        assert [Path(failure.uri).name for failure in again.failures] == ["pair.txt"]
        assert {Path(failure.uri).name for failure in collection.failures()} == {"pair.txt", "bad.wav"}


def test_a_folder_of_odd_names(calls: Path, tmp_path: Path) -> None:
    folder = tmp_path / "50% said? #1 ünï"
    put(folder / "mono.srt", srt((0.2, 2.9, "Good morning")))
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        assert collection.ingest(calls / "mono.wav", transcripts=folder).transcripts == 1
