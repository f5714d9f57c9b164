"""Late answers: a view that was left, or shown anew, plays nothing, navigates nowhere and labels nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opened_map import draw_map, drawn
from opened_page import Open, Visit, asked, make_index, needs_build

FRAMES = 40  # as many as a page needs to act on an answer, several times over


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_index(tmp_path_factory.mktemp("leaving"))
    draw_map(made)
    return made


class Held:
    """Requests of that method to that path, kept from the service until they are let go."""

    def __init__(self, seen: Visit, pattern: str, most: int = 99, method: str = "GET") -> None:
        self.seen, self.pattern, self.most, self.method = seen, pattern, most, method
        self.routes: list[Any] = []
        seen.page.route(pattern, self.take)

    def take(self, route: Any) -> None:
        if route.request.method == self.method and len(self.routes) < self.most:
            self.routes.append(route)
        else:
            route.fallback()

    def wait(self) -> None:
        while not self.routes:
            self.seen.page.evaluate("new Promise(requestAnimationFrame)")

    def go(self, **answer: Any) -> None:
        """Let them go to the service, or answer them with that."""
        self.wait()
        self.most = 0
        for route in self.routes:
            route.fulfill(**answer) if answer else route.continue_()
        frames(self.seen)


def frames(seen: Visit) -> None:
    """Waits until the page has had the time to act on what has come."""
    wait = "async n => { while (n--) await new Promise(requestAnimationFrame); }"
    seen.page.evaluate(wait, FRAMES)


def go(seen: Visit, key: str, path: str) -> None:
    for each in ("g", key):
        seen.page.keyboard.press(each)
    seen.page.wait_for_url(f"{seen.address}{path}")


def task(state: str, kind: str, made: str | None = None) -> dict[str, Any]:
    now = "2026-03-01T10:00:00+00:00"
    said = {"id": "aa", "kind": kind, "state": state, "started_at": now, "step": "", "done": 0, "of": 0}
    return {**said, "made": made, "error": None}


@needs_build
@pytest.mark.parametrize("at", ["?ref=emotion:angry", "calls/call:1"])
def test_a_sound_that_is_fetched_when_its_view_is_left_is_not_heard(visit: Open, at: str) -> None:
    seen = visit(at)
    sound = Held(seen, "**/audio*")
    play = seen.page.get_by_role("button", name="Play").first
    play.wait_for()
    seen.page.evaluate("played = 0; audio.addEventListener('play', () => played++)")
    play.click()
    sound.wait()
    go(seen, "t", "view/trends")
    sound.go()
    assert seen.page.evaluate("[played, audio.paused]") == [0, True]


@needs_build
def test_older_calls_that_are_asked_for_twice_come_once(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")

    def two(route: Any) -> None:
        route.continue_(url=route.request.url.replace("limit=30", "limit=2"))

    seen.page.route("**/recordings?*", two)
    go(seen, "c", "calls")
    older = seen.page.get_by_role("button", name="Show older calls")
    older.evaluate("button => { button.click(); button.click(); }")
    seen.until("document.querySelectorAll('.calls-list > li').length >= 4")
    frames(seen)
    names = seen.page.locator(".calls-list h3").all_inner_texts()
    assert len(names) == len(set(names)) == 4


@needs_build
def test_a_list_that_comes_late_is_not_the_one_to_go_back_to(visit: Open) -> None:
    seen = visit("calls")
    seen.page.locator(".calls-list > li").first.wait_for()
    late = Held(seen, "**/recordings?*", most=1)
    field = seen.page.locator(".filters input[name=text]")
    field.fill("money")
    field.press("Enter")
    late.wait()
    seen.page.go_back()
    seen.page.locator(".calls-list > li").nth(5).wait_for()
    late.go()
    seen.page.locator(".calls-list a").first.click()
    back = seen.page.get_by_role("link", name="All calls")
    assert back.get_attribute("href") == f"{seen.address}calls"


@needs_build
def test_filters_keep_the_focus_when_they_are_drawn_anew(visit: Open) -> None:
    seen = visit("calls")
    seen.page.locator(".calls-list > li").first.wait_for()
    late = Held(seen, "**/recordings?*", most=1)
    seen.page.locator(".filters input[name=text]").fill("money")
    seen.page.keyboard.press("Tab")
    late.wait()
    late.go()
    seen.page.locator(".calls-list > li").first.wait_for()
    assert seen.page.evaluate("document.activeElement.name") == "call"
    field = seen.page.locator(".filters input[name=text]")
    field.fill("mone")
    field.press("Enter")
    seen.page.wait_for_url("**/calls?text=mone")
    seen.until("document.activeElement?.name === 'text'")
    seen.page.keyboard.type("y")
    assert field.input_value() == "money"
    go_on = seen.page.locator(".view.trends select").first
    seen.page.evaluate("document.activeElement.blur()")
    go(seen, "t", "view/trends")
    go_on.wait_for()
    go_on.focus()
    go_on.select_option(index=1)
    seen.until("document.querySelector('.view.trends .results')?.dataset.ready === 'yes'")
    assert seen.page.evaluate("document.activeElement.tagName") == "SELECT"


@needs_build
def test_filters_that_were_opened_stay_open_on_a_telephone(visit: Open) -> None:
    seen = visit("calls", viewport={"width": 360, "height": 800})
    seen.page.locator(".calls-list > li").first.wait_for()
    emotion = seen.page.locator(".filters select[name=emotion]")
    assert not emotion.is_visible()
    seen.page.locator(".view.calls").get_by_text("Only among").click()
    seen.page.locator(".view.calls").get_by_text("Advanced").click()
    emotion.select_option("angry")
    seen.page.wait_for_url("**/calls?emotion=angry")
    seen.page.locator(".filters textarea[name=where]").wait_for()
    labels = [each.bounding_box() for each in seen.page.locator("#nav a").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in labels)
    assert seen.page.evaluate(
        "document.getElementById('nav').scrollWidth <= document.getElementById('nav').clientWidth"
    )


@needs_build
@pytest.mark.parametrize("when", ["asked for", "in work"])
def test_a_map_that_is_made_takes_nobody_back_to_it(visit: Open, when: str) -> None:
    seen = visit("?ref=emotion:angry")
    done = {"json": task("done", "map", "map")}
    late = Held(seen, "**/tasks/map", method="POST") if when == "asked for" else Held(seen, "**/tasks", most=1)
    seen.page.route("**/tasks/aa", lambda route: route.fulfill(**done))
    go(seen, "m", "view/map")
    if when == "asked for":
        drawn(seen)
        seen.page.get_by_role("button", name="anew").click()
    late.wait()
    go(seen, "c", "calls")
    late.go(**done if when == "asked for" else {"json": {"tasks": [task("running", "map")]}})
    with seen.page.expect_response("**/status"):
        seen.page.evaluate("void fetch('/status')")
    frames(seen)
    assert urlsplit(seen.page.url).path == "/calls"


@needs_build
def test_a_map_that_was_made_while_its_view_was_drawn_is_shown(visit: Open) -> None:
    """It is no longer in work when that is asked second, and is not there yet when that is asked first."""
    seen = visit("?ref=emotion:angry")
    answered: list[str] = []

    def tasks(route: Any) -> None:
        route.fulfill(json={"tasks": [] if answered else [task("running", "map")]})
        answered.append("tasks")

    def maps(route: Any) -> None:
        route.continue_() if answered else route.fulfill(json={"maps": []})
        answered.append("maps")

    seen.page.route("**/tasks", tasks)
    seen.page.route("**/map", maps)
    seen.page.route("**/tasks/aa", lambda route: route.fulfill(json=task("done", "map", "map")))
    go(seen, "m", "view/map")
    drawn(seen)


@needs_build
def test_training_that_ends_after_its_view_was_left_changes_no_segment_under_a_label(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")
    pool = [f"seg:{number}" for number in range(1, 7)]
    for label, of in (("calm", pool[:3]), ("tense", pool[3:])):
        asked(seen, "labels", {"label": label, "segments": of})
    seen.page.route("**/tasks/train", lambda route: route.fulfill(json=task("running", "train")))
    poll = Held(seen, "**/tasks/aa")
    go(seen, "l", "view/labels")
    seen.page.locator(".segment").wait_for()
    seen.page.get_by_role("button", name="Train").click()
    poll.wait()
    go(seen, "c", "calls")
    go(seen, "l", "view/labels")
    shown = seen.page.locator(".segment")
    shown.wait_for()
    seen.page.locator(".classifier .buttons button:enabled").wait_for()
    frames(seen)

    def otherwise(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "suggestions": answer.json()["suggestions"][::-1]})

    seen.page.route("**/labels/suggestions*", otherwise)
    poll.go(json=task("done", "train", "labels"))
    segment = shown.get_attribute("data-segment")
    with seen.page.expect_request(lambda sent: sent.method == "POST") as given:
        seen.page.keyboard.press("1")
    assert given.value.post_data_json["segments"] == [segment]


@needs_build
def test_a_label_under_way_when_its_view_is_left_leaves_the_next_segment_to_be_seen_first(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")
    shown = seen.page.locator(".segment")
    given: list[Any] = []
    seen.page.on("request", lambda sent: given.append(sent.post_data_json) if sent.method == "POST" else None)
    with seen.page.expect_response(lambda came: "labels/suggestions" in came.url) as answered:
        go(seen, "l", "view/labels")
    suggested = [each["segment"] for each in answered.value.json()["suggestions"]]
    shown.wait_for()
    late = Held(seen, "**/labels", most=1, method="POST")
    field = seen.page.locator(".view.labels input[name=label]")
    field.fill("calm")
    field.press("Enter")
    late.wait()
    seen.page.evaluate("document.activeElement.blur()")
    go(seen, "c", "calls")
    go(seen, "l", "view/labels")
    shown.wait_for()
    assert shown.get_attribute("data-segment") == suggested[0]
    late.go()
    given.clear()
    seen.page.keyboard.press("s")
    seen.until(f"document.querySelector('.segment').dataset.segment === {json.dumps(suggested[1])}")
    field.fill("calm")
    with seen.page.expect_response("**/labels"):
        field.press("Enter")
    assert [each["segments"] for each in given] == [[suggested[1]]]


@needs_build
def test_labels_shown_twice_at_once_are_shown_once(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")
    late = Held(seen, "**/labels", most=1)
    go(seen, "l", "view/labels")
    late.wait()
    for _ in range(2):
        seen.page.locator("#language").click()  # draws anew what is shown
    seen.page.locator(".segment").wait_for()
    suggested: list[str] = []
    seen.page.on("request", lambda sent: suggested.append(sent.url) if "suggestions" in sent.url else None)
    late.go()
    assert suggested == []
    seen.page.evaluate("audio.pause()")
    seen.page.locator(".segment").get_by_role("button", name="Play").click()
    seen.page.locator(".segment").get_by_role("button", name="Pause").wait_for()


@needs_build
def test_a_view_that_cannot_be_fetched_says_so_and_is_tried_again(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")
    seen.expected.append("Failed to load resource")
    seen.page.locator(".hit").first.wait_for()
    seen.page.route("**/assets/trends-*.js", lambda route: route.abort())
    go(seen, "t", "view/trends")
    trouble = seen.page.get_by_role("alert")
    trouble.get_by_text("The service does not answer").wait_for()
    seen.page.unroute("**/assets/trends-*.js")
    trouble.get_by_role("button", name="Try again").click()
    seen.page.locator(".view.trends .panel").first.wait_for()


@needs_build
@pytest.mark.parametrize(("key", "view"), [("m", "map"), ("l", "labels")])
def test_what_failed_is_not_loading_any_more(visit: Open, key: str, view: str) -> None:
    seen = visit("?ref=emotion:angry")
    seen.expected.append("Failed to load resource")
    seen.page.route(f"**/{view}", lambda route: route.abort())
    go(seen, key, f"view/{view}")
    seen.page.get_by_role("alert").get_by_text("The service does not answer").wait_for()
    assert not seen.page.get_by_text("Loading").is_visible()
    seen.page.unroute(f"**/{view}")
    seen.page.get_by_role("button", name="Try again").click()
    seen.page.locator(f".view.{view} .stage").wait_for()
