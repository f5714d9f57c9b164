"""`show` at 80 columns: strips, summary and segments of a planted call; its JSON is the timeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from command import Run
from test_timeline import ANGRY, BETWEEN, CALM, SPACE, made_call

import e2vsearch
from e2vsearch.catalog.text_search import put
from e2vsearch.cli.emotion import colour
from e2vsearch.cli.output import plain
from e2vsearch.speech.dynamics import dynamics

WORDS = "I have asked for this refund three times now, and nobody has called me back since, which is a shame"

SHOWN = """\
call:1  refund \\x1b[31m  01:00.0, 2026-11-16

            00:00.0                                                      01:00.0
0 agent     not analysed
1 customer  ··NNNN··NNN···NNN··NNNN··???···AAA··AAAA··AAA···AAA··AAAA··AAA···AAA
overtalk     ==
silence          ---                                ----                   -----
turning                                    ▼
            A angry  N neutral  ? unsure

course      worsening
  worsening at 00:27.5 (seg:6): valence 0.49 to 0.29, then angry
customer    angry 58%, neutral 33%, unsure 8%; 12 segments, 00:24.0
strongest   angry 0.90 at 00:27.5 (seg:6), angry 0.90 at 00:32.5 (seg:7), angry
            0.90 at 00:37.5 (seg:8)
talk        87% (agent 33%; customer 55%)
silence     13%, 4.0 s at most
turns       3 (agent 2, 18.0 s at most; customer 1, 35.0 s at most)
overtalk    2%, 1 interruption (agent 0; customer 1)

id      of          at               emotion           p
seg:1   1 customer  00:02.5–00:04.5  ████▌ neutral  0.90
seg:2   1 customer  00:07.5–00:09.5  ████▌ neutral  0.90
seg:3   1 customer  00:12.5–00:14.5  ████▌ neutral  0.90
seg:4   1 customer  00:17.5–00:19.5  ████▌ neutral  0.90
seg:5   1 customer  00:22.5–00:24.5  ····· unsure
   I have asked for this refund three times now, and nobody has called me back
   since, which is a shame
seg:6   1 customer  00:27.5–00:29.5  ████▌ angry    0.90
seg:7   1 customer  00:32.5–00:34.5  ████▌ angry    0.90
seg:8   1 customer  00:37.5–00:39.5  ████▌ angry    0.90
seg:9   1 customer  00:42.5–00:44.5  ████▌ angry    0.90
seg:10  1 customer  00:47.5–00:49.5  ████▌ angry    0.90
seg:11  1 customer  00:52.5–00:54.5  ████▌ angry    0.90
seg:12  1 customer  00:57.5–00:59.5  ████▌ angry    0.90
"""  # noqa: RUF001 - dashes between numbers


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A collection with one call, the agent on channel 0, that turns for the worse."""
    place = tmp_path / "index"
    line: list[Sequence[float]] = [CALM] * 4 + [BETWEEN] + [ANGRY] * 7
    found = made_call([], line, roles=("agent", "customer"))
    spoken = dynamics([[(0.0, 2.0), (38.0, 56.0)], [(1.0, 5.0), (7.0, 36.0)]], 60.0)
    with e2vsearch.open(place, create=True) as collection:
        collection.catalog.pin(SPACE, "made")
        collection.catalog.store(replace(found, name="refund \x1b[31m", dynamics=spoken))
        put(collection.catalog, 1, {5: WORDS})
    return place


def test_a_call_in_80_columns(place: Path, run: Run) -> None:
    for name in "call:1", "/calls/1.wav", "refund \x1b[31m":
        done = run("show", name, "--index", place, "-f", "table")
        assert (done.code, done.out) == (0, SHOWN)
    assert max(map(len, SHOWN.splitlines())) <= 80


def test_its_json_is_the_timeline(place: Path, run: Run) -> None:
    with e2vsearch.open(place) as collection:
        expected = plain(asdict(collection.timeline("call:1")))
    assert json.loads(run("show", "call:1", "--index", place, "-f", "json").out) == expected
    assert run("show", "call:1", "--index", place).rows == [expected]  # piped
    assert len(run("show", "call:1", "--index", place, "-f", "csv").out.splitlines()) == 1 + 12


def test_what_is_not_known_is_said(tmp_path: Path, run: Run) -> None:
    place = tmp_path / "index"
    with e2vsearch.open(place, create=True) as collection:
        collection.catalog.pin(SPACE, "made")
        collection.catalog.store(made_call([CALM], []))
    done = run("show", "call:1", "--index", place, "-f", "table")
    assert "course      too few segments to tell\n" in done.out
    assert "dynamics    not known: it was ingested before they were computed" in done.out
    missing = run("show", "call:7", "--index", place)
    assert missing.code != 0
    assert "call:7 is not in" in missing.err


def test_letters_and_colours_tell_emotions_apart(place: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import e2vsearch.cli.show as module

    with e2vsearch.open(place) as collection:
        found = collection.timeline("call:1")
    assert module._letters(found) == {"angry": "A", "neutral": "N", "unsure": "?"}
    strips = [line for line in module._strips(found, 80) if line.plain.startswith("1 customer")]
    styles = {str(span.style) for span in strips[0].spans}
    assert f"{colour('angry')} reverse" in styles
    assert f"{colour('neutral')} reverse" in styles


def test_a_long_name_and_much_metadata_fit_the_screen(tmp_path: Path, run: Run) -> None:
    place, name = tmp_path / "index", "a call with a very long name " * 6
    about = {f"key {number}": "a value of some length" for number in range(6)}
    with e2vsearch.open(place, create=True) as collection:
        collection.catalog.pin(SPACE, "made")
        collection.catalog.store(replace(made_call([CALM], []), name=name, metadata=about))
    done = run("show", "call:1", "--index", place, "-f", "table")
    assert max(map(len, done.out.splitlines())) <= 80
    assert all(f"{key} {value}" in " ".join(done.out.split()) for key, value in about.items())
