"""One way through all views, by keyboard alone, in Debian's Chromium against the real service: a clip to a CSV."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_map import draw_map, drawn
from opened_page import CALLS, CLIP, LOOKS, Open, Visit, heard, make_index, needs_axe, needs_build, serving

import e2vsearch

MOST_TABS = 150  # from one control to any other of a view


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = make_index(tmp_path_factory.mktemp("journey"))
    draw_map(index)
    return index


@pytest.fixture
def address(made: Path, tmp_path: Path) -> Iterator[str]:
    with serving(shutil.copytree(made, tmp_path / "index")) as url:
        yield url


def tab_to(seen: Visit, selector: str) -> Any:
    """Tab until the first visible element of that selector has the focus; by mouse alone nothing here is done."""
    wanted = seen.page.locator(selector).locator("visible=true").first
    wanted.wait_for()
    for _ in range(MOST_TABS):
        if wanted.evaluate("element => element === document.activeElement"):
            return wanted
        seen.page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab from where the focus was")


def go(seen: Visit, key: str, path: str) -> None:
    for each in ("g", key):
        seen.page.keyboard.press(each)
    seen.page.wait_for_url(f"{seen.address}{path}")


def label_selection(seen: Visit, label: str) -> None:
    tab_to(seen, ".selection input[name=label]")
    seen.page.keyboard.type(label)
    seen.page.keyboard.press("Enter")
    seen.page.locator(".selection [role=status]", has_text=label).wait_for()
    seen.page.keyboard.press("Tab")  # off the field: letters are keys again


@needs_build
@needs_axe
@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_from_a_clip_to_trends_by_keyboard(visit: Open, tmp_path: Path, look: str) -> None:
    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")
    seen = visit(**LOOKS[look])
    keyboard, wrong = seen.page.keyboard, {}
    # Playwright tells the browser that choosers are its own without waiting, so that a quick key would come first
    seen.page.on("filechooser", lambda _: None)

    def choose_clip() -> None:
        with seen.page.expect_file_chooser() as chooser:
            keyboard.press("Enter")
        chooser.value.set_files(CLIP)

    seen.page.locator("#holds:not(:empty)").wait_for()  # the page has begun to listen
    tab_to(seen, "#choose")
    assert seen.find(choose_clip, "query/upload")["hits"]
    wrong["find"] = seen.violations()

    seen.page.evaluate("document.activeElement.blur()")  # where the click on the file chooser leaves it is Chromium's
    keyboard.press("j")
    keyboard.press("o")  # the call of the best hit
    seen.page.locator(".strip .wave path").first.wait_for(state="attached")
    keyboard.press("Space")
    seen.until("audio.currentTime > 0.1 && !audio.paused")
    assert heard(seen) > 0.01
    keyboard.press("Space")
    wrong["call"] = seen.violations()

    go(seen, "m", "view/map")
    drawn(seen)
    tab_to(seen, "canvas")
    for _ in range(2 * len(CALLS)):
        keyboard.press("ArrowLeft")
    for key in ("Shift+ArrowRight", "Shift+ArrowUp") * len(CALLS):  # Shift with an arrow selects what lies between
        keyboard.press(key)
        selected = seen.page.locator(".selection").get_attribute("data-selected")
        if int(selected or 0) >= 4:
            break
    wrong["map"] = seen.violations()
    label_selection(seen, "tense")
    with e2vsearch.open(tmp_path / "index") as collection:
        tense = [at for at, each in enumerate(collection.segments()) if each.label == "tense"]
    assert len(tense) == int(selected or 0) >= 4
    cluster = min({0, 1, 2} - {at % 3 for at in tense})  # see `draw_map`: one that has none of these
    tab_to(seen, f"[data-cluster='{cluster}'] summary")
    keyboard.press("Enter")
    tab_to(seen, ".clusters details[open] > button")
    keyboard.press("Enter")
    label_selection(seen, "calm")

    go(seen, "l", "view/labels")
    tab_to(seen, ".classifier .buttons button:enabled")
    keyboard.press("Enter")
    seen.page.locator(".report .headline").wait_for()
    tab_to(seen, ".classifier input[name=min]")
    keyboard.press("ControlOrMeta+A")
    keyboard.type("0")
    tab_to(seen, ".classifier .apply button")
    keyboard.press("Enter")
    seen.page.locator(".applied li").first.wait_for()
    wrong["labels"] = seen.violations()
    tab_to(seen, ".applied li:has-text('tense') a[href*='calls']")
    keyboard.press("Enter")
    seen.page.wait_for_url("**/calls?label=tense")
    seen.page.locator(".calls-list > li").first.wait_for()
    with e2vsearch.open(tmp_path / "index") as collection:
        assert seen.page.locator(".calls-list > li").count() == len(collection.recordings(where="label = tense"))
        wanted = collection.trends(by="week", of="label").rows
    wrong["calls"] = seen.violations()

    go(seen, "t", "view/trends")
    tab_to(seen, "input[name=of]:checked")
    keyboard.press("ArrowRight")
    seen.page.wait_for_url("**/view/trends?of=label")
    seen.page.locator(".results[data-ready]").wait_for()
    wrong["trends"] = seen.violations()
    tab_to(seen, ".results button:not([aria-pressed])")
    with seen.page.expect_download() as saved:
        keyboard.press("Enter")
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert [(row["period"], row["value"], int(row["segments"])) for row in rows] == [
        (row.period, row.value, row.segments) for row in wanted
    ]
    assert {view: found for view, found in wrong.items() if found} == {}
