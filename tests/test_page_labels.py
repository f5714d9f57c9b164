"""The Labels view, in Debian's Chromium against the real service: suggested, heard, named, trained, judged, applied."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from opened_page import LOOKS, Open, Visit, asked, heard, make_index, needs_axe, needs_build, serving

import e2vsearch

pytestmark = [
    pytest.mark.skipif(find_spec("sklearn") is None, reason="training needs the 'labels' extra"),
    pytest.mark.usefixtures("address"),  # set up before the page is opened, so that it ends after it
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return make_index(tmp_path)


@pytest.fixture
def address(index: Path) -> Iterator[str]:
    with serving(index) as url:
        yield url


def examples(seen: Visit) -> dict[str, int]:
    return {each["name"]: each["examples"] for each in asked(seen, "labels")["labels"] if each["examples"]}


def segment(seen: Visit) -> str:
    """The segment that is suggested now."""
    shown = seen.page.locator(".segment")
    shown.wait_for()
    found: str = shown.get_attribute("data-segment")
    return found


def step(seen: Visit, *keys: str) -> str:
    """Types keys that lead to another segment; gives the one before."""
    before = segment(seen)
    for key in keys:
        seen.page.keyboard.press(key) if len(key) == 1 or key == "Enter" else seen.page.keyboard.type(key)
    seen.until(f"document.querySelector('.segment')?.dataset.segment !== {json.dumps(before)}")
    seen.until("document.querySelector('.segment, .over')")
    return before


def said(seen: Visit, text: str) -> None:
    seen.page.get_by_role("status").get_by_text(text, exact=True).wait_for()


@needs_build
def test_a_segment_is_heard_named_by_keys_and_taken_back(visit: Open) -> None:
    seen = visit("view/labels")
    first = segment(seen)
    card = seen.page.locator(".segment")
    of = asked(seen, f"segments/{first}")
    assert card.get_by_role("link").inner_text() == of["recording"]["name"]
    assert (
        card.get_by_role("link").get_attribute("href") == f"{seen.address}calls/{of['recording']['id']}?segment={first}"
    )
    assert re.search(r"Stands for about \d+% of the segments", card.inner_text())
    by_itself = seen.page.get_by_label("play each by itself")
    by_itself.uncheck()
    seen.page.evaluate("[audio.pause(), document.activeElement.blur()]")
    seen.page.keyboard.press(" ")
    seen.until("audio.currentTime > 0 && !audio.paused")
    assert heard(seen) > 0.01
    seen.page.keyboard.press(" ")
    seen.until("audio.paused")
    sound = seen.page.evaluate("audio.src")
    by_itself.check()

    assert step(seen, "n", "fed up", "Enter") == first
    said(seen, "Labelled “fed up”.")
    seen.until(f"audio.currentTime > 0 && !audio.paused && audio.src !== {json.dumps(sound)}")
    seen.page.get_by_role("button", name="fed up", exact=True).wait_for()
    assert asked(seen, f"segments/{first}")["segment"]["label"] == "fed up"
    second = step(seen, "1")
    assert asked(seen, f"segments/{second}")["segment"]["label"] == "fed up"
    assert examples(seen) == {"fed up": 2}
    step(seen, "u")
    assert segment(seen) == second
    said(seen, "“fed up” is taken back.")
    assert asked(seen, f"segments/{second}")["segment"]["label"] is None

    asked(seen, "labels", {"label": "calm", "segments": [second]})  # by somebody else, meanwhile
    step(seen, "1")
    said(seen, "Labelled “fed up”; it was “calm”.")
    step(seen, "u")
    said(seen, "“fed up” is taken back; it is “calm” again.")
    assert asked(seen, f"segments/{second}")["segment"]["label"] == "calm"

    assert step(seen, "s") == second
    said(seen, "Skipped.")
    step(seen, "u")
    assert segment(seen) == second
    assert examples(seen) == {"fed up": 1, "calm": 1}


@needs_build
def test_a_label_that_is_nearly_another_is_asked_about(visit: Open) -> None:
    seen = visit("view/labels")
    step(seen, "n", "fed up", "Enter")
    near = seen.page.get_by_role("group", name="Nearly the same label")
    step(seen, "n", "fed-up", "Enter")
    near.get_by_text("“fed-up” is new. Did you mean “fed up”?").wait_for()
    assert examples(seen) == {"fed up": 1, "fed-up": 1}
    seen.page.keyboard.press("y")
    near.wait_for(state="hidden")
    said(seen, "Labelled “fed up”.")
    assert examples(seen) == {"fed up": 2}
    step(seen, "n", "Fed up", "Enter")
    near.get_by_role("button", name="No, keep “Fed up”").click()
    near.wait_for(state="hidden")
    assert examples(seen) == {"fed up": 2, "Fed up": 1}
    seen.page.get_by_role("button", name="Remove “Fed up”", exact=True).click()
    dialog = seen.page.get_by_role("dialog")
    dialog.get_by_text("It is taken back from its only segment.").wait_for()
    dialog.get_by_role("button", name="Cancel").click()
    assert examples(seen) == {"fed up": 2, "Fed up": 1}
    seen.page.get_by_role("button", name="Remove “Fed up”", exact=True).click()
    dialog.get_by_role("button", name="Remove it").click()
    said(seen, "“Fed up” is removed.")
    assert examples(seen) == {"fed up": 2}


@needs_build
@pytest.mark.slow
def test_labels_are_trained_on_judged_applied_and_filtered_by(visit: Open) -> None:
    seen = visit("view/labels")
    train = seen.page.get_by_role("button", name="Train")
    assert train.is_disabled()
    seen.page.get_by_text("A label needs 3 examples to train.").wait_for()
    step(seen, "n", "fed up", "Enter")
    step(seen, "n", "calm", "Enter")
    seen.page.get_by_text("“calm” is left out: it has 1 of 3 examples.").wait_for()
    for key in "12121212":
        step(seen, key)
    assert examples(seen) == {"fed up": 5, "calm": 5}
    seen.page.get_by_text("10 of 10 useful examples").wait_for()
    train.click()
    said(seen, "Trained: labels, version 1.")
    (report,) = asked(seen, "labels")["classifiers"]
    assert report["examples"] == 10
    shown = seen.page.locator(".report")
    assert shown.locator(".headline strong").inner_text() == f"{int(100 * report['uar'] + 0.5)}%"
    assert shown.locator(".warnings li").count() == len(report["warnings"])
    cells = shown.locator(".confusion tbody tr").all()
    assert [[int(cell) for cell in row.locator("td").all_inner_texts()] for row in cells] == report["confusion"]
    rows = shown.locator("table").first.locator("tbody tr").all()
    assert [row.locator("th, td").all_inner_texts() for row in rows] == [
        [
            each["label"],
            str(each["examples"]),
            str(each["groups"]),
            *(
                "\N{EN DASH}" if value is None else f"{int(100 * value + 0.5)}%"
                for value in (each["recall"], each["precision"])
            ),
        ]
        for each in report["classes"]
    ]

    seen.page.get_by_label("From a probability of (%)").fill("0")
    seen.page.get_by_role("button", name="Classify the collection").click()
    total = asked(seen, "status")["counts"]["segments"]
    seen.page.get_by_text(f"{total} of {total} segments have a label from it now.").wait_for()
    classified = {each["name"]: each["classified"] for each in asked(seen, "labels")["labels"]}
    assert sum(classified.values()) == total
    applied = seen.page.locator(".applied li", has_text="fed up")
    assert applied.locator(".quiet").inner_text() == f"{classified['fed up']} segments"
    calls = asked(seen, "recordings?order=newest&where=label%20%3D%20%22fed%20up%22")["recordings"]
    applied.get_by_role("link", name="calls").click()
    seen.page.wait_for_url("**/calls?label=fed+up")
    seen.page.get_by_role("link", name=calls[0]["name"]).wait_for()
    assert seen.page.locator(".calls-list > li").count() == len(calls)
    seen.page.go_back()
    segment(seen)
    seen.page.get_by_role("link", name="fed up", exact=True).click()
    seen.page.wait_for_url("**/calls?label=fed+up")


@needs_build
def test_a_filter_says_which_segments_are_suggested(visit: Open) -> None:
    seen = visit("view/labels")
    segment(seen)
    seen.page.get_by_role("heading", name="Only among").click()
    where = seen.page.get_by_label("Suggest segments that pass this filter")
    where.fill("queue = billing")
    seen.page.get_by_role("button", name="Suggest", exact=True).click()
    seen.page.wait_for_url("**/view/labels?where=queue+%3D+billing")
    billing = {each["id"] for each in asked(seen, "recordings?where=queue%20%3D%20billing")["recordings"]}
    skipped = 0
    while seen.page.locator(".segment, .over").first.get_attribute("class") == "segment":
        assert asked(seen, f"segments/{segment(seen)}")["recording"]["id"] in billing
        step(seen, "s")
        skipped += 1
    seen.page.get_by_text(f"What is left was skipped: {skipped}.").wait_for()
    seen.page.get_by_role("button", name="Show it again").click()
    segment(seen)
    seen.expected += ["status of 400", "status of 403"]
    seen.page.get_by_label("Suggest segments that pass this filter").fill("loud > 1")
    seen.page.get_by_role("button", name="Suggest", exact=True).click()
    seen.page.locator("#labels-where-error").get_by_text("nothing here is called 'loud'").wait_for()


@needs_build
def test_without_scikit_learn_it_says_what_to_install(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sklearn", "sklearn.cluster", "sklearn.linear_model", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, module, None)
    seen = visit("view/labels")
    seen.expected.append("status of 409")
    lacks = "The service lacks what this needs. On its machine: pip install 'e2vsearch[labels]'"
    seen.page.get_by_text(lacks).wait_for()
    asked(seen, "labels", {"label": "calm", "segments": ["seg:1", "seg:2", "seg:3"]})
    asked(seen, "labels", {"label": "fed up", "segments": ["seg:4", "seg:5", "seg:6"]})
    seen.page.reload()
    segment(seen)  # suggestions follow from the examples
    seen.page.get_by_role("button", name="Train").click()
    seen.page.locator(".classifier .wrong").get_by_text(lacks).wait_for()


@needs_build
@needs_axe
@pytest.mark.parametrize("look", LOOKS)
def test_labels_can_be_used_by_everyone(visit: Open, index: Path, look: str) -> None:
    with e2vsearch.open(index) as collection:
        collection.labels.add("calm", *(f"seg:{number}" for number in range(1, 5)))
        collection.labels.add("fed up", *(f"seg:{number}" for number in range(5, 9)))
        collection.labels.train()
    seen = visit("view/labels", **LOOKS[look])
    step(seen, "n", "a label of sixty-four letters is longer than a phone is wide, 64.", "Enter")
    assert seen.violations() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    seen.page.locator(".view.labels td button").first.click()
    assert seen.violations() == []
