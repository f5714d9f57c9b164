"""Status, show, trends, calls and what the page reads say the same figures of one collection."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import Run
from made_weeks import fill

import e2vsearch


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        fill(collection)
    return tmp_path / "index"


def asked(run: Run, *words: str | Path) -> Any:
    done = run(*words, "--format", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.slow
def test_every_command_and_route_counts_alike(index: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2VSEARCH_INDEX", str(index))
    [status] = found if isinstance(found := asked(run, "status"), list) else [found]
    expected = status["counts"]["emotions"]
    assert sum(expected.values()) == status["counts"]["segments"] == 22

    rows = asked(run, "trends", "--by", "none", "--of", "emotion")
    rows = rows["rows"] if isinstance(rows, dict) else rows
    assert {row["value"]: row["segments"] for row in rows} == expected
    assert {row["of_segments"] for row in rows} == {22}

    shown: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for number in range(1, status["counts"]["recordings"] + 1):
        timeline = asked(run, "show", f"call:{number}")
        segments = [each for channel in timeline["channels"] for each in channel["segments"]]
        shown.update(each["emotion"] for each in segments)
        for role in timeline["summary"]["by_role"]:
            seconds.update({name: share * role["speech_s"] for name, share in role["shares"].items()})
    assert shown == expected
    spoken = status["counts"]["speech_s"]
    assert sum(seconds.values()) == pytest.approx(spoken)

    weekly = asked(run, "trends", "--by", "week")
    weekly = weekly["rows"] if isinstance(weekly, dict) else weekly
    by_week: Counter[str] = Counter()
    for row in weekly:
        by_week[row["value"]] += row["segments"]
        listed = asked(run, "calls", "--where", row["where"], "-k", "100") if row["recordings"] else []
        assert len(listed) == row["recordings"], row["where"]
    assert +by_week == expected


@pytest.mark.slow
def test_the_service_answers_what_the_commands_print(index: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    from fastapi.testclient import TestClient

    from e2vsearch.server import create_app

    monkeypatch.setenv("E2VSEARCH_INDEX", str(index))
    printed = {
        "status": asked(run, "status"),
        "recordings/call:6/timeline": asked(run, "show", "call:6"),
        "trends?by=week&group=queue": asked(run, "trends", "--by", "week", "--group", "queue"),
    }
    with e2vsearch.open(index) as collection, TestClient(create_app(collection), base_url="http://127.0.0.1") as client:
        for path, said in printed.items():
            answered = client.get(f"/{path}").json()
            assert plain(answered if isinstance(said, dict) else answered["rows"]) == plain(said), path


def plain(value: Any) -> Any:
    """Numbers of six places, as the command line prints them, and UTC in one of its two forms."""
    if isinstance(value, str):
        return value.replace("+00:00", "Z")
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def test_what_is_stored_is_compared_without_an_encoder(index: Path, run: Run) -> None:
    """These vectors were made elsewhere: there is none."""
    with e2vsearch.open(index) as collection:
        wanted = collection.compare("call:1", "seg:5")
    done = run("compare", "call:1", "seg:5", "--index", index, "--format", "json")
    assert (done.code, json.loads(done.out)["score"]) == (0, round(wanted.score, 6)), done.err
    assert run("compare", "call:1", "call:99", "--index", index).code == 2
