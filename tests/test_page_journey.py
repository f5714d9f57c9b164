"""One way through all views, in Debian's Chromium against the real service: from a clip to a CSV of trends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_map import draw_map, drawn, enclose
from opened_page import Open, heard, make_index, needs_build, serving

import e2vsearch

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    index = make_index(tmp_path)
    draw_map(index)
    with serving(index) as url:
        yield url


@needs_build
@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_from_a_clip_to_trends(visit: Open, tmp_path: Path, look: str) -> None:
    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")
    seen = visit(**LOOKS[look])
    keyboard = seen.page.keyboard
    assert seen.drop()["hits"]

    keyboard.press("j")
    keyboard.press("o")  # the call of the best hit
    seen.page.locator(".strip .wave path").first.wait_for(state="attached")
    keyboard.press("Space")
    seen.until("audio.currentTime > 0.1 && !audio.paused")
    assert heard(seen) > 0.01

    seen.page.goto(f"{seen.address}view/map")
    drawn(seen)
    enclose(seen, 1, "Lasso")
    seen.page.get_by_label("Label for all that is selected").fill("tense")
    seen.page.get_by_role("button", name="Label 4").click()
    seen.page.get_by_text("4 labelled tense").wait_for()
    seen.page.locator(".clusters summary").first.focus()  # without a mouse: the list of clusters
    keyboard.press("Enter")
    seen.page.get_by_role("button", name="Select all of it").first.press("Enter")
    seen.page.get_by_label("Label for all that is selected").fill("calm")
    keyboard.press("Enter")
    seen.page.get_by_text("labelled calm").wait_for()

    seen.page.evaluate("document.activeElement.blur()")
    keyboard.press("g")
    keyboard.press("l")
    seen.page.get_by_role("button", name="Train").click()
    seen.page.get_by_role("status").get_by_text("Trained: labels, version 1.").wait_for()
    seen.page.get_by_label("From a probability of (%)").fill("0")
    seen.page.get_by_role("button", name="Classify the collection").click()
    seen.page.locator(".applied li", has_text="tense").get_by_role("link", name="calls").click()
    seen.page.wait_for_url("**/calls?label=tense")
    seen.page.locator(".calls-list > li").first.wait_for()
    with e2vsearch.open(tmp_path / "index") as collection:
        assert seen.page.locator(".calls-list > li").count() == len(collection.recordings(where="label = tense"))
        wanted = collection.trends(by="week", of="label").rows

    seen.page.goto(f"{seen.address}view/trends?of=label")
    seen.page.locator(".results[data-ready]").wait_for()
    with seen.page.expect_download() as saved:
        seen.page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert [(row["period"], row["value"], int(row["segments"])) for row in rows] == [
        (row.period, row.value, row.segments) for row in wanted
    ]
