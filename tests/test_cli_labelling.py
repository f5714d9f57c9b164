"""``label``, ``train``, ``classify``: what is printed where, exit codes, one line an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from command import Run
from made import save, silence, speech

import e2vsearch

PITCHES_HZ = (90, 95, 100, 170, 180, 190)  # three low voices, three high ones


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for number, pitch in enumerate(PITCHES_HZ):
        turns = [speech(2.2, seed=10 * number + turn, pitch_hz=pitch) for turn in range(2)]
        save(folder / f"{number}.wav", np.concatenate([turns[0], silence(1.5), turns[1]]))
    (folder / "calls.csv").write_text("file,agent\n" + "".join(f"{n}.wav,agent{n}\n" for n in range(6)))
    return folder


@pytest.fixture(scope="module")
def ingested(calls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingested") / "index"
    with e2vsearch.open(folder, encoder="fake", create=True) as collection:
        assert collection.ingest(calls, meta=calls / "calls.csv", workers=1).segments == 12
    return folder


@pytest.fixture
def index(ingested: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = Path(shutil.copytree(ingested, tmp_path / "index"))
    monkeypatch.setenv("E2VSEARCH_INDEX", str(place))
    return place


@pytest.fixture
def labelled(run: Run, index: Path) -> Path:
    for name, numbers in (("low", (1, 2, 3)), ("high", (4, 5, 6))):
        assert run("label", name, *(f"call:{number}" for number in numbers)).code == 0
    return index


def test_label_says_what_became_of_each(run: Run, index: Path, calls: Path, tmp_path: Path) -> None:
    clip = save(tmp_path / "clip.wav", speech(2.0, seed=77))
    done = run("label", "hesitant", "seg:1", "call:2@0-3", calls / "2.wav", clip, "gone.wav", "seg:99")
    assert done.code == 3
    [report] = done.rows
    assert report["label"] == "hesitant"
    assert report["added"] == 1 + 1 + 2 + 1
    assert [each["reason"] for each in report["failures"]] == ["missing", "not-stored"]
    assert done.err.count("failed: ") == 2
    again = run("label", "certain", "seg:1", "-f", "table")
    assert (again.code, again.out.split()) == (
        0,
        ["label", "segments", "new", "already", "replaced", "certain", "1", "0", "0", "1"],
    )
    assert "seg:1 was hesitant, is certain" in again.err
    assert run("label", "list").rows == [
        {"name": "certain", "examples": 1, "classified": 0, "recordings": 1},
        {"name": "hesitant", "examples": 4, "classified": 0, "recordings": 2},
    ]
    assert str(clip) in run("label", "list", "hesitant", "-f", "json").out
    assert run("label", "remove", "hesitant", clip).rows == [{"label": "hesitant", "removed": 1}]
    asked = run("label", "remove", "hesitant", stdin="n\n")
    assert (asked.code, "Take hesitant back from 3 segments?" in asked.err) == (1, True)
    assert run("label", "remove", "hesitant", "--yes", "-f", "table").out == "took hesitant back from 3 segments\n"
    assert [row["name"] for row in run("label", "list").rows] == ["certain"]


def test_label_from_a_table(run: Run, index: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("label,segment\nlow,seg:1\nlow,seg:99\nhigh,12\n")
    done = run("label", "--csv", table)
    assert done.code == 3
    assert [(row["label"], row["examples"]) for row in done.rows] == [("low", ["seg:1"]), ("high", ["seg:12"])]
    assert "seg:99" in done.err


def test_suggest(run: Run, labelled: Path) -> None:
    assert run("label", "remove", "low", "seg:1", "seg:2").code == 0
    done = run("label", "suggest", "-k", 2)
    assert {row["segment"] for row in done.rows} == {"seg:1", "seg:2"}
    assert done.rows[0].keys() >= {"recording", "name", "start_s", "end_s", "label", "why"}
    assert f"e2vsearch label {done.rows[0]['label']} {done.rows[0]['segment']}" in done.err
    header = run("label", "suggest", "-f", "table").out.splitlines()[0]
    assert header.split() == ["id", "recording", "ch", "at", "label"]
    assert "nothing left to label where channel = 1" in run("label", "suggest", "--where", "channel = 1").err


@pytest.mark.slow
def test_train_and_classify(run: Run, labelled: Path, calls: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    table = run("train", "voice", "--speaker-key", "agent", "-f", "table")
    assert table.code == 0
    assert table.out.startswith("voice version 1: 12 examples of 2 labels\ncross-validated, 3 folds over 6 groups")
    assert "chance 0.500" in table.out
    header, *lines = table.out.splitlines()[-3:]
    assert header.split() == ["label", "examples", "voices", "recall", "precision", "high", "low"]
    assert [line.split()[:3] for line in lines] == [["high", "6", "3"], ["low", "6", "3"]]
    [report] = run("train", "voice", "--speaker-key", "agent", "--seed", 0).rows
    assert (report["version"], report["labels"], report["groups"]) == (2, ["high", "low"], 6)
    assert report["uar_chance"] == 0.5

    done = run("classify", "--min-score", 0)
    assert (done.code, sum(row["segments"] for row in done.rows)) == (0, 12)
    assert "voice version 2 classified 12 segments" in done.err
    assert "12 classified before" in run("classify", "voice", "--min-score", 0).err
    hits = run("query", "label:low", "--include-self", "--where", 'label = "low"', "--by", "segment").rows
    assert {hit["label"] for hit in hits} == {"low"}
    moments = run("classify", "--audio", calls / "0.wav").rows
    assert len(moments) == 2
    assert moments[0]["label"] in ("low", "high")
    assert run("classify", "--audio", calls / "0.wav", "-f", "table").out.split()[:3] == ["ch", "at", "label"]

    file = tmp_path / "voice.npz"
    assert run("classifier", "export", "voice", file).code == 0
    came = run("classifier", "import", file)
    assert (came.code, came.rows[0]["version"], came.rows[0]["imported"]) == (0, 3, True)
    assert [(row["name"], row["version"]) for row in run("classifier", "list").rows] == [("voice", 3)]
    assert run("classifier", "remove", "voice", "--yes").rows == [{"classifier": "voice", "versions": 3}]
    assert run("classifier", "list").rows == []


def test_warnings_are_notes(run: Run, index: Path) -> None:
    pytest.importorskip("sklearn")
    assert run("label", "low", "seg:1", "seg:2", "seg:3").code == 0
    done = run("train")
    assert done.code == 0
    assert "note: only 'low' has examples" in done.err
    assert run("train", "-q").err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["label"], 2, "label NAME EXAMPLE"),
        (["label", "hesitant"], 2, "label NAME EXAMPLE"),
        (["label", "remove"], 2, "Missing argument"),
        (["label", "remove", "x"], 2, "no example is labelled 'x'"),
        (["label", "list", "x"], 2, "no example is labelled 'x'"),
        (["label", "--list"], 2, "e2vsearch label list"),
        (["label", "x", "--suggest"], 2, "e2vsearch label suggest"),
        (["label", "x", "--csv", "t.csv"], 2, "names the labels itself"),
        (["label", "--csv", "t.csv"], 2, "t.csv cannot be read"),
        (["label", 'say "no"', "seg:1"], 2, "cannot be the name"),
        (["train"], 1, "nothing is labelled yet"),
        (["train", "--remove"], 2, "e2vsearch classifier remove"),
        (["classifier", "import", "none.npz"], 1, "none.npz cannot be read"),
        (["classifier", "export", "x", "x.npz"], 2, "no classifier yet"),
        (["classify"], 2, "e2vsearch train"),
        (["classify", "--min-score", "2"], 2, "min-score"),
        (["query", "label:x"], 2, "no label 'x'"),
        (["query", "lowish"], 2, "emotion:low, emotion:high"),
    ],
)
def test_what_goes_wrong_is_one_line(run: Run, index: Path, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert says in " ".join(done.err.replace("│", " ").split())
    if code == 1:
        assert len(done.err.splitlines()) == 1
