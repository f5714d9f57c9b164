"""Names and texts of others on a terminal and in a spreadsheet: shown, never obeyed."""

from __future__ import annotations

import csv
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from command import Run
from made import save, speech

import e2vsearch
from e2vsearch.catalog.text_search import put
from e2vsearch.cli.logs import log_to_stderr
from e2vsearch.cli.text import cell, json_shown, shown

TITLE, CLIPBOARD, BIDI = "\x1b]0;mine\x07", "\x1b]52;c;cm0=\x07", "\u202e3pm"
HARMFUL = {"Cc", "Cs", "Zl", "Zp"}


def harmless(text: str) -> bool:
    marks = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    return not any(unicodedata.category(char) in HARMFUL or char in marks for char in text if char != "\n")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A call whose name, metadata, words and failure would write a terminal's title."""
    folder = tmp_path_factory.mktemp("text")
    calls = folder / f"calls{BIDI}"
    calls.mkdir()
    save(calls / f"a{TITLE}{BIDI}.wav", speech(2.0))
    (calls / f"b{CLIPBOARD}.wav").write_bytes(b"no audio")
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([["file", "product", "note"], [f"a{TITLE}{BIDI}", "=cmd|' /C calc'!A0", f"-5{TITLE}"]])
    (folder / "calls.csv").write_text(table.getvalue(), encoding="utf-8")
    with e2vsearch.open(folder / "index", encoder="fake", create=True) as collection:
        report = collection.ingest(calls, meta=folder / "calls.csv")
        assert (report.stored, len(report.failures)) == (1, 1)
        put(collection.catalog, 1, {1: f"said{TITLE}{BIDI}\n+1"})
    return folder / "index"


@pytest.mark.parametrize(
    "words",
    [
        ("query", "seg:1", "--include-self"),
        ("query", "seg:1", "--include-self", "--explain"),
        ("failures",),
        ("status",),
        ("remove", "call:1", "--dry-run"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("form", ["table", "json", "jsonl"])
def test_nothing_reaches_a_terminal(index: Path, run: Run, words: tuple[str, ...], form: str) -> None:
    if words[0] != "remove":
        words = (*words, "--format", form)
    ran = run(*words, "--index", index)
    assert ran.code == 0, ran.err
    assert harmless(ran.out)
    assert harmless(ran.err)
    if words[0] == "query" and form == "table":
        assert r"a\x1b]0;mine\x07\u202e3pm" in ran.out
    if words[0] == "query" and form == "jsonl":
        assert ran.rows[0]["name"] == f"a{TITLE}{BIDI}"  # the value is the same


def test_errors_and_progress(index: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / f"b{CLIPBOARD}.wav").write_bytes(b"no audio")
    for words in (
        ("ingest", tmp_path, "--encoder", "fake"),
        ("ingest", tmp_path, "--encoder", "fake", "--log", "text"),
        ("query", tmp_path / f"{TITLE}{BIDI}.wav"),
        ("query", "seg:1", "--where", f"'{TITLE}{BIDI}' = 1"),
        ("query", f"label:{TITLE}{BIDI}"),
    ):
        ran = run(*words, "--index", index)
        assert ran.code != 0
        assert harmless(ran.out)
        assert harmless(ran.err)
        assert r"\x1b]" in ran.err


def test_logs(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("e2vsearch.tests.text")
    for form in ("text", "json"):
        log_to_stderr(logger.name, form)
        logger.info("of %s", f"{TITLE}{BIDI}")
        line = capsys.readouterr().err
        assert harmless(line)
        assert json.loads(line)["message"] == f"of {TITLE}{BIDI}" if form == "json" else r"of \x1b]0;mine" in line
    logger.handlers.clear()


def test_a_spreadsheet_runs_nothing(index: Path, run: Run) -> None:
    ran = run("query", "seg:1", "--include-self", "--format", "csv", "--index", index)
    row = next(csv.DictReader(io.StringIO(ran.out)))
    assert row["metadata.product"] == "'=cmd|' /C calc'!A0"
    assert row["metadata.note"] == "'-5]0;mine"
    assert row["name"] == f"a]0;mine{BIDI}"
    raw = run("query", "seg:1", "--include-self", "--format", "csv", "--raw-csv", "--index", index)
    assert next(csv.DictReader(io.StringIO(raw.out)))["metadata.product"] == "=cmd|' /C calc'!A0"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1+1", "'=1+1"), ("+41 44 668 18 00", "'+41 44 668 18 00"), ("-", "'-"), ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("-5.5", "-5.5"), ("+1e-3", "+1e-3"), (-5.5, -5.5), (None, None),
        ("a\x00b\x1b[1m", "ab[1m"), ("two\nlines", "two\nlines"), ("a=b", "a=b"), ("", ""), ("\x00=1", "'=1"),
    ],
)  # fmt: skip
def test_cells(value: object, expected: object) -> None:
    assert cell(value) == expected
    assert cell(value, raw=True) == value


def test_what_is_only_foreign_stays() -> None:
    text = "Zürich 東京\u3000mañana שלום 👩\u200d👧 न\u200d€"
    assert shown(text) == json.loads(json_shown(json.dumps(text, ensure_ascii=False))) == text


def test_bytes_that_are_no_utf8() -> None:
    assert shown("a\udcff.wav") == r"a\xff.wav"
    assert json_shown(json.dumps("a\udcff", ensure_ascii=False)).isascii()
    assert json.loads(json_shown(json.dumps("a\udcff\U000e0041", ensure_ascii=False))) == "a\udcff\U000e0041"
