"""``evaluate``: one JSON object, a table with chance beside each figure, exit codes, one line an error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import Run
from made import save, speech


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three speakers saying two sentences in two ways; the last row names no file that is there."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for speaker, pitch in (("s1", 105), ("s2", 115), ("s3", 125)):
        for emotion, rate in (("calm", 2.5), ("anger", 6.0)):
            for text in (0, 1):
                name = f"{speaker}_{emotion}_{text}.wav"
                save(folder / name, speech(1.2, seed=text, pitch_hz=pitch, syllables_hz=rate))
                rows.append((name, emotion, speaker, f"t{text}"))
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "emotion", "speaker", "text"), *rows])
    return folder / "labels.csv"


def test_json_is_one_object_with_the_figures(run: Run, labels: Path) -> None:
    done = run("evaluate", labels, "--encoder", "fake", "--format", "json", "--draws", 50)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["n"] == 12
    for name in ("map", "map_chance", "precision_at_10", "same_speaker_at_10", "same_speaker_chance"):
        assert 0 < found[name] <= 1, name
    assert set(found["triplets"]) == {"words", "voice", "both"}
    assert all(0 <= each <= 1 for each in found["triplets"].values())
    assert found["figures"]["clean"]["other_speakers"]["by_emotion"]["calm"]["queries"] == 6
    assert found["space"]["encoder"] == "fake"
    again = run("evaluate", labels, "--encoder", "fake", "--draws", 50)
    assert again.rows == [found]


def test_table_has_chance_beside_each_figure(run: Run, labels: Path) -> None:
    done = run("evaluate", labels, "--encoder", "fake", "-f", "table", "--draws", 50)
    assert done.code == 0
    head, table = done.out.split("\n\n")
    columns, *lines = table.splitlines()
    of = "fake@fake-1, 16-d, projection raw: 12 segments of 3 speakers, 2 texts (anger 6, calm 6)"
    assert " ".join(head.split()) == of
    assert columns.split() == ["figure", "clean", "chance", "x", "chance", "95", "%"]
    figures = {line[:40].strip(): line[40:].split() for line in lines}
    assert {"mAP, other speakers", "precision@10, other speakers and texts", "mAP, calm"} <= set(figures)
    assert {"same speaker among the first 10", "triplets, both"} <= set(figures)
    value, chance, ratio = figures["mAP, other speakers"][:3]
    assert float(ratio) == pytest.approx(float(value) / float(chance), abs=0.1)


@pytest.mark.slow
def test_splits_that_actors_hide_stand_below(run: Run, labels: Path, tmp_path: Path) -> None:
    rows = [("path", "emotion", "speaker", "text")]
    for speaker, pitch in (("s1", 95), ("s2", 105), ("s3", 115), ("s4", 125)):
        for emotion, rate in (("neutral", 2.5), ("anger", 6.0)):
            for text in (0, 1):
                name = f"{speaker}_{emotion}_{text}.wav"
                save(tmp_path / name, speech(1.2, seed=text, pitch_hz=pitch, syllables_hz=rate))
                rows.append((name, emotion, speaker, f"t{text}"))
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    arguments = ("evaluate", tmp_path / "labels.csv", "--encoder", "light", "--draws", 50)
    found = run(*arguments).rows[0]
    names = ["one mood per voice", "fitted on 8 of 10 neutral", "fitted on 8 of 10 angry", "fitted on all angry"]
    assert [split["name"] for split in found["splits"]] == names
    for split in found["splits"]:
        assert split["gain"] == pytest.approx(split["map"] - split["raw"], abs=2e-6)
        assert 0 < split["map_chance"] < 1
    assert [split["adapted_on"] for split in found["splits"]] == [8, 10, 10, 8]
    table = run(*arguments, "-f", "table").out
    for split in found["splits"]:
        (line,) = [line.split() for line in table.splitlines() if line.startswith(f"mAP, {split['name']}")]
        words = 1 + len(split["name"].split())
        assert line[words : words + 3] == [f"{split[key]:.3f}" for key in ("map", "raw", "map_chance")]


def test_telephone_copies_stand_side_by_side(run: Run, labels: Path, tmp_path: Path) -> None:
    done = run("evaluate", labels, "--encoder", "fake", "--condition", "all", "-f", "table", "--draws", 50)
    assert done.out.split("\n\n")[1].split()[:7] == [
        "figure",
        "clean",
        "telephone",
        "telephone",
        "in",
        "clean",
        "chance",
    ]
    out = tmp_path / "figures.csv"
    assert run("evaluate", labels, "--encoder", "fake", "--condition", "all", "-o", out, "--draws", 50).code == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["condition"] for row in rows} == {"clean", "telephone", "telephone in clean"}
    assert all(0 <= float(row["value"]) <= 1 and float(row["chance"]) >= 0 for row in rows)


@pytest.mark.slow
def test_stored_segments_need_no_encoder(
    run: Run, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    assert run("ingest", labels.parent, "--index", index, "--encoder", "fake", "--workers", 1).code == 0
    done = run("evaluate", labels, "--index", index, "--draws", 50)
    assert (done.code, done.rows[0]["n"], done.rows[0]["projection"]) == (0, 12, "raw")
    monkeypatch.setenv("E2VSEARCH_INDEX", str(index))
    assert run("evaluate", labels, "--draws", 50).rows == done.rows
    assert run("evaluate", labels, "--encoder", "light", "--draws", 50).rows[0]["space"]["encoder"] == "light"
    heard = run("evaluate", labels, "--index", index, "--encoder", "fake", "--condition", "telephone", "--draws", 50)
    assert list(heard.rows[0]["figures"]) == ["telephone"]
    for arguments, word in (
        (("--projection", "mine"), "mine"),
        (("--encoder", "light"), "fake"),
    ):
        failed = run("evaluate", labels, "--index", index, *arguments)
        assert failed.code == (2 if word == "mine" else 1)
        assert (failed.out, failed.err.count("\n")) == ("", 1)
        assert word in failed.err


def test_bad_rows_are_told_and_the_rest_is_measured(run: Run, labels: Path, tmp_path: Path) -> None:
    text = labels.read_text(encoding="utf-8").replace("\ns", f"\n{labels.parent}/s")
    (tmp_path / "labels.csv").write_text(f"{text}gone.wav,anger,s1,t0\nlabels.csv,calm,s1,t1\n", encoding="utf-8")
    done = run("evaluate", tmp_path / "labels.csv", "--encoder", "fake", "--draws", 50)
    assert (done.code, done.rows[0]["n"], len(done.rows[0]["failures"])) == (3, 12, 2)
    assert [line for line in done.err.splitlines() if line.startswith("failed: line 1")] == done.err.splitlines()[-2:]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("path,emotion\n", "too few"),
        ("path,emotion\ngone.wav,calm\nlost.wav,anger\n", "2 rows failed, the first: line 2"),
        ("file,speaker\na,b\n", "'emotion'"),
    ],
)
def test_too_little_is_one_clear_line(run: Run, tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    done = run("evaluate", tmp_path / "labels.csv", "--encoder", "fake")
    assert done.code == (2 if word == "'emotion'" else 1)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert word in done.err


def test_speakers_that_are_not_named_are_told(run: Run, labels: Path, tmp_path: Path) -> None:
    rows = [line.rsplit(",", 2)[0] for line in labels.read_text(encoding="utf-8").splitlines()]
    (labels.parent / "bare.csv").write_text("\n".join(rows), encoding="utf-8")
    done = run("evaluate", labels.parent / "bare.csv", "--encoder", "fake")
    assert done.code == 0
    (found,) = done.rows
    assert found["map"] is None
    assert found["figures"]["clean"]["everyone"]["map"] > 0
    assert "note: no item names its speaker" in done.err
    assert "note: one mood per voice is left out: 4 voices and two emotions are needed, not 0 and 2" in done.err
