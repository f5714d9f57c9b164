"""The Trends view, in Debian's Chromium against the real service: the figures of all doors, the way to calls."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from command import Run
from made_weeks import fill, made_call
from opened_page import LOOKS, Open, Visit, needs_axe, needs_build

import e2vsearch


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trends") / "index"
    with e2vsearch.open(place, create=True) as collection:
        fill(collection)
        collection.catalog.store(made_call(20, ["sad"], queue="billing", agent="Kim"))
    return place


def drawn(seen: Visit) -> None:
    seen.page.locator(".results[data-ready]").wait_for()


def rows_of(seen: Visit) -> list[list[str]]:
    """What the table says, a list of cells for each row."""
    found: list[list[str]] = seen.page.evaluate(
        "[...document.querySelectorAll('.figures tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def shown(row: dict[str, Any], *, grouped: bool = True) -> list[str]:
    """A row of the table, from one of the API."""
    return [
        row["period"],
        *([row["group"] or "(none)"] if grouped else []),
        {"too short": "too short to say"}.get(row["value"], row["value"]),
        f"{int(100 * row['share'] + 0.5)}%",
        f"{int(100 * row['low'] + 0.5)}\N{EN DASH}{int(100 * row['high'] + 0.5)}",
        f"{row['segments']} of {row['of_segments']}",
        f"{row['recordings']} of {row['of_recordings']}",
    ]


@needs_build
def test_page_command_line_and_python_give_the_same_figures(visit: Open, index: Path, run: Run) -> None:
    with e2vsearch.open(index) as collection:
        wanted = collection.trends(by="week", group="queue").to_dicts()
    ran = run("trends", "--index", index, "--group", "queue", "-f", "json")
    assert ran.code == 0
    assert json.loads(ran.out)["rows"] == wanted
    seen = visit("view/trends")
    drawn(seen)
    seen.page.get_by_label("Compare").select_option("queue")
    seen.page.wait_for_url("**/view/trends?group=queue")
    drawn(seen)
    while seen.page.locator(".legend [aria-pressed=false]").count():
        seen.page.locator(".legend [aria-pressed=false]").first.click()
    assert rows_of(seen) == [shown(row) for row in wanted]
    with seen.page.expect_download() as saved:
        seen.page.get_by_role("button", name="Save as CSV").click()
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert saved.value.suggested_filename == "trends.csv"
    assert list(csv.reader(io.StringIO(text))) == [
        list(wanted[0]),
        *[["" if value is None else str(value) for value in row.values()] for row in told(wanted)],
    ]


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their numbers as JavaScript writes them: 0 and 1 without a point."""
    return [
        {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in row.items()}
        for row in rows
    ]


@needs_build
def test_a_point_leads_to_its_calls_by_mouse_and_by_keys(visit: Open, index: Path) -> None:
    seen = visit("view/trends?group=queue")
    drawn(seen)
    with e2vsearch.open(index) as collection:
        rows = collection.trends(by="week", group="queue").rows
    panel = seen.page.locator(".panel", has=seen.page.get_by_role("heading", name="billing", exact=True))
    point = panel.get_by_role("link", name="2025-W01 · billing · angry:")
    row = next(row for row in rows if (row.period, row.group, row.value) == ("2025-W01", "billing", "angry"))
    point.hover()
    said = panel.locator(".readout").inner_text()
    assert said == point.get_attribute("aria-label")
    assert f"{row.segments} of {row.of_segments} segments, {row.recordings} of {row.of_recordings} calls" in said
    point.locator(".target").click()
    asked = urlsplit(seen.page.url)
    assert (asked.path, parse_qs(asked.query)) == ("/calls", {"where": [row.where]})

    seen.page.go_back()
    drawn(seen)
    chart = panel.locator(".chart")
    chart.locator("a[tabindex='0']").focus()
    focused = "document.activeElement.getAttribute('aria-label')"
    first = seen.page.evaluate(focused)
    seen.page.keyboard.press("ArrowLeft")
    left = seen.page.evaluate(focused)
    seen.page.keyboard.press("ArrowDown")
    below = seen.page.evaluate(focused)
    value = re.compile(r"(2025-W0\d) · billing · (\w+):")
    names = [value.match(each) for each in (first, left, below)]
    assert [each and each[1] for each in names] == ["2025-W03", "2025-W02", "2025-W02"]
    assert names[0]
    assert names[1]
    assert names[2]
    assert names[0][2] == names[1][2] != names[2][2]
    assert chart.locator("a[tabindex='0']").count() == 1
    seen.page.keyboard.press("Enter")
    seen.page.wait_for_url("**/calls?where=*")


@needs_build
def test_what_is_counted_is_in_the_address(visit: Open) -> None:
    seen = visit("view/trends?by=month")
    drawn(seen)
    assert seen.page.locator(".panel h4").all_inner_texts() == ["angry", "calm", "sad", "too short to say", "unsure"]
    seen.page.get_by_text("all at once", exact=True).click()
    seen.page.wait_for_url("**/view/trends?by=none")
    drawn(seen)
    assert seen.page.locator(".bars a").count() == 5
    seen.page.get_by_label("Compare").select_option("queue")
    seen.page.wait_for_url("**/view/trends?by=none&group=queue")
    drawn(seen)
    assert seen.page.locator(".panel h4").all_inner_texts() == ["billing", "sales", 'the "new" one', "(none)"]
    seen.page.locator("fieldset", has_text="A panel for each").get_by_text("emotion").click()
    seen.page.wait_for_url("**/view/trends?by=none&group=queue&panels=value")
    drawn(seen)
    assert seen.page.locator(".panel h4").first.inner_text() == "angry"
    seen.page.locator("summary", has_text="Only among").filter(visible=True).click()
    seen.page.get_by_label("Count only segments that pass this filter").fill("queue = billing")
    seen.page.get_by_role("button", name="Show", exact=True).click()
    drawn(seen)
    seen.page.get_by_role("heading", name="Share of each emotion by queue, where queue = billing").wait_for()
    assert parse_qs(urlsplit(seen.page.url).query)["where"] == ["queue = billing"]
    seen.page.go_back()
    seen.page.get_by_role("heading", name="Share of each emotion by queue", exact=True).wait_for()


@needs_build
def test_what_cannot_be_shown_says_why(visit: Open) -> None:
    seen = visit("view/trends?group=agent")
    seen.expected += ["status of 403", "status of 400", "status of 404"]
    seen.page.get_by_text("Not by agent: that would be emotion by employee").wait_for()
    seen.page.locator(".error", has_text="prohibits it at work").wait_for()
    assert "agent" not in seen.page.goto(f"{seen.address}filters").json()["metadata"]
    seen.page.goto(f"{seen.address}view/trends?where=loud > 1")
    wrong = seen.page.get_by_text("This filter cannot be read: nothing here is called 'loud'")
    wrong.wait_for()
    assert wrong.get_attribute("id") == seen.page.get_by_label("Count only").get_attribute("aria-describedby")
    seen.page.goto(f"{seen.address}view/trends?of=cluster")
    seen.page.get_by_text("No map yet").wait_for()
    seen.page.goto(f"{seen.address}view/trends?of=label")
    seen.page.get_by_role("link", name="Give some in the Labels view").click()
    seen.page.wait_for_url("**/view/labels")
    seen.page.goto(f"{seen.address}view/trends?where=queue = nowhere")
    seen.page.get_by_text("No segment passes this filter.").wait_for()


@needs_build
@needs_axe
@pytest.mark.parametrize("look", LOOKS)
def test_trends_can_be_used_by_everyone(visit: Open, look: str) -> None:
    seen = visit(**LOOKS[look])
    for query in ("", "?group=queue", "?group=queue&by=none", "?group=agent"):
        seen.expected.append("status of 403")
        seen.page.goto(f"{seen.address}view/trends{query}")
        drawn(seen)
        assert (query, seen.violations()) == (query, [])
        assert seen.page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
