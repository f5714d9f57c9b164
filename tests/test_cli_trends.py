"""``e2vsearch trends``: tables at 80 columns, files, pictures, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Run
from made_weeks import fill, made_call

import e2vsearch


@pytest.fixture
def index(tmp_path: Path) -> Path:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        fill(collection)
        collection.catalog.store(made_call(20, [], agent="Kim"))
    return tmp_path / "index"


def test_the_table_fits_80_columns(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    asked = ("trends", "--group", "queue", "--where", "emotion in (angry, sad)", "--index", index)
    ran = run(*asked, "--format", "table")
    dash = "\N{EN DASH}"
    assert ran.out.replace(dash, "-").splitlines() == [
        "period    group          value         share    95 %  segments   calls",
        "2025-W01  billing        █████ angry  100.0%  21-100    2 of 2  1 of 1",
        "                         ····· sad      0.0%    0-79    0 of 2  0 of 1",
        "          sales          █████ angry  100.0%  21-100    1 of 1  1 of 1",
        "                         ····· sad      0.0%    0-79    0 of 1  0 of 1",
        "2025-W02  sales          ██▌·· angry   50.0%    5-95    1 of 2  1 of 1",
        "                         ██▌·· sad     50.0%    5-95    1 of 2  1 of 1",
        "2025-W03  billing        █████ angry  100.0%  21-100    5 of 5  1 of 1",
        "                         ····· sad      0.0%    0-79    0 of 5  0 of 1",
        '          the "new" one  ····· angry    0.0%    0-79    0 of 1  0 of 1',
        "                         █████ sad    100.0%  21-100    1 of 1  1 of 1",
    ]
    assert "of 11 segments in 5 calls" in ran.err


def test_formats_have_the_filter_of_each_share(run: Run, index: Path, tmp_path: Path) -> None:
    asked = ("trends", "--by", "none", "--index", index)
    ran = run(*asked, "--format", "json")
    with e2vsearch.open(index) as collection:
        wanted = collection.trends(by=None)
    found = json.loads(ran.out)
    assert {name: found[name] for name in ("by", "of", "group", "where", "map")} == {
        "by": None,
        "of": "emotion",
        "group": None,
        "where": None,
        "map": None,
    }
    assert found["rows"] == json.loads(json.dumps(wanted.to_dicts()))
    assert run(*asked, "--format", "jsonl").rows == found["rows"]
    out = tmp_path / "trends.csv"
    assert run(*asked, "-o", out).code == 0
    assert out.read_text(encoding="utf-8").splitlines()[1].endswith(',9,22,4,8,"emotion = ""angry"""')


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".svg"])
@pytest.mark.parametrize("asked", [(), ("--group", "queue"), ("--group", "queue", "--by", "none"), ("--by", "none")])
def test_pictures(run: Run, index: Path, tmp_path: Path, suffix: str, asked: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib", reason="the 'map' extra is not installed")
    out = tmp_path / f"trends{suffix}"
    ran = run("trends", *asked, "--index", index, "-o", out)
    assert ran.code == 0, ran.err
    assert f"wrote {out}" in ran.err
    content = out.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        text = content.decode()
        assert "angry" in text
        assert "segments" in text
        assert ("billing" in text) == ("queue" in asked)
        again = tmp_path / "again.svg"
        run("trends", *asked, "--index", index, "-o", again)
        assert again.read_bytes() == content


def test_what_goes_wrong_is_one_line(run: Run, index: Path, tmp_path: Path) -> None:
    for asked, said in (
        (("-o", tmp_path / "x.gif"), "the suffix says what is written"),
        (("-o", tmp_path / "nowhere" / "x.png"), "there is no folder"),
        (("--by", "year"), "--by"),
        (("--group", "queu"), "did you mean queue?"),
        (("--of", "cluster"), "make it with: e2vsearch map"),
        (("--map", "x"), "a map has clusters"),
    ):
        ran = run("trends", *asked, "--index", index)
        assert ran.code == 2, ran.err
        assert said in ran.err
        assert ran.out == ""
    ran = run("trends", "--group", "agent", "--index", index)
    assert ran.code == 1
    assert "Art. 5(1)(f)" in ran.err
    ran = run("trends", "--where", "queue = biling", "-o", tmp_path / "x.svg", "--index", index)
    assert (ran.code, ran.out) == (0, "")
    assert 'no queue is called "biling", did you mean "billing"?' in ran.err
    assert not (tmp_path / "x.svg").exists()
