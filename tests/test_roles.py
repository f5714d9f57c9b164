"""Roles of channels: an agent's channel leaves nothing in a collection, by whichever way it came."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, silence, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.recording import RECORDS
from e2vsearch.ingest.transcripts.alignment import join
from e2vsearch.ingest.transcripts.formats import Cue, Transcript
from e2vsearch.ingest.worker import WorkerOptions
from e2vsearch.policy import Role
from e2vsearch.types import Segment

ROLES: dict[int, Role] = {0: "agent", 1: "customer"}
FIRST_S = 3.0  # the agent speaks in the first three seconds, the customer in the next


class Recorder(FakeEncoder):
    """A fake encoder that keeps what it encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[NDArray[np.float32]] = []

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        self.signals += signals
        return super()._encode(signals)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stereo calls, the agent on the left, and the same in mono; with transcripts."""
    folder = tmp_path_factory.mktemp("calls")
    for number in range(2):
        agent = np.concatenate([speech(FIRST_S, seed=number, pitch_hz=110), silence(3.0)])
        customer = np.concatenate([silence(3.0), speech(FIRST_S, seed=10 + number, pitch_hz=130)])
        save(folder / f"{number}.wav", np.stack([agent, customer]))
    (folder / "0.vtt").write_text(
        "WEBVTT\n\n00:00.200 --> 00:02.800\n<v Kim>good morning this is Kim\n\n"
        "00:03.200 --> 00:05.800\n<v Mrs Lee>I want my refund\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def collection(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(database_url, encoder=Recorder(), create=True) as collection:
        yield collection


def stored(collection: Collection) -> list[tuple[str, int, str | None]]:
    names = {each.id: each.name for each in collection.recordings()}
    found = [(names[each.recording], each.channel, each.text) for each in collection.segments()]
    return sorted(found, key=lambda each: each[:2])


def vectors(place: Path, calls: Path, roles: dict[int, Role] | None) -> dict[tuple[str, int], bytes]:
    """The bytes of every vector, by recording's name and channel."""
    with e2vsearch.open(place, encoder="fake", create=True) as collection:
        collection.ingest(calls, channel_roles=roles)
        recordings = {each.id: each.name for each in collection.recordings()}
        found = {}
        for each in collection.segments():
            batch = collection.catalog.feed().fetch(np.array([int(each.id.removeprefix("seg:"))]))
            found[recordings[each.recording], each.channel] = batch.vectors.astype("<f4").tobytes()
        return found


def test_nothing_of_the_agent_is_stored(calls: Path, tmp_path: Path) -> None:
    everything = vectors(tmp_path / "all", calls, None)
    assert sorted(everything) == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    customers = {key: vector for key, vector in everything.items() if key[1] == 1}
    assert vectors(tmp_path / "roles", calls, ROLES) == customers  # the customer's are as they were
    with e2vsearch.open(tmp_path / "roles", encoder="fake") as collection:
        collection.ingest(calls, transcripts=calls)
        assert stored(collection) == [("0", 1, "I want my refund"), ("1", 1, None)]
        collection.index.build()
    held = b"".join(path.read_bytes() for path in sorted((tmp_path / "roles").rglob("*")) if path.is_file())
    for (_, channel), vector in everything.items():
        assert (vector in held) == (channel == 1)
    assert b"refund" in held
    assert b"good morning" not in held


def test_the_encoder_is_not_given_the_agents_voice(collection: Collection, calls: Path) -> None:
    report = collection.ingest(calls, channel_roles=ROLES)
    assert (report.stored, report.segments, report.unknown_roles) == (2, 2, 0)
    encoder = collection.encoder()
    assert isinstance(encoder, Recorder)
    rate_hz, encoded = 16_000, [signal for signal in encoder.signals if signal.size > 20_000]
    agents = [speech(FIRST_S, seed=number, pitch_hz=110) for number in range(2)]
    assert encoded
    for signal in encoded:
        middle = signal[rate_hz // 2 : rate_hz]
        for agent in agents:  # no stretch of it is what was encoded
            overlap = np.correlate(agent, middle, "valid") / (np.linalg.norm(middle) ** 2)
            assert np.abs(overlap).max() < 0.95
    assert [each.roles for each in collection.recordings()] == [("agent", "customer")] * 2
    assert [(hit.channel, hit.role) for hit in collection.query("seg:1")] == [(1, "customer")]


def test_flag_before_metadata_before_policy(collection: Collection, calls: Path, tmp_path: Path) -> None:
    meta = tmp_path / "calls.csv"
    meta.write_text("file,queue,role_0,Role_1\n0.wav,billing,customer,agent\n1.wav,sales,,\n", encoding="utf-8")
    collection.set_policy(channel_roles=ROLES)
    collection.ingest(calls, meta=meta)
    recordings = {each.name: (each.roles, each.metadata) for each in collection.recordings()}
    assert recordings == {
        "0": (("customer", "agent"), {"queue": "billing"}),
        "1": (("agent", "customer"), {"queue": "sales"}),
    }
    assert [each[:2] for each in stored(collection)] == [("0", 0), ("1", 1)]
    assert len(collection.segments(where="role = customer")) == 2
    assert len(collection.segments(where="role != customer")) == 0
    assert len(collection.segments(where="role is null")) == 0
    assert collection.remove(where="role = customer") == 2
    collection.ingest(calls, meta=meta, channel_roles={1: "agent"})
    assert [each[:2] for each in stored(collection)] == [("0", 0), ("1", 0)]
    assert {each.roles for each in collection.recordings()} == {(None, "agent")}
    assert len(collection.segments(where="role is null")) == 2
    assert len(collection.segments(where="not role is null")) == 0


def test_roles_of_the_metadata_are_checked(collection: Collection, calls: Path, tmp_path: Path) -> None:
    meta = tmp_path / "calls.csv"
    meta.write_text("file,role_0\n0.wav,agent\n1.wav,boss\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"calls.csv line 3: the role of channel 0 is customer or agent"):
        collection.ingest(calls, meta=meta)
    assert not collection.recordings()


def test_an_agents_channel_with_a_purpose(collection: Collection, calls: Path) -> None:
    collection.set_policy(channel_roles=ROLES, employee_purpose="safety of the night shift", analyse_agent=True)
    report = collection.ingest(calls)
    assert (report.stored, report.unknown_roles) == (2, 0)
    assert sorted(each[:2] for each in stored(collection)) == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    assert {each.roles for each in collection.recordings()} == {("agent", "customer")}
    assert {each.channel for each in collection.segments(where="role = agent")} == {0}


def test_an_agent_alone(collection: Collection, calls: Path) -> None:
    report = collection.ingest(calls / "0.wav", channel_roles={0: "agent", 1: "agent"})
    assert (report.stored, report.silent, report.segments) == (1, 1, 0)
    assert [each.note for each in collection.recordings()] == ["the agent's channel alone, which is not analysed"]
    assert collection.recordings()[0].duration_s == pytest.approx(6.0)


def test_workers_leave_the_agent_out(collection: Collection, calls: Path, tmp_path: Path) -> None:
    meta = tmp_path / "calls.csv"
    meta.write_text("file,queue,role_0\n0.wav,billing,customer\n", encoding="utf-8")
    collection.queue.add(calls / "0.wav", meta=meta)
    collection.queue.add(calls / "1.wav", channel_roles=ROLES)
    collection.queue.work(WorkerOptions(workers=1, drain=True, poll_s=0.01))
    found = {each.name: (each.roles, each.metadata) for each in collection.recordings()}
    assert found == {"0": (("customer", None), {"queue": "billing"}), "1": (("agent", "customer"), {})}
    assert ("1", 0, None) not in stored(collection)


def test_watched_folders_leave_the_agent_out(collection: Collection, calls: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    for name in ("0.wav", "1.wav"):
        (tmp_path / "inbox").mkdir(exist_ok=True)
        (tmp_path / "inbox" / name).write_bytes((calls / name).read_bytes())
    seen: list[str] = []

    def each(report: Any) -> None:
        seen.append(report.uri)
        if len(seen) == 2:
            stop.set()

    collection.watch(tmp_path / "inbox", channel_roles=ROLES, stable_s=0.0, each=each, stop=stop)
    assert [each[:2] for each in stored(collection)] == [("0", 1), ("1", 1)]


def test_unknown_roles_are_warned_of_once(
    collection: Collection, calls: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    save(tmp_path / "mono.wav", speech(2.0))
    caplog.set_level(logging.WARNING, logger=RECORDS.name)  # another test may have left it lower
    with caplog.at_level(logging.WARNING):
        assert collection.ingest(tmp_path / "mono.wav").unknown_roles == 0  # one voice, or two in one channel
        assert caplog.messages == []
        assert collection.ingest(calls).unknown_roles == 2
    assert len(caplog.messages) == 1
    assert "--channel-role 0=agent,1=customer" in caplog.messages[0]
    caplog.clear()
    assert collection.ingest(calls).unknown_roles == 0  # stored before
    assert caplog.messages == []
    collection.remove(str(calls), str(tmp_path))
    collection.queue.add(calls)
    collection.queue.work(WorkerOptions(workers=1, drain=True, poll_s=0.01))
    assert len([message for message in caplog.messages if "--channel-role" in message]) == 1
    caplog.clear()
    # roles of two channels say nothing of one
    assert collection.ingest(tmp_path / "mono.wav", channel_roles=ROLES).unknown_roles == 1
    assert len(caplog.messages) == 1


def test_what_was_stored_with_other_roles_stays(collection: Collection, calls: Path) -> None:
    collection.ingest(calls)
    report = collection.ingest(calls, channel_roles=ROLES)
    assert (report.already, report.other_roles) == (2, 2)
    assert len(collection.segments()) == 4
    collection.remove(*(each.id for each in collection.recordings()))
    collection.ingest(calls, channel_roles=ROLES)
    assert collection.ingest(calls, channel_roles=ROLES).other_roles == 0
    assert collection.ingest(calls).other_roles == 0


def test_roles_on_the_command_line(run: Run, calls: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    done = run("ingest", calls, "--index", index, "--encoder", "fake", "--channel-role", "0=agent,1=customer")
    assert (done.rows[0]["segments"], done.rows[0]["unknown_roles"]) == (2, 0)
    assert {row["role"] for row in run("query", "seg:1", "--index", index).rows} == {"customer"}
    again = run("ingest", calls, "--index", index, "--channel-role", "0=customer,1=agent")
    assert again.rows[0]["other_roles"] == 2
    assert "2 stored before with other roles" in again.err
    wrong = run("ingest", calls, "--index", index, "--channel-role", "0=boss")
    assert (wrong.code, "customer or agent" in wrong.err) == (2, True)


def test_roles_survive_an_export(calls: Path, tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "source", encoder="fake", create=True) as collection:
        collection.ingest(calls, channel_roles=ROLES)
        collection.export(tmp_path / "export")
        before = [(each.name, each.roles) for each in collection.recordings()]
    lines = (tmp_path / "export" / "recordings.jsonl").read_text().splitlines()
    assert [json.loads(line)["roles"] for line in lines] == [["agent", "customer"]] * 2
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        copy.import_(tmp_path / "export")
        assert [(each.name, each.roles) for each in copy.recordings()] == before


# --- words of the agent


def joined(cues: list[Cue], *, agents: bool = True) -> tuple[dict[int, str], int]:
    customer = [
        (number, Segment(f"seg:{number}", "call:1", 1, start_s, end_s, None, None, {}))
        for number, (start_s, end_s) in enumerate(((3.0, 6.0), (9.0, 12.0)), start=1)
    ]
    done = join(Transcript(Path("a.srt"), tuple(cues)), customer, 2, agents=agents)
    return done.said, done.left_out


def test_cues_of_the_agents_channel_are_left_out() -> None:
    cues = [Cue(2.9, 4.0, "agent", channel=0), Cue(3.0, 6.0, "customer", channel=1)]
    assert joined(cues) == ({1: "customer"}, 1)


def test_a_speaker_who_is_silent_in_the_customers_segments_is_the_agent() -> None:
    cues = [
        Cue(0.0, 2.9, "good morning", speaker="Kim"),
        Cue(3.0, 5.9, "my refund", speaker="Lee"),
        Cue(5.5, 8.9, "certainly now", speaker="Kim"),  # talks into the end of it
        Cue(9.0, 12.0, "thanks", speaker="Lee"),
    ]
    assert joined(cues) == ({1: "my refund", 2: "thanks"}, 4)


def test_a_cue_of_nobody_goes_where_the_most_of_it_is() -> None:
    cues = [Cue(0.5, 3.4, "good morning"), Cue(3.0, 6.2, "my refund"), Cue(6.3, 8.0, "certainly")]
    assert joined(cues) == ({1: "my refund"}, 3)
    assert joined(cues, agents=False) == ({1: "good morning my refund certainly"}, 0)


def test_text_without_times_cannot_be_told_apart(calls: Path, tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("good morning this is Kim I want my refund", encoding="utf-8")
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        report = collection.ingest(calls / "0.wav", channel_roles=ROLES, transcripts=tmp_path)
        assert [failure.reason for failure in report.failures] == ["transcript"]
        assert "2 channels speak" in report.failures[0].message
        assert stored(collection) == [("0", 1, None)]
