"""The Calls view, in Debian's Chromium against the real service: browsed, opened, heard, stepped through, labelled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_page import CALLS, CLIP, SAID, Open, Visit, heard, make_index, needs_axe, needs_build

import e2vsearch
import e2vsearch.audio
from e2vsearch.types import Recording, Segment

LONG_S = 70  # of a call that is fetched in two pieces


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    index = make_index(folder)
    spoken = e2vsearch.audio.read(CLIP)
    times = -(-LONG_S * e2vsearch.audio.SAMPLING_RATE_HZ // spoken.shape[1])
    e2vsearch.audio.write(folder / "long.wav", np.tile(spoken, times)[:, : LONG_S * e2vsearch.audio.SAMPLING_RATE_HZ])
    with e2vsearch.open(index) as collection:
        collection.ingest(folder / "long.wav")
    return index


def call_of(index: Path, name: str) -> tuple[Recording, list[Segment]]:
    with e2vsearch.open(index) as collection:
        (recording,) = (each for each in collection.recordings() if each.name == name)
        return recording, list(collection.segments(recording.id))


def current(seen: Visit) -> str:
    """The segment that the keys are about."""
    found: str = seen.page.locator(".row[aria-current]").get_attribute("data-segment")
    return found


def opened(seen: Visit) -> None:
    """Waits for the whole of a call, waveforms too."""
    seen.page.locator(".summary").wait_for()
    seen.page.locator(".strip .wave path").first.wait_for(state="attached")


def at_s(seen: Visit) -> float:
    """Where the sound is, as the page says it."""
    minutes, seconds = seen.page.locator(".clock").inner_text().split(" / ")[0].split(":")
    return 60 * int(minutes) + float(seconds)


@needs_build
def test_a_hits_call_is_opened_heard_and_stepped_through_by_keyboard(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "refund-shouting")
    seen = visit("?ref=emotion:angry&by=segment&where=name+%3D+%22refund-shouting%22")
    seen.page.locator(".hit").first.wait_for()
    keyboard = seen.page.keyboard
    keyboard.press("j")
    wanted = seen.page.locator(".hit .ids").first.inner_text().split()[1]
    keyboard.press("o")
    opened(seen)
    assert seen.page.url == f"{seen.address}calls/{recording.id}?segment={wanted}"
    assert seen.page.title() == " \N{EN DASH} ".join(("refund-shouting", "Calls", "e2vsearch"))
    assert current(seen) == wanted
    assert seen.page.locator(".row .found").count() == len(segments)  # both are hits
    assert re.fullmatch(r"◆\nyour search found it 0\.\d{3}", seen.page.locator(".row .found").first.inner_text())

    (chosen,) = (each for each in segments if each.id == wanted)
    assert at_s(seen) == pytest.approx(chosen.start_s, abs=0.051)
    keyboard.press("Space")
    seen.until("audio.currentTime > 0.2 && !audio.paused")
    assert heard(seen) > 0.01
    assert seen.page.locator(".row.now").get_attribute("data-segment") == wanted
    assert chosen.start_s < at_s(seen) < chosen.end_s
    other = segments[1 - segments.index(chosen)]
    keyboard.press("ArrowRight" if other.start_s > chosen.start_s else "ArrowLeft")
    seen.until(f"document.querySelector('.row.now')?.dataset.segment === '{other.id}'")
    assert (current(seen), seen.page.evaluate("audio.paused")) == (other.id, False)
    keyboard.press("Space")
    seen.until("audio.paused")
    where = at_s(seen)
    keyboard.press("Space")
    seen.until("!audio.paused && audio.currentTime > 0")
    assert at_s(seen) >= where - 0.1
    for key in ("ArrowLeft", "Space", "Space"):  # pressed while the jump is under way
        keyboard.press(key)
    seen.until("!audio.paused && audio.currentTime > 0")
    keyboard.press("Space")
    seen.until("audio.paused")

    keyboard.press("?")
    assert seen.page.get_by_role("dialog").get_by_text("previous, next segment").is_visible()
    keyboard.press("Escape")
    seen.page.get_by_role("link", name="Your search").click()
    seen.page.locator(".hit").first.wait_for()
    assert seen.page.evaluate("audio.paused")
    assert "ref=emotion:angry" in seen.page.url


@needs_build
def test_a_selection_is_labelled_at_once_and_the_label_taken_back(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "refund-shouting")
    seen = visit(f"calls/{recording.id}")
    opened(seen)
    keyboard = seen.page.keyboard
    keyboard.press("Shift+ArrowRight")
    seen.page.get_by_text("2 segments are selected").wait_for()
    assert seen.page.locator(".strip .selected").count() == 2
    keyboard.press("l")
    keyboard.type("fed up")
    with seen.page.expect_request(lambda sent: sent.method == "POST") as sent:
        keyboard.press("Enter")
    assert sent.value.post_data_json == {"label": "fed up", "segments": [each.id for each in segments]}
    seen.page.get_by_text("2 segments are labelled “fed up”.").wait_for()
    assert seen.page.locator(".row .own").all_inner_texts() == ["fed up (yours)"] * 2
    assert [each.label for each in call_of(index, "refund-shouting")[1]] == ["fed up"] * 2
    seen.page.get_by_role("button", name="Undo").click()
    seen.page.get_by_text("Taken back.").wait_for()
    assert [each.label for each in call_of(index, "refund-shouting")[1]] == [None, None]
    assert seen.page.locator(".row .own").count() == 0

    with e2vsearch.open(index) as collection:
        collection.labels.add("calm", segments[0].id)
    seen.page.reload()
    opened(seen)
    keyboard.press("ArrowRight")
    keyboard.press("1")  # of the only label, for the segment at hand
    seen.page.get_by_text("1 segment is labelled “calm”.").wait_for()
    seen.page.get_by_label("Select 00:").first.check()
    seen.page.get_by_text("1 segment is selected").wait_for()
    keyboard.press("Escape")
    assert seen.page.locator(".row input:checked").count() == 0
    seen.page.locator(".row").nth(1).click(modifiers=["Shift"])
    assert seen.page.locator(".row input:checked").count() == 2
    with e2vsearch.open(index) as collection:
        collection.labels.remove(label="calm")


@needs_build
def test_the_call_is_told_in_words(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "refund-shouting")
    seen = visit(f"calls/{recording.id}")
    opened(seen)
    timeline = seen.page.evaluate(f"fetch('/recordings/{recording.id}/timeline').then(answer => answer.json())")
    assert seen.page.locator(".view.calls h2").inner_text() == "refund-shouting"
    assert "Mar 2, 2024" in seen.page.locator(".head .facts-line").inner_text()
    assert [SAID in each for each in seen.page.locator(".row .said").all_inner_texts()] == [True, True]
    said = seen.page.locator(".summary").inner_text()
    (shares,) = timeline["summary"]["by_role"]
    for emotion, share in shares["shares"].items():
        assert f"{emotion} {round(100 * share)}%" in said
    dynamics = timeline["dynamics"]
    facts = dict(
        zip(
            seen.page.locator(".facts dt").all_inner_texts(),
            seen.page.locator(".facts dd").all_inner_texts(),
            strict=True,
        )
    )
    assert facts == {
        "Speech": f"{round(100 * dynamics['talk_share'])}%",
        "Silence": f"{round(100 * dynamics['silence_share'])}%, the longest {dynamics['longest_silence_s']:.1f} s",
        "Both at once": f"{round(100 * dynamics['overtalk'])}%",
        "Turns": str(dynamics["turns"]),
        "Interruptions": str(dynamics["interruptions"]),
    }
    assert seen.page.locator(".bands .silence").count() == len(dynamics["silences"])
    assert seen.page.locator(".bands .overlap").count() == len(dynamics["overlaps"])
    bars = seen.page.locator(".probabilities g")
    assert bars.count() == len(segments)
    heights = bars.first.locator("rect").evaluate_all("all => all.map(each => Number(each.getAttribute('height')))")
    assert sum(heights) == pytest.approx(1.0, abs=0.01)


@needs_build
def test_turning_points_overlap_and_the_strongest_are_marked(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "refund-shouting")
    point = {"at_s": segments[1].start_s, "channel": 1, "segment": segments[1].id, "direction": "worsening"}
    told = {"valence_before": 0.52, "valence_after": 0.31, "emotion": "angry"}

    def eventful(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        found["summary"] |= {"course": "worsening", "turning_points": [point | told], "strongest": [segments[0].id]}
        found["dynamics"]["overlaps"] = [[1.0, 2.5]]
        route.fulfill(response=answer, json=found)

    seen = visit("calls")
    seen.page.route("**/timeline", eventful)
    seen.page.goto(f"{seen.address}calls/{recording.id}")
    opened(seen)
    assert seen.page.locator(".course").inner_text().startswith("Worsening over the call")
    assert seen.page.locator(".turn.worsening").inner_text() == "worsening"
    assert seen.page.locator(".bands .overlap").count() == 1
    assert seen.page.locator(".foot").get_by_text("both speak at once").is_visible()
    turning = seen.page.locator(".moments li", has_text="worsening")
    assert "mostly angry, valence 0.52 → 0.31" in turning.inner_text()
    turning.get_by_role("button").click()
    seen.until("!audio.paused && audio.currentTime > 0")
    assert current(seen) == segments[1].id


@needs_build
def test_the_agent_has_no_emotion(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "billing-calm")
    assert {each.channel for each in segments} == {1}
    seen = visit(f"calls/{recording.id}")
    opened(seen)
    agent = seen.page.locator(".strip").first
    assert agent.locator(".caption").inner_text() == "Agent turn-taking only, no emotion is analysed"
    assert agent.locator("rect, .names, [data-emotion]:not([data-emotion=''])").count() == 0
    assert agent.locator("path.context").count() == 1  # its waveform, in grey
    assert seen.page.locator(".strip").nth(1).locator("rect.ground").count() == len(segments)
    assert [each for each in seen.page.locator(".summary h4").all_inner_texts() if "Agent" in each] == []
    agent.locator(".wave").click(position={"x": 100, "y": 20})  # and is heard
    seen.until("!audio.paused && audio.currentTime > 0")


@needs_build
def test_the_strips_are_clicked_and_enlarged(visit: Open, index: Path) -> None:
    recording, segments = call_of(index, "refund-shouting")
    seen = visit(f"calls/{recording.id}")
    opened(seen)
    wave = seen.page.locator(".strip").nth(1).locator(".wave")
    box = wave.bounding_box()
    middle = (segments[1].start_s + segments[1].end_s) / 2
    wave.click(position={"x": box["width"] * middle / recording.duration_s, "y": 10})
    seen.until("!audio.paused && audio.currentTime > 0")
    assert current(seen) == segments[1].id
    assert middle - 0.1 < at_s(seen) < middle + 3
    drawn = "[...document.querySelectorAll('.strip path')].reduce((n, p) => n + p.getAttribute('d').length, 0)"
    before = seen.page.evaluate(drawn)
    seen.page.get_by_role("button", name="Larger").click()
    assert wave.bounding_box()["width"] == pytest.approx(2 * box["width"], abs=2)
    assert seen.page.evaluate(drawn) > 1.5 * before
    seen.page.get_by_role("button", name="Smaller").click()
    assert seen.page.get_by_role("button", name="Smaller").is_disabled()


@needs_build
def test_a_long_call_goes_on_where_a_piece_of_it_ends(visit: Open, index: Path) -> None:
    recording, _ = call_of(index, "long")
    seen = visit(f"calls/{recording.id}")
    opened(seen)
    wave = seen.page.locator(".strip .wave")
    width = wave.bounding_box()["width"]
    wave.click(position={"x": width * 59.2 / LONG_S, "y": 10})
    seen.until("document.querySelector('.clock').textContent >= '01:00.5' && !audio.paused")
    assert seen.page.evaluate("audio.duration") == pytest.approx(LONG_S - 60, abs=0.01)
    assert heard(seen) > 0.01


@needs_build
def test_calls_are_browsed_without_a_reference(visit: Open) -> None:
    seen = visit("calls")
    names = seen.page.locator(".call-row h3")
    names.first.wait_for()
    listed = seen.page.evaluate("fetch('/recordings?order=newest').then(answer => answer.json())")
    assert names.all_inner_texts() == [each["name"] for each in listed["recordings"]]
    assert set(CALLS) < set(names.all_inner_texts())
    assert seen.page.get_by_text(f"{len(listed['recordings'])} calls, the newest first").is_visible()
    row = seen.page.locator(".call-row", has_text="refund-shouting")
    shares = listed["emotions"][next(each["id"] for each in listed["recordings"] if each["name"] == "refund-shouting")]
    assert row.locator(".named .line").all_inner_texts() == [
        f"{emotion} {round(100 * share)}%" for emotion, share in list(shares.items())[:3]
    ]
    assert "Agent · Customer" in row.inner_text()
    assert "queue\nbilling" in row.inner_text()

    keyboard = seen.page.keyboard
    keyboard.press("/")
    keyboard.type("money")
    keyboard.press("Enter")
    seen.page.wait_for_url("**/calls?text=money")
    seen.page.get_by_text("1 call", exact=True).wait_for()
    assert names.all_inner_texts() == ["refund-shouting"]
    seen.page.locator(".view.calls h2").click()  # out of the field
    keyboard.press("j")
    keyboard.press("Enter")
    opened(seen)
    seen.page.go_back()
    names.first.wait_for()
    assert names.all_inner_texts() == ["refund-shouting"]
    seen.until("document.activeElement.textContent === 'refund-shouting'")

    seen.page.get_by_role("button", name="Clear all filters").click()
    seen.until("document.querySelectorAll('.call-row').length > 1")
    seen.page.get_by_label("queue").fill("billing")
    seen.page.get_by_label("queue").press("Enter")
    seen.until("document.querySelectorAll('.call-row').length === 2")
    assert set(names.all_inner_texts()) == {"billing-calm", "refund-shouting"}


@needs_build
def test_filters_without_a_reference_lead_to_the_list(visit: Open) -> None:
    seen = visit()
    seen.page.get_by_role("heading", name="Start from a feeling").wait_for()
    seen.field("meta.queue").fill("billing")
    seen.field("meta.queue").press("Tab")
    seen.page.get_by_role("link", name="look through the calls").click()
    seen.until("document.querySelectorAll('.call-row').length === 2")
    assert seen.page.url == f"{seen.address}calls?meta.queue=billing"


@needs_build
def test_no_call_offers_a_near_value_and_a_bad_filter_is_explained(visit: Open) -> None:
    seen = visit("calls?meta.queue=biling")
    seen.page.get_by_text("No queue is called “biling”.").wait_for()
    seen.page.get_by_role("link", name="Use “billing”").click()
    seen.page.wait_for_url("**/calls?meta.queue=billing")
    seen.until("document.querySelectorAll('.call-row').length === 2")
    seen.page.goto(f"{seen.address}calls?text=mony")
    seen.page.get_by_text("No transcript has the word “mony”.").wait_for()
    seen.page.get_by_role("link", name="Use “money”").click()
    seen.page.get_by_text("1 call", exact=True).wait_for()

    seen.expected.append("status of 400")
    seen.page.goto(f"{seen.address}calls?where=colour+%3D+3")
    beside = seen.page.locator("#calls-where-error")
    beside.get_by_text("colour").wait_for()
    assert beside.inner_text().startswith("This filter cannot be read: ")
    assert seen.page.locator(".calls [name=where]").get_attribute("aria-invalid") == "true"


@needs_build
def test_older_calls_come_a_page_at_a_time(visit: Open, index: Path) -> None:
    seen = visit("calls?call=no+such")
    seen.page.route(
        "**/recordings?*", lambda route: route.continue_(url=route.request.url.replace("limit=30", "limit=3"))
    )
    seen.page.goto(f"{seen.address}calls")
    names = seen.page.locator(".call-row h3")
    seen.page.get_by_text("the newest 3 calls").wait_for()
    shown = []
    while seen.page.get_by_role("button", name="Show older calls").count():
        shown.append(names.count())
        seen.page.get_by_role("button", name="Show older calls").click()
        seen.until(f"document.querySelectorAll('.call-row').length > {shown[-1]}")
    assert shown == [3, 6]
    with e2vsearch.open(index) as collection:
        assert names.all_inner_texts() == [each.recording.name for each in collection.calls(100)]


@needs_build
def test_what_is_gone_is_said_in_the_pages_words(visit: Open, index: Path) -> None:
    seen = visit("calls/call:999")
    seen.expected += ["status of 404", "status of 410"]
    seen.page.get_by_text("Nothing is stored under call:999. It may have been removed.").wait_for()
    recording, _ = call_of(index, "billing-calm")
    gone = {"error": {"reason": "missing", "message": "no such file - mount it"}}
    seen.page.route("**/peaks?*", lambda route: route.fulfill(status=410, json=gone))
    seen.page.goto(f"{seen.address}calls/{recording.id}")
    seen.page.get_by_text("The recording is stored, but its audio file is gone.").wait_for()
    assert seen.page.locator(".strip rect.ground").count() > 0


@needs_build
@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("locale", "width"), [("en-GB", 1280), ("zh-CN", 390)])
def test_everybody_can_read_it(visit: Open, index: Path, scheme: str, locale: str, width: int) -> None:
    """axe-core finds nothing, and nothing is wider than the screen."""
    recording, _ = call_of(index, "refund-shouting")
    seen = visit("calls", color_scheme=scheme, locale=locale, viewport={"width": width, "height": 844})
    seen.page.locator(".call-row").first.wait_for()
    assert seen.violations() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    seen.page.goto(f"{seen.address}calls/{recording.id}")
    opened(seen)
    seen.page.keyboard.press("x")
    assert seen.violations() == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    seen.page.goto(f"{seen.address}calls?meta.queue=biling")
    seen.page.get_by_text("billing", exact=False).first.wait_for()
    assert seen.violations() == []
