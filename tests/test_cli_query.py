"""``query``: one spelling a parameter, that of the `Query`'s field, and what is printed of the result."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command import Run
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch import Query, Reference
from e2vsearch.catalog import labels
from e2vsearch.cli import app
from e2vsearch.cli.output import plain

SHARED = {"index", "encoder", "device", "precision", "format", "output", "quiet", "raw-csv", "help"}
"""Options of every command that encodes and prints."""

OF_A_REFERENCE = {"weight", "avoid-weight"}
"""Options that are `Reference.weight`."""

OLD = ("--not", "--not-weight", "--min", "--arc", "--per", "--per-recording", "--fuse", "--but-not", "--emotion-min")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_collection(tmp_path_factory.mktemp("typed"))
    with e2vsearch.open(place) as collection:
        labels.add_examples(collection.catalog, "tired", [labels.NewExample("seg:9", segment=9)])
    return place


def options() -> dict[str, Any]:
    """The options of ``query`` by their longest spelling, without dashes."""
    command: Any = typer.main.get_command(app)
    return {
        max(each.opts, key=len).lstrip("-"): each
        for each in command.commands["query"].params
        if each.param_type_name == "option"
    }


def test_every_option_is_a_field_of_the_query() -> None:
    typed = {name.replace("-", "_") for name in options().keys() - SHARED - OF_A_REFERENCE}
    singular = {"named_vector": "named_vectors"}  # it is given once for each
    expected = {each.name for each in fields(Query)} - {"references"}
    assert {singular.get(name, name) for name in typed} == expected
    assert all(len(each.opts) == 1 for name, each in options().items() if name not in SHARED)


@pytest.mark.parametrize("spelling", OLD)
def test_no_old_spelling_is_accepted(run: Run, place: Path, spelling: str) -> None:
    done = run("query", "seg:1", spelling, "1", "--index", place)
    assert (done.code, done.out) == (2, "")
    assert "No such option" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "seg:1", "--by", "call"),
        ("attach", "x", "x.npy"),
        ("sides",),
        ("detach", "x"),
        ("space", "list"),
        ("queue", "clear", "--parked"),
    ],
)
def test_no_old_command_is_accepted(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 2


def test_the_command_line_is_the_method(run: Run, place: Path) -> None:
    anna = place.parent / "calls" / "anna.wav"
    done = run(
        "query", anna, "seg:5", "--weight", "2,1", "--avoid", "seg:9", "--avoid-weight", "0.3", "--index", place,
        "--by", "segment", "--group-by", "recording", "--group-by", "queue", "--group-size", 1, "--group-size", 2,
        "--explain", "--emotion", "low=0", "--min-probability", "0", "-k", 7, "--exact", "--include-self",
    )  # fmt: skip
    assert done.code == 0, done.err
    query = Query(
        (Reference(anna, 2.0), Reference("seg:5", 1.0)),
        avoid=(Reference("seg:9", 0.3),),
        by="segment",
        group_by=("recording", "queue"),
        group_size=(1, 2),
        explain=True,
        emotion={"low": 0},
        min_probability=0,
        k=7,
        exact=True,
        include_self=True,
    )
    with e2vsearch.open(place, encoder="fake") as collection:
        expected = plain(collection.query(query).to_dicts())
    assert [{name: value for name, value in row.items() if name != "rank"} for row in done.rows] == [
        {name: value for name, value in hit.items() if name != "alignment"} for hit in expected
    ]
    assert "pct: so many %" in done.err
    assert not {"why", "alignment"} & run("query", anna, "--index", place).rows[0].keys()


def test_one_size_is_of_every_group(run: Run, place: Path) -> None:
    groups = ("--group-by", "product", "--group-by", "recording")
    done = run("query", "seg:1", "--by", "segment", *groups, "--group-size", 2, "--index", place)
    with e2vsearch.open(place) as collection:
        expected = collection.query("seg:1", by="segment", group_by=("product", "recording"), group_size=2)
    assert [row["segment"] for row in done.rows] == [hit.segment for hit in expected]
    one = run("query", "seg:1", "--by", "segment", "--group-by", "recording", "--index", place).rows
    assert len({row["recording"] for row in one}) == len(one)


def test_an_explanation_in_a_table(run: Run, place: Path) -> None:
    anna = place.parent / "calls" / "anna.wav"
    table = run("query", anna, "--avoid", "seg:9", "--explain", "--index", place, "-f", "table")
    header, first, why, *_ = table.out.splitlines()
    assert header.split()[:3] == ["#", "score", "pct"]
    assert first.split()[3] == "anna"
    assert "avoid seg:9 -" in table.out
    assert " 1.000; " in why


def test_a_trajectory(run: Run, place: Path) -> None:
    done = run("query", "--trajectory", "call:2", "--index", place, "-f", "json")
    assert done.code == 0, done.err
    whole = json.loads(done.out)
    assert whole["trajectory"] is True
    assert whole["references"] == ["call:2"]
    assert whole["hits"][0]["alignment"][0]["reference"].startswith("seg:")
    table = run(
        "query", "--trajectory", "emotion:low, tired", "--index", place, "-f", "table", "--where", "product = bela"
    )
    _, _, said, aligned = table.out.splitlines()
    assert said.strip() == SAID
    assert "emotion:low 00:0" in aligned
    assert ", label:tired 00:0" in aligned


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Missing argument"),
        (["seg:1", "--limit", "3"], 2, "No such option: --limit - write -k"),
        (["seg:1", "--weight", "1,2"], 2, "a number for each reference: 1, not 2"),
        (["seg:1", "--weight", "heavy"], 2, "2,1"),
        (["seg:1", "--avoid-weight", "1"], 2, "--avoid"),
        (["seg:1", "--group-size", "1"], 2, "--group-by"),
        (["seg:1", "--group-by", "product", "--group-size", "1", "--group-size", "2"], 2, "1 groups have 2 sizes"),
        (["seg:1", "--weight", "0"], 2, "above 0"),
        (["seg:1", "--group-by", "prodcut"], 2, "did you mean product"),
        (["seg:1", "--min-probability", "0.5"], 2, "name one"),
        (["--emotion", "low=much"], 2, "angry=0.5"),
        (["--emotion", "low=-1"], 2, "needs a reference"),
        (["--emotion", "bored"], 2, "emotion:low"),
        (["low"], 2, "did you mean emotion:low?"),
        (["seg:1", "--trajectory", "call:1"], 2, "without references"),
    ],
)
def test_what_cannot_be_typed(run: Run, place: Path, arguments: list[str], code: int, says: str) -> None:
    done = run("query", *arguments, "--index", place)
    assert done.code == code, done.err
    assert says in " ".join(done.err.replace("│", "").split())
    assert done.out == ""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("-k", 0), "Invalid value for '-k': write 1 or more"),
        (("-k", -3), "Invalid value for '-k': write 1 or more"),
        (("-k", "ten"), "Invalid value for '-k': write a whole number"),
        (("--min-probability", 1.5), "Invalid value for '--min-probability': write (1 or less|0 to 1)"),
        (("--min-probability", "half"), "Invalid value for '--min-probability': write a number"),
        (("--by", "mood"), "Invalid value for '--by': 'mood' is not one of 'recording', 'segment'"),
    ],
)
def test_a_value_that_is_none_says_what_to_write(run: Run, place: Path, typed: tuple[object, ...], said: str) -> None:
    done = run("query", "seg:1", *typed, "--index", place)
    assert done.code == 2
    assert re.search(said, done.err)
