"""Who speaks when: planted calls with exact figures, an agent's channel that leaves nothing else, filters, exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import call, save, silence, speech
from sqlalchemy import text

import e2vsearch
from e2vsearch.catalog import integrity
from e2vsearch.collection import Collection
from e2vsearch.errors import BadFilter, ExportError, UnlawfulUse
from e2vsearch.speech import SpeechDetector
from e2vsearch.speech.dynamics import Spans, dynamics
from e2vsearch.types import ChannelDynamics, Dynamics

WINDOW_S = 0.032
SPOKEN = [(0, 0.5, 3.5), (1, 4.5, 7.5), (0, 6.5, 10.0), (1, 12.0, 14.0)]
"""Channel 0 takes the floor from channel 1 at 6.5 s; two seconds of silence follow at 10 s, and at the end."""


def shares(found: Dynamics) -> tuple[float, float, float | None]:
    return found.talk_share, found.silence_share, found.overtalk


def turns(found: Dynamics) -> list[tuple[int | None, int | None, float | None]]:
    return [(each.turns, each.interruptions, each.longest_turn_s) for each in found.by_channel]


def test_turns_in_order() -> None:
    found = dynamics([[(0.0, 2.0), (5.0, 6.0)], [(2.5, 4.0)]], 10.0)
    assert found == Dynamics(
        talk_share=0.45,
        silence_share=0.55,
        longest_silence_s=4.0,
        overtalk=0.0,
        interruptions=0,
        turns=3,
        by_channel=(ChannelDynamics(0, None, 0.3, 2, 0, 2.0), ChannelDynamics(1, None, 0.15, 1, 0, 1.5)),
        overlaps=(),
        silences=((4.0, 5.0), (6.0, 10.0)),  # not the half second at 2 s
    )


@pytest.mark.parametrize(
    ("speech", "overlaps", "interrupting"),
    [
        ([[(0, 4)], [(3, 8)]], [(3, 4)], [0, 1]),  # it starts while the other speaks, who stops
        ([[(0, 4)], [(3.6, 8)]], [(3.6, 4)], [0, 0]),  # too short: how turns change
        ([[(0, 6)], [(3, 4)]], [(3, 4)], [0, 0]),  # "mhm": the other goes on
        ([[(0, 4)], [(3, 4), (5, 8)]], [(3, 4)], [0, 0]),  # both stop
        ([[(0, 4), (6, 9)], [(3, 7)]], [(3, 4), (6, 7)], [1, 1]),  # and is interrupted in turn
        ([[(0, 4)], [(0, 8)]], [(0, 4)], [0, 0]),  # nobody had the floor
    ],
)
def test_an_interruption_is_speech_that_makes_the_other_stop(
    speech: list[Spans], overlaps: Spans, interrupting: list[int]
) -> None:
    found = dynamics(speech, 10.0)
    assert found.overlaps == tuple(overlaps)
    assert found.overtalk == round(sum(end - start for start, end in overlaps) / 10, 6)
    assert [each.interruptions for each in found.by_channel] == interrupting
    assert found.interruptions == sum(interrupting)


def test_a_turn_goes_on_over_pauses_and_another_voice_below_it() -> None:
    found = dynamics([[(0.0, 2.0), (2.1, 3.0), (4.0, 6.0)], [(4.5, 5.0), (7.0, 8.0)]], 8.0)
    assert turns(found) == [(1, 0, 6.0), (1, 0, 1.0)]
    assert found.by_channel[0].talk_share == round(5.0 / 8.0, 6)  # a tenth of a second is no pause
    assert found.longest_silence_s == 1.0


def test_what_one_voice_or_a_mixture_cannot_tell_is_none() -> None:
    alone = dynamics([[(1.0, 3.0)]], 4.0)
    assert (shares(alone), turns(alone)) == ((0.5, 0.5, None), [(None, None, None)])
    assert (alone.interruptions, alone.turns, alone.overlaps) == (None, None, ())
    assert alone.silences == ((0.0, 1.0), (3.0, 4.0))
    twice = dynamics([[(1.0, 3.0)], [(1.0, 2.95)]], 4.0)  # the same voices on both channels
    assert (shares(twice), turns(twice)) == ((0.5, 0.5, None), [(None, None, None)] * 2)
    silent = dynamics([[], []], 4.0)
    assert (shares(silent), turns(silent)) == ((0.0, 1.0, 0.0), [(0, 0, 0.0)] * 2)
    assert shares(dynamics([], 0.0)) == (0.0, 0.0, None)
    one_of_two = dynamics([[(1.0, 3.0)], []], 4.0)
    assert (shares(one_of_two), turns(one_of_two)) == ((0.5, 0.5, 0.0), [(1, 0, 2.0), (0, 0, 0.0)])


def test_three_voices() -> None:
    found = dynamics([[(0.0, 4.0)], [(3.0, 6.0)], [(3.5, 4.5), (5.0, 8.0)]], 8.0)
    assert found.overlaps == ((3.0, 4.5), (5.0, 6.0))
    assert turns(found) == [(1, 0, 4.0), (1, 0, 3.0), (1, 1, 3.0)]


def test_shares_add_up_however_the_speech_lies() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        lines = [sorted(set(np.round(rng.uniform(0, 60, 2 * rng.integers(0, 9)), 3).tolist())) for _ in range(2)]
        spans = [list(zip(each[::2], each[1::2], strict=False)) for each in lines]
        found = dynamics(spans, 60.0)
        assert found.talk_share + found.silence_share == pytest.approx(1.0, abs=2e-6)
        if found.overtalk is not None:
            of_both = sum(each.talk_share for each in found.by_channel)
            assert of_both == pytest.approx(found.talk_share + found.overtalk, abs=1e-5)
            assert found.turns == sum(each.turns or 0 for each in found.by_channel)


@pytest.mark.parametrize("block_s", [0.1, 7.0, 16.0])
def test_a_made_call_in_blocks_of_any_length(block_s: float) -> None:
    signal, detector = call(SPOKEN, 16.0), SpeechDetector()
    step = round(block_s * 16_000)
    segments = list(detector.segments(signal[:, at : at + step] for at in range(0, signal.shape[1], step)))
    found = detector.dynamics()
    assert {each.channel for each in segments} == {0, 1}
    assert (found.turns, found.interruptions) == (4, 1)
    assert [each.interruptions for each in found.by_channel] == [1, 0]
    near = pytest.approx
    assert found.talk_share == near((14.0 - 0.5 - 1.0 - 2.0) / 16, abs=4 * WINDOW_S / 16 + 0.01)
    assert found.overtalk == near(1.0 / 16, abs=0.01)
    assert found.longest_silence_s == near(2.0, abs=0.15)
    assert [start for start, _ in found.overlaps] == near([6.5], abs=0.1)
    assert [start for start, _ in found.silences] == near([3.5, 10.0, 14.0][-len(found.silences) :], abs=0.15)


# ---------------------------------------------------------------------------------------------------------- stored


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stereo calls, in one of which the right channel is interrupted, and one in mono."""
    folder = tmp_path_factory.mktemp("calls")
    save(folder / "broken.wav", call(SPOKEN, 16.0))
    save(folder / "calm.wav", call([(0, 0.5, 3.5), (1, 4.5, 7.5)], 9.0))
    save(folder / "mono.wav", np.concatenate([speech(3.0), silence(2.0)]))
    return folder


@pytest.fixture
def collection(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        yield collection


def of_name(collection: Collection, name: str) -> Dynamics:
    found = collection.timeline(name).dynamics
    assert found is not None
    return found


def names(collection: Collection, where: str) -> list[str]:
    return [each.name for each in collection.recordings(where=where)]


def test_ingest_stores_what_the_detector_finds(collection: Collection, calls: Path) -> None:
    collection.ingest(calls, workers=1)
    broken = of_name(collection, "broken")
    assert (broken.turns, broken.interruptions, len(broken.overlaps)) == (4, 1, 1)
    assert (of_name(collection, "calm").turns, of_name(collection, "calm").overtalk) == (2, 0.0)
    mono = of_name(collection, "mono")
    assert (mono.turns, mono.overtalk, mono.by_channel[0].turns) == (None, None, None)
    assert mono.talk_share == pytest.approx(0.6, abs=0.05)


def test_filters_take_dynamics(collection: Collection, calls: Path) -> None:
    collection.ingest(calls, workers=1)
    assert names(collection, "overtalk > 0.03") == ["broken"]
    assert names(collection, "overtalk <= 0.03") == ["calm"]
    assert names(collection, "overtalk is null") == ["mono"]
    assert names(collection, "turns >= 4 and interruptions = 1") == ["broken"]
    assert names(collection, "interruptions < 0.5") == ["calm"]
    assert names(collection, "talk_share between 0.1 and 0.99 and not turns > 2") == ["calm", "mono"]
    assert names(collection, "longest_silence_s > 1.5 and silence_share > 0.3") == ["broken", "mono"]
    assert names(collection, "course is null") == ["broken", "calm", "mono"]
    assert names(collection, 'overtalk > 0.1 and course = "worsening"') == []
    with pytest.raises(BadFilter, match="did you mean overtalk"):
        names(collection, "overtalks > 1")
    with pytest.raises(BadFilter, match="turns is compared with a number"):
        names(collection, "turns > many")
    hits = collection.query("seg:1", where="turns = 2", by="segment")
    assert {hit.name for hit in hits} == {"calm"}


def test_the_course_by_employee_is_refused(collection: Collection, calls: Path, tmp_path: Path) -> None:
    meta = tmp_path / "calls.csv"
    meta.write_text("file,agent\nbroken.wav,Kim\ncalm.wav,Lee\n", encoding="utf-8")
    collection.ingest(calls, meta=meta, workers=1)
    with pytest.raises(UnlawfulUse, match=r"Art\. 5\(1\)\(f\)"):
        collection.recordings(where="agent = Kim and course = worsening")
    assert names(collection, "agent = Kim and turns = 4") == ["broken"]  # says nothing of how somebody feels


def test_of_the_agents_channel_only_turn_taking_is_stored(collection: Collection, calls: Path) -> None:
    collection.ingest(calls, workers=1, channel_roles={0: "agent", 1: "customer"})
    found = collection.timeline("broken")
    assert found.dynamics is not None
    assert [(each.role, each.turns, each.interruptions) for each in found.dynamics.by_channel] == [
        ("agent", 2, 1),
        ("customer", 2, 0),
    ]
    assert (found.channels[0].analysed, found.channels[0].segments) == (False, ())
    assert {each.channel for each in collection.segments(found.recording.id)} == {1}
    with collection.catalog.reading() as connection:
        tables = ("segment", "channel_dynamics", "vector")
        counts = [connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables]
    segments = collection.status().counts.segments
    assert counts == [segments, 5, segments]  # a vector for each segment, and no more
    assert names(collection, "agent_interruptions = 1") == ["broken"]
    assert names(collection, "customer_interruptions = 0 and customer_talk_share > 0.3") == ["broken", "calm"]
    assert names(collection, "agent_longest_turn_s > 4 and agent_talk_share is not null") == []
    assert names(collection, "agent_longest_turn_s is null") == ["mono"]
    alone = of_name(collection, "mono")
    assert (alone.by_channel[0].role, alone.turns) == (None, None)


def test_a_recording_of_the_agent_alone_has_dynamics_and_nothing_else(collection: Collection, calls: Path) -> None:
    collection.ingest(calls / "mono.wav", channel_roles={0: "agent"})
    found = collection.timeline("mono")
    assert found.dynamics is not None
    assert found.dynamics.talk_share == pytest.approx(0.6, abs=0.05)
    assert (found.summary.by_role, found.summary.course, found.channels[0].analysed) == ((), None, False)
    assert collection.status().counts.segments == 0


def test_dynamics_are_exported_imported_told_and_forgotten(
    collection: Collection, calls: Path, tmp_path: Path, other_url: str
) -> None:
    collection.ingest(calls, workers=1, channel_roles={0: "agent", 1: "customer"})
    collection.export(tmp_path / "export")
    with e2vsearch.open(other_url, create=True) as copy:
        copy.import_(tmp_path / "export")
        for name in "broken", "calm", "mono":
            assert of_name(copy, name) == of_name(collection, name)
        about = copy.about(copy.timeline("broken").recording.id)
        (told,) = about["dynamics"]
        assert (told["turns"], len(told["by_channel"]), about["recording"]["course"]) == (4, 2, None)
        copy.forget(copy.timeline("broken").recording.id, proof=False)
        with copy.catalog.reading() as connection:
            for table, left in (("dynamics", 2), ("channel_dynamics", 3)):
                assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == left


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"talk_share": 1.5}, "dynamics must be an object with talk_share"),
        ({"overlaps": [[2.0, 1.0]]}, "dynamics must be"),
        ({"more": 1}, "dynamics must be"),
        ({"by_channel": []}, None),
        (
            {"by_channel": [{"channel": 7, "talk_share": 0, "turns": 1, "interruptions": 0, "longest_turn_s": 1}]},
            "not of",
        ),
    ],
)
def test_hostile_dynamics_of_an_export_are_refused(
    calls: Path, tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    from e2vsearch.transfer.contents import _check_recordings
    from e2vsearch.transfer.manifest import read_manifest

    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls / "calm.wav")
        collection.export(tmp_path / "export")
    path = tmp_path / "export" / "recordings.jsonl"
    recording = json.loads(path.read_text(encoding="utf-8"))
    recording["dynamics"] |= change
    path.write_text(json.dumps(recording) + "\n", encoding="utf-8")
    manifest = read_manifest(tmp_path / "export")
    if message is None:
        assert _check_recordings(manifest) == {"call:1": 0}
    else:
        with pytest.raises(ExportError, match=message):
            _check_recordings(manifest)


def test_damaged_dynamics_are_told(collection: Collection, calls: Path) -> None:
    collection.ingest(calls, workers=1)
    assert all(each.ok for each in integrity.verify(collection.catalog))
    for statement in (
        "UPDATE dynamics SET talk_share = 7 WHERE recording_id = 1",
        "UPDATE channel_dynamics SET channel = 9 WHERE recording_id = 2 AND channel = 1",
        "UPDATE recording SET course = 'worsenxng' WHERE id = 3",
    ):
        with collection.catalog.writing() as connection:
            connection.execute(text(statement))
    found = [(each.name, each.found) for each in integrity.verify(collection.catalog) if not each.ok]
    assert found == [
        ("rows", "what dynamics holds of call:1 is damaged"),
        ("rows", "what channel_dynamics holds of call:2 is damaged"),
        ("courses", "the course of call:3 is not that of its segments"),
    ]
