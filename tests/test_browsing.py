"""Without a reference: what meets a filter or has some words, newest first, on both databases; and what comes near."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import Run
from databases import Copied
from made import speech, wav_bytes
from made_weeks import AGENT_AND_CUSTOMER, START, made_call, make
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch.catalog.near_values import why_nothing
from e2vsearch.catalog.text_search import put
from e2vsearch.collection import Collection
from e2vsearch.errors import BadFilter, NotStored, QueryError, UnlawfulUse
from e2vsearch.search.query import Query
from e2vsearch.types import number_of


@pytest.fixture
def collection(copied: Copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(copied(make), create=True) as collection:
        yield collection


def say(collection: Collection, call: str, words: str) -> None:
    numbers = [number_of(each.id, "seg") for each in collection.segments(call)]
    put(collection.catalog, number_of(call, "call"), dict.fromkeys(numbers, words))


def test_recordings_come_newest_first_with_their_first_segment_that_fits(collection: Collection) -> None:
    result = collection.query(where="emotion = angry or emotion = unsure")
    assert [(hit.recording, hit.segment) for hit in result] == [
        ("call:6", "seg:15"),
        ("call:5", "seg:14"),
        ("call:3", "seg:7"),
        ("call:1", "seg:1"),
    ]
    assert {(hit.score, hit.segment_score, hit.percentile, hit.why) for hit in result} == {(None, None, None, None)}
    assert (result.searched, result.total, result.exact, result.references) == (10, 22, True, ())
    assert repr(result) == "QueryResult(4 hits for emotion = angry or emotion = unsure)"


def test_segments_come_in_order_of_time_within_a_recording(collection: Collection) -> None:
    result = collection.query(where="queue = billing and emotion = angry", by="segment", k=6)
    assert [hit.segment for hit in result] == ["seg:15", "seg:16", "seg:17", "seg:18", "seg:19", "seg:1"]
    assert [hit.start_s for hit in result] == [0.0, 3.0, 6.0, 9.0, 12.0, 0.0]


def test_words_alone_and_groups(collection: Collection) -> None:
    for call in ("call:1", "call:4", "call:5", "call:6"):
        say(collection, call, f"a refund for {call.replace(':', ' ')}")
    assert [hit.recording for hit in collection.query(text="refund")] == ["call:6", "call:5", "call:4", "call:1"]
    assert [hit.recording for hit in collection.query(text="refund", where="emotion = calm")] == ["call:4", "call:1"]
    assert [hit.recording for hit in collection.query(text="refund", group_by="queue")] == ["call:6", "call:5"]
    assert [hit.recording for hit in collection.query(text="refund", k=10**9)][-1] == "call:1"


def test_what_compares_is_refused_without_a_reference() -> None:
    for given, message in (
        ({"avoid": ["seg:1"]}, "avoid goes with a reference"),
        ({"explain": True}, "explain goes with a reference"),
        ({"named_vectors": {"voice": 1.0}}, "named vectors goes with a reference"),
        ({"emotion": {"angry": -1.0}}, "emotion goes with a reference"),
    ):
        with pytest.raises(QueryError, match=message):
            Query(where="queue = billing", **given)
    with pytest.raises(QueryError, match=r"needs a reference: .*; or else a filter or words"):
        Query()


def test_emotion_by_employee_is_refused(collection: Collection) -> None:
    collection.catalog.store(made_call(20, ["sad"], agent="Kim"))
    for ask in (collection.query, collection.calls):
        with pytest.raises(UnlawfulUse):
            ask(where="agent = Kim")


def test_the_audit_log_has_it(collection: Collection) -> None:
    collection.set_policy(audit=True)
    collection.query(where="emotion = sad")
    entry = collection.audit()[-1]
    assert (entry.action, entry.results) == ("query", ("seg:21", "seg:13"))


# --- calls


def test_calls_have_the_emotions_that_were_spoken(collection: Collection) -> None:
    found = collection.calls()
    assert [each.recording.id for each in found] == [f"call:{n}" for n in (9, 8, 7, 6, 5, 4, 2, 3, 1)]
    assert found[0].emotions == {}
    assert found[-1].emotions == {"angry": 0.5, "calm": 0.25, "unsure": 0.25}
    assert found[-2].emotions == {"angry": 0.8, "too short": 0.2}  # 2 s and half a second
    assert [each.speech_s for each in found[-2:]] == [2.5, 8.0]


def test_calls_come_in_pages(collection: Collection) -> None:
    for number in range(20, 24):  # at one time: then by id
        collection.catalog.store(made_call(number, ["sad"], at=START + timedelta(days=1), roles=AGENT_AND_CUSTOMER))
    pages, after = [], None
    while page := collection.calls(3, after=after):
        after = page[-1].recording.id
        pages += [each.recording.id for each in page]
    assert pages == [each.recording.id for each in collection.calls(100)]
    assert len(pages) == 13
    with pytest.raises(NotStored, match="begin again"):
        collection.calls(after="call:99")


def test_calls_with_a_filter_and_words(collection: Collection) -> None:
    say(collection, "call:1", "refund")
    say(collection, "call:6", "refund")
    assert [each.recording.id for each in collection.calls(where="emotion = calm", text="refund")] == ["call:1"]
    assert [each.recording.id for each in collection.calls(1, where="queue = billing")] == ["call:6"]
    with pytest.raises(BadFilter):
        collection.calls(where="queu = billing")


# --- nothing found


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("queue = biling", 'no queue is called "biling", did you mean "billing"?'),
        ("queue = Sales", 'no queue is called "Sales", did you mean "sales"?'),
        ("meta.queue = biling", 'no queue is called "biling", did you mean "billing"?'),
        ("queue = xyz", 'no queue is called "xyz" (there is billing, sales, the "new" one)'),
        ("queue in (biling, sale)", 'no queue is called "biling", did you mean "billing"?; no queue is called "sale",'),
        ("emotion = angery", 'no emotion is called "angery", did you mean "angry"?'),
        ("emotion = Unsure", 'no emotion is called "Unsure", did you mean "unsure"?'),
        ("role = custmer", 'no role is called "custmer", did you mean "customer"?'),
        ("label = hesitent", 'no label is called "hesitent", did you mean "hesitant"?'),
        ("name = cal1", 'no recording is called "cal1", did you mean "call1"?'),
        ("format = WAVE", 'no format is called "WAVE", did you mean "WAV"?'),
        (
            "(emotion = angery and channel = 0) and queue = sales",
            'no emotion is called "angery", did you mean "angry"?',
        ),
    ],
)
def test_nothing_found_offers_what_comes_near(collection: Collection, where: str, hint: str) -> None:
    collection.labels.add("hesitant", "seg:1")
    result = collection.query(where=where)
    assert list(result) == []
    assert result.hint is not None
    assert result.hint.startswith(hint)
    assert collection.query("seg:1", where=where).hint == result.hint


@pytest.mark.parametrize(
    "where",
    ["queue = billing and emotion = sad", "channel = 7", "not (queue = biling) and channel = 7", "date < 2000-01-01"],
)
def test_where_every_value_exists_nothing_is_offered(collection: Collection, where: str) -> None:
    assert collection.query(where=where).hint is None
    assert collection.query(where="queue = biling or emotion = angry").hint is None  # something is found


def test_words_that_nobody_says(collection: Collection) -> None:
    assert why_nothing(collection.catalog, None, "refund") == "no recording has a transcript: ingest with --transcripts"
    say(collection, "call:1", "I want my refund, now")
    assert collection.query(text="refnd now").hint == 'no recording says "refnd", did you mean "refund"?'
    assert collection.query(text='"my zebra" -refund').hint == 'no recording says "zebra"'
    assert collection.query(text="want -refund").hint is None


# --- the command line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("browsed"))


@pytest.fixture
def weeks(tmp_path: Path) -> Path:
    (tmp_path / "index").mkdir()
    make(f"sqlite:///{tmp_path / 'index' / 'catalog.db'}")
    return tmp_path / "index"


def test_calls_table_fits_80_columns(run: Run, weeks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("calls", "-k", 4, "--index", weeks, "--format", "table")
    assert ran.out.splitlines() == [
        "id      recording  recorded (UTC)     length  emotions",
        "call:9  call9      2025-01-13 08:00  00:00.0  no speech",
        "   2 channels",
        "call:8  call8      2025-01-13 08:00  00:03.0  calm 100%",
        "   2 channels",
        "call:7  call7      2025-01-13 08:00  00:06.0  calm 50%, sad 50%",
        '   2 channels · queue=the "new" one',
        "call:6  call6      2025-01-13 08:00  00:15.0  angry 100%",
        "   2 channels · queue=billing",
    ]
    assert ran.err.strip() == "the newest 4: -k 40 shows more"


def test_calls_of_a_filter(run: Run, weeks: Path) -> None:
    ran = run("calls", "--where", "queue = sales", "--index", weeks, "--format", "jsonl")
    assert [row["id"] for row in ran.rows] == ["call:5", "call:3"]
    assert ran.rows[0]["emotions"] == {"angry": 0.5, "sad": 0.5}
    ran = run("calls", "--where", "queue = sale", "--index", weeks, "--format", "table")
    assert (ran.code, ran.out) == (0, "")
    assert 'no queue is called "sale", did you mean "sales"?' in ran.err


def test_a_query_without_a_reference(run: Run, weeks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = run("query", "--where", "emotion = sad", "--index", weeks, "--format", "table")
    assert ran.out.splitlines() == [
        "#  recording  ch  at               emotion    id",
        "1  call7      0   00:03.0–00:05.0  ████· sad  seg:21",  # noqa: RUF001 - a dash between numbers
        "2  call5      0   00:00.0–00:02.0  ████· sad  seg:13",  # noqa: RUF001 - a dash between numbers
    ]
    ran = run("query", "--where", "queue = biling", "--index", weeks)
    assert (ran.code, ran.out) == (0, "")
    assert 'no queue is called "biling", did you mean "billing"?' in ran.err
    ran = run("query", "--where", "queue = billing", "--explain", "--index", weeks)
    assert ran.code == 2
    assert "explain goes with a reference" in ran.err
    assert run("query", "--index", weeks).code == 2


def test_words_in_a_reference_s_place_point_to_text(run: Run, place: Path) -> None:
    ran = run("query", "I am angry", "--index", place, "--encoder", "fake")
    assert ran.code != 0
    assert "words that are said are found with text ('I am angry')" in ran.err


def test_clip_writes_the_sound(run: Run, place: Path, tmp_path: Path) -> None:
    with e2vsearch.open(place, encoder="fake") as collection:
        segment = collection.segments("seg:4")[0]
        wanted = collection.clip("seg:4", 0.5)
    out = tmp_path / "x.wav"
    ran = run("clip", "seg:4", "--context", 0.5, "-o", out, "--index", place)
    assert ran.code == 0, ran.err
    assert f"wrote {out}, " in ran.err
    signal, rate_hz = soundfile.read(out, dtype="float32", always_2d=True)
    assert rate_hz == 16_000
    assert np.abs(signal.T - wanted).max() < 1e-4
    assert segment.end_s - segment.start_s < signal.shape[0] / rate_hz <= segment.end_s - segment.start_s + 1.001


def test_clip_of_a_part_of_a_recording(run: Run, place: Path, tmp_path: Path) -> None:
    with e2vsearch.open(place, encoder="fake") as collection:
        assert collection.clip("call:2@0.5-1.75").shape == (1, 20_000)
        assert np.array_equal(collection.clip("call:2@0.5-1.75#0"), collection.clip("call:2")[:, 8000:28_000])
        for wrong in ("call:2@3-2", "call:2@99-100", "call:2@0-1#1"):
            with pytest.raises(QueryError, match=r"call:2 lasts 10\.5 s and has 1 channels"):
                collection.clip(wrong)
        with pytest.raises(NotStored):
            collection.clip("call:99@0-1")
    assert run("clip", "seg:1", "-o", tmp_path / "x.mp3", "--index", place).code == 2


def test_clip_to_stdout(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from e2vsearch.cli import main

    written = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "argv", ["e2vsearch", "clip", "seg:1", "-o", "-", "--index", str(place)])
    with pytest.raises(SystemExit):
        main()
    assert written.buffer.getvalue()[:4] == b"RIFF"


def test_a_clip_on_stdin_is_a_reference(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped(io.StringIO):
        buffer = io.BytesIO(wav_bytes(speech(2.0, seed=10, pitch_hz=120.0)))

    monkeypatch.setattr(io, "StringIO", Piped)  # what the fixture `run` puts in stdin's place
    ran = run("query", "-", "-k", 1, "--index", place, "--encoder", "fake", "--format", "jsonl")
    assert ran.code == 0, ran.err
    assert ran.rows[0]["text"] == SAID  # of bela, whose voice it is
