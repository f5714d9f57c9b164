"""The Map view, in Debian's Chromium against the real service: seen, heard, enclosed, labelled, saved."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from opened_map import at, draw_map, drawn, enclose
from opened_page import LOOKS, TIMEOUT_MS, Open, heard, make_index, needs_axe, needs_build

import e2vsearch


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    index = make_index(tmp_path_factory.mktemp("page"))
    draw_map(index)
    return index


@needs_build
@pytest.mark.parametrize("renderer", ["webgl", "canvas"])
def test_a_lasso_selects_labels_and_saves(visit: Open, index: Path, renderer: str) -> None:
    seen = visit()
    if renderer == "canvas":
        seen.page.add_init_script(
            "const get = HTMLCanvasElement.prototype.getContext;"
            "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
            "  return kind === 'webgl2' ? null : get.call(this, kind, ...rest); }"
        )
    seen.page.goto(f"{seen.address}view/map")
    assert drawn(seen).get_attribute("data-renderer") == renderer
    with e2vsearch.open(index) as collection:
        every = [each.id for each in collection.segments()]
    enclose(seen, 1, "Lasso")
    expected = every[1::3]
    seen.page.get_by_role("heading", name=f"{len(expected)} selected").wait_for()
    assert seen.page.locator(".selection .row").count() == len(expected)
    enclose(seen, 2, "Box")
    seen.page.get_by_role("heading", name=f"{len(every[2::3])} selected").wait_for()

    with seen.page.expect_download() as downloaded:
        seen.page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(downloaded.value.path()).read_text(encoding="utf-8"))))
    assert [row["id"] for row in rows] == every[2::3]
    assert all(row["cluster"] == "2" and row["name"] for row in rows)

    label = f"by {renderer}"
    seen.page.get_by_label("Label for all that is selected").fill(label)
    seen.page.get_by_role("button", name=f"Label {len(rows)}").click()
    seen.page.get_by_text(f"{len(rows)} labelled {label}").wait_for()
    with e2vsearch.open(index) as collection:
        assert [each.id for each in collection.segments() if each.label == label] == every[2::3]


@needs_build
def test_a_point_is_described_and_heard_and_leads_to_more(visit: Open, index: Path) -> None:
    seen = visit("view/map")
    drawn(seen)
    x, y = at(seen, 0)
    seen.page.mouse.move(x, y)
    card = seen.page.locator(".pointed")
    card.get_by_text("angry · queue=billing").wait_for()
    with e2vsearch.open(index) as collection:
        names = {each.name for each in collection.recordings()}
    seen.until(f"{json.dumps(sorted(names))}.includes(document.querySelector('.pointed strong').textContent)")
    assert seen.page.evaluate("audio.paused")  # what is only pointed at is silent
    seen.page.mouse.click(x, y)
    seen.until("audio.currentTime > 0.1 && !audio.paused")
    assert heard(seen) > 0.01

    enclose(seen, 0, "Lasso")
    more = seen.page.get_by_role("link", name="More like these")
    answer = seen.find(more.click)
    assert answer["references"] == [each for each in answer["references"] if each.startswith("seg:")]
    assert len(answer["references"]) == 4
    seen.page.get_by_role("link", name="Show on the map").click()
    drawn(seen)
    found = len(answer["hits"])
    seen.page.get_by_role("heading", name=f"{found} of {found} hits are on this map").wait_for()
    seen.page.go_back()
    seen.page.locator(".hit").first.wait_for()


@needs_build
def test_the_keyboard_reaches_points_and_clusters(visit: Open) -> None:
    seen = visit()
    seen.page.get_by_role("heading", name="Start from a feeling").wait_for()
    keyboard = seen.page.keyboard
    keyboard.press("g")
    keyboard.press("m")
    canvas = drawn(seen)
    assert seen.page.url == f"{seen.address}view/map"
    canvas.focus()
    keyboard.press("ArrowDown")
    card = seen.page.locator(".pointed")
    card.get_by_text("sad", exact=False).first.wait_for()
    keyboard.press("ArrowUp")
    keyboard.press("Enter")
    seen.until("audio.currentTime > 0.1")
    first = seen.page.locator(".clusters summary").first
    first.focus()
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    seen.page.locator(".clusters details[open]").get_by_text("as elsewhere").wait_for()
    keyboard.press("?")
    dialog = seen.page.get_by_role("dialog")
    dialog.get_by_text("play the point").wait_for()
    dialog.get_by_text("go to Trends").wait_for()
    keyboard.press("Escape")
    for key, path in (("c", "calls"), ("t", "view/trends"), ("l", "view/labels"), ("f", "")):
        keyboard.press("g")
        keyboard.press(key)
        seen.page.wait_for_url(f"{seen.address}{path}")


@needs_build
def test_points_are_coloured_by_what_is_chosen(visit: Open) -> None:
    seen = visit("view/map")
    drawn(seen)
    legend = seen.page.locator(".legend button:visible")
    seen.page.get_by_label("Colour by").select_option("queue")
    legend.get_by_text("billing").wait_for()
    seen.page.get_by_label("Colour by").select_option("cluster")
    legend.get_by_text("angry · queue=billing").wait_for()
    assert legend.count() == 3
    colour = "getComputedStyle(document.querySelector('.legend .swatch')).backgroundColor"
    assert seen.page.evaluate(colour) == "rgb(179, 32, 15)"  # angry's
    legend.first.click()
    assert legend.first.get_attribute("aria-pressed") == "true"


@needs_build
@pytest.mark.slow
def test_a_map_is_made_from_the_page(visit: Open, index: Path) -> None:
    """It goes on in the service where the page is left, and the page finds it again."""
    pytest.importorskip("umap", reason="a map needs the 'map' extra")
    seen = visit("view/map?name=none")
    seen.page.set_default_timeout(10 * TIMEOUT_MS)  # UMAP is compiled
    seen.page.get_by_text("There is no map called none.").wait_for()
    with e2vsearch.open(index) as collection:
        collection.maps.drop("map")
    seen.page.get_by_role("button", name="Make a map").press("Enter")
    seen.page.get_by_text("Making the map").wait_for()
    seen.page.goto(f"{seen.address}view/map")  # still being made, or made already
    drawn(seen)
    with e2vsearch.open(index) as collection:
        assert [each.points for each in collection.maps.list()] == [len(collection.segments())]
        collection.maps.drop("map")
    draw_map(index)


@needs_build
@needs_axe
@pytest.mark.parametrize("look", LOOKS)
def test_every_view_can_be_used_by_everyone(visit: Open, look: str) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    seen = visit(**LOOKS[look])
    for path in ("", "?ref=emotion:angry&explain=true", "calls", "view/map?hits=1,2", "view/trends", "view/labels"):
        seen.page.goto(seen.address + path)
        if path.startswith("view/map"):
            drawn(seen)
            seen.page.locator(".clusters summary").first.click()
        elif path.startswith("?"):
            seen.page.locator(".hit .wave path.inside").first.wait_for(state="attached")
        else:
            seen.page.locator("main .card:visible, #search:visible").first.wait_for()
        assert (path, seen.violations()) == (path, [])
        width = seen.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert (path, width[0]) == (path, width[1])
