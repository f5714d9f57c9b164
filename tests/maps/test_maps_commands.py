"""``e2vsearch map``: results on stdout, the rest on stderr, files by their suffix, one line an error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import Run
from made_maps import CALLS, EVIL, SEGMENTS, filled

from e2vsearch.analysis.maps import types


@pytest.fixture(scope="module")
def index(umap: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "index"
    with filled(folder) as collection:
        collection.maps.build(options=types.MapOptions(min_cluster_size=12))
    return folder


def test_map_is_made_and_written(run: Run, index: Path, tmp_path: Path) -> None:
    for module in ("bokeh", "pyarrow", "matplotlib"):
        pytest.importorskip(module, reason="the 'map' extra is not installed")
    names = ("m.json", "m.csv", "m.jsonl", "m.parquet", "m.png", "m.html")
    outputs = [part for name in names for part in ("-o", tmp_path / name)]
    code, out, err = run("map", "--index", index, "--name", "mine", "--min-cluster-size", 12, *outputs)
    assert (code, out) == (0, ""), err
    assert f"{CALLS * SEGMENTS} segments in 3 clusters" in err
    assert f"wrote {tmp_path / 'm.html'}" in err
    whole = json.loads((tmp_path / "m.json").read_text())
    assert whole["name"] == "mine"
    assert whole["options"]["min_cluster_size"] == 12
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert lines == whole["clusters"]
    with (tmp_path / "m.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [cluster["name"] for cluster in whole["clusters"]]
    assert EVIL not in (tmp_path / "m.html").read_text()
    code, out, err = run("map", "drop", "--index", index, "--name", "mine", "-f", "table")
    assert (code, out, err) == (0, "deleted map mine\n", "")


def test_show_prints_the_stored_map(run: Run, index: Path, tmp_path: Path) -> None:
    code, out, err = run("map", "show", "--index", index, "-f", "table")
    assert code == 0
    header, *_ = out.splitlines()
    assert header.split()[:3] == ["#", "cluster", "segments"]
    assert "sad 100%" in out
    assert "queue=support" in out
    code, out, err = run("map", "show", "--index", index, "-q")
    assert err == ""
    assert [json.loads(line)["number"] for line in out.splitlines()] == [0, 1, 2]


def test_list_and_place(run: Run, index: Path) -> None:
    code, out, _ = run("map", "list", "--index", index)
    assert code == 0
    (row,) = [json.loads(line) for line in out.splitlines()]
    assert (row["name"], row["points"], row["clusters"]) == ("map", CALLS * SEGMENTS, 3)
    code, _, err = run("map", "place", "--index", index)
    assert code == 0
    assert "placed 0 new segments" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "--name", "no"), 2, "has no map 'no' (known: map)"),
        (("drop", "--name", "no"), 2, "has no map 'no'"),
        (("--show",), 2, "e2vsearch map show"),
        (("show", "-o", "map.gif"), 2, "suffix"),
        (("show", "-o", "nowhere/map.png"), 2, "no folder nowhere"),
        (("--where", "queue = none"), 1, "no segment meets"),
        (("--min-cluster-size", "1"), 1, "--min-cluster-size 2 or more"),
    ],
)
def test_wrong_use_is_said_in_a_line(run: Run, index: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    ended, out, err = run("map", *arguments, "--index", index)
    assert (ended, out) == (code, "")
    assert said in " ".join(err.split())
    assert "Usage:" in err or len(err.splitlines()) == 1


def test_no_collection(run: Run, tmp_path: Path) -> None:
    code, _, err = run("map", "--index", tmp_path / "none")
    assert code == 1
    assert "no collection" in err
