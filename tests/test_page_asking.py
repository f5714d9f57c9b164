"""What a person does with the page at ``/``, in Debian's Chromium against the real service."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from opened_page import (
    CALLS,
    KEY,
    Open,
    clock,
    heard,
    make_index,
    needs_build,
    rounded_down,
    serving,
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_index(tmp_path_factory.mktemp("page"))


@needs_build
def test_a_clip_finds_ranked_calls_and_a_segment_is_heard(visit: Open) -> None:
    seen = visit()
    seen.page.get_by_role("heading", name="Start from a feeling").wait_for()
    answer = seen.upload()
    assert seen.hits() == [hit["name"] for hit in answer["hits"]]
    assert set(seen.hits()) == set(CALLS)
    assert seen.hits()[0] in ("cancel-angry", "refund-shouting", "outage-angry")
    scores = [float(text) for text in seen.page.locator(".score strong").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert scores == [round(hit["score"], 3) for hit in answer["hits"]]
    assert re.search(rf"searched {answer['searched']} of {answer['total']} segments in [\d.]+ ms", seen.line())
    first = seen.page.locator(".hit").first
    named = [
        hit["emotion"] if hit["emotion_score"] is None else f"{hit['emotion']} {round(hit['emotion_score'] * 100)}%"
        for hit in answer["hits"]
    ]
    assert seen.page.locator(".hit .tag").all_inner_texts() == named
    first.locator(".wave path.inside").first.wait_for(state="attached")
    seen.page.locator("#clip").get_by_text("angry.ogg").wait_for()

    first.get_by_role("button", name=f"Play {seen.hits()[0]}").click()
    seen.until("audio.currentTime > 0.2 && !audio.paused")
    assert heard(seen) > 0.01
    expected_s = answer["hits"][0]["end_s"] - answer["hits"][0]["start_s"]
    assert seen.page.evaluate("audio.duration") == pytest.approx(expected_s, abs=0.05)
    first.get_by_role("button", name="Pause").click()
    assert seen.page.evaluate("audio.paused")


@needs_build
def test_more_like_this_replaces_the_query_and_back_returns_to_it(visit: Open) -> None:
    seen = visit()
    seen.drop()
    before = seen.hits()
    second = seen.page.locator(".hit").nth(1)
    segment = second.locator(".ids").inner_text().split()[1]
    answer = seen.find(second.get_by_role("button", name="More like this").click)
    assert answer["references"] == [segment]
    assert seen.page.url.endswith(f"?ref={segment}")
    assert seen.page.locator("#reference").input_value() == segment
    seen.page.locator("#stored").get_by_text(f"More like {before[1]}").wait_for()
    assert segment not in " ".join(seen.page.locator(".ids").all_inner_texts()[1:]).split()

    seen.page.go_back()
    seen.page.locator("#clip").get_by_text("angry.ogg").wait_for()
    assert seen.hits() == before
    assert seen.page.url == seen.address
    seen.page.go_forward()
    seen.page.wait_for_url(f"**/?ref={segment}")
    assert seen.hits() == [hit["name"] for hit in answer["hits"]]


@needs_build
def test_a_clip_survives_a_reload(visit: Open) -> None:
    seen = visit()
    seen.upload()
    before = seen.hits()
    answer = seen.find(seen.page.reload, "query/upload")
    assert seen.hits() == before == [hit["name"] for hit in answer["hits"]]
    seen.page.locator("#clip").get_by_text("angry.ogg").wait_for()


@needs_build
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("seg:99999", "Nothing is stored under seg:99999. It may have been removed."),
        ("I am angry", "“I am angry” is no id, emotion or label here."),
        ("emotion:angri", "“angri” is no id, emotion or label here."),
        ("label:nobody's", "“nobody's” is no id, emotion or label here."),
    ],
)
def test_a_reference_that_is_none_is_said_beside_its_field(visit: Open, typed: str, said: str) -> None:
    seen = visit()
    seen.expected.append("Failed to load resource")
    field = seen.page.locator("#reference")
    field.fill(typed)
    field.press("Enter")
    beside = seen.page.locator("#reference-error")
    beside.get_by_text(said).wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    seen.find(lambda: (field.fill("angry"), field.press("Enter")))
    assert beside.inner_text() == ""


@needs_build
@pytest.mark.parametrize(
    ("content", "said"),
    [("no audio " * 20, "This file is no audio, or of a kind that cannot be decoded."), ("", "This file is empty.")],
)
def test_a_file_that_is_no_clip_is_refused_in_the_pages_words(
    visit: Open, tmp_path: Path, content: str, said: str
) -> None:
    seen = visit()
    seen.expected.append("Failed to load resource")
    (tmp_path / "clip.wav").write_text(content)
    seen.page.set_input_files("#file", tmp_path / "clip.wav")
    seen.page.get_by_role("alert").get_by_text(said).wait_for()


@needs_build
def test_an_address_that_names_no_call_says_so(visit: Open) -> None:
    for typed in ("calls/100%", "calls/refund"):
        seen = visit(typed)
        seen.page.get_by_role("alert").get_by_text("This is not stored here.").wait_for()


@needs_build
def test_what_is_asked_before_the_page_knows_the_collection_is_answered(visit: Open) -> None:
    seen = visit()
    held: list[Any] = []
    seen.page.route("**/status", lambda route: held.append(route))
    with seen.page.expect_request("**/status"):
        seen.page.reload()
    field = seen.page.locator("#reference")
    field.fill("emotion:angry")
    field.press("Enter")
    seen.page.wait_for_url("**/?ref=emotion:angry")
    assert seen.find(lambda: held[0].continue_())["hits"]


@needs_build
def test_filters_are_seen_and_a_bad_one_is_explained(visit: Open) -> None:
    seen = visit("?ref=emotion:angry")
    seen.page.locator(".hit").first.wait_for()
    answer = seen.find(lambda: seen.field("emotion").select_option("angry"))
    assert answer["where"] == 'emotion = "angry"'
    assert f"searched {answer['searched']} of {answer['total']} segments where {answer['where']}" in seen.line()
    assert answer["searched"] < answer["total"]
    seen.field("meta.queue").fill("billing")
    answer = seen.find(lambda: seen.field("meta.queue").press("Enter"))
    assert {hit["metadata"]["queue"] for hit in answer["hits"]} == {"billing"}
    assert 'where emotion = "angry" and queue = "billing"' in seen.line()
    seen.field("text").fill("money")
    answer = seen.find(lambda: seen.field("text").press("Enter"))
    assert seen.hits() == ["refund-shouting"]
    assert "saying “money”" in seen.line()
    assert "money" in seen.page.locator(".hit .text").inner_text()

    seen.expected.append("status of 400")
    seen.page.get_by_text("Advanced").click()
    seen.field("where").fill("colour = 3")
    refused = seen.find(seen.page.get_by_role("button", name="Find").click)
    beside = seen.page.locator("#where-error")
    beside.get_by_text("colour").wait_for()
    assert refused["error"]["reason"] == "bad-filter"
    assert beside.inner_text().startswith("This filter cannot be read: ")
    assert "--where" not in beside.inner_text()  # that is the command line's
    assert seen.field("where").get_attribute("aria-invalid") == "true"
    assert seen.hits() == []

    answer = seen.find(seen.page.get_by_role("button", name="Clear all filters").click)
    assert answer["where"] is None
    assert beside.inner_text() == ""
    seen.field("call").fill("no such call")
    seen.find(lambda: seen.field("call").press("Enter"))
    assert seen.page.get_by_text("No segment passes these filters.").is_visible()


@needs_build
def test_calls_that_get_worse_are_asked_for(visit: Open) -> None:
    seen = visit()
    seen.find(lambda: seen.page.goto(f"{seen.address}?ref=seg:5"))
    answer = seen.find(lambda: seen.field("course").select_option("worsening"))
    assert answer["where"] == 'course = "worsening"'
    assert seen.page.url.endswith("?ref=seg:5&course=worsening")
    seen.page.goto(f"{seen.address}calls?course=improving")
    chosen = seen.page.locator(".filters select[name=course]")
    chosen.wait_for()
    assert (chosen.input_value(), chosen.locator("option").count()) == ("improving", 5)


@needs_build
def test_each_hit_says_what_its_score_is_worth(visit: Open) -> None:
    seen = visit()
    hits = seen.find(lambda: seen.page.goto(f"{seen.address}?ref=seg:5"))["hits"]
    said = seen.page.locator(".hit .rare").all_inner_texts()
    assert said == [f"nearer than {rounded_down(hit['percentile'])}" for hit in hits]
    near = [hit["percentile"] >= 50 for hit in hits]
    assert near == sorted(near, reverse=True)
    assert 0 < sum(near) < len(hits)  # so that there is a line where likeness ends
    beyond = seen.page.locator("#hits > li", has=seen.page.locator(".beyond"))
    assert beyond.locator("h3").all_inner_texts() == [hits[sum(near)]["name"]]


@needs_build
def test_it_says_why_when_asked(visit: Open) -> None:
    seen = visit()
    seen.page.goto(f"{seen.address}?ref=call:1&ref=call:2&ref=call:3&ref=call:4&by=segment")
    seen.page.locator(".hit").first.wait_for()
    assert seen.page.locator(".why").count() == 0
    answer = seen.find(seen.page.get_by_label("say why each one is found").check)
    assert seen.page.url.endswith("?ref=call:1&ref=call:2&ref=call:3&ref=call:4&by=segment&explain=true")
    for hit, row in zip(answer["hits"][:3], seen.page.locator(".hit").all(), strict=False):
        why = row.locator(".why")
        assert why.get_attribute("aria-label") == "Why it is found"
        said = dict(zip(why.locator("dt").all_inner_texts(), why.locator("dd").all(), strict=True))
        assert said["how rare"].inner_text() == (
            f"nearer than {rounded_down(hit['percentile'])} of random pairs of segments here"
            if hit["percentile"] < 100
            else "nearer than every random pair of segments that was looked at"
        )
        if hit["why"]["shared"]:
            first = hit["why"]["shared"][0]
            there, here = (round(100 * first[name]) for name in ("reference", "segment"))
            shown = said["both feel"].locator(".line").first
            assert shown.inner_text() == f"{first['emotion']}: {there}% in the reference, {here}% here"
            assert shown.locator(".swatch").is_visible()
        best = max(hit["why"]["matches"], key=lambda match: match["cosine"])
        assert said["alike"].locator(".line").first.inner_text() == (
            f"{best['reference']} {clock(best['reference_start_s'])} like "
            f"{clock(best['start_s'])}\N{EN DASH}{clock(best['end_s'])}, {best['cosine']:.3f}"
        )
    segments = len(answer["hits"][0]["why"]["matches"])
    assert segments > 3  # of the reference, each with the one that it is like
    lines = seen.page.locator(".hit").first.locator(".why dd .line:visible", has_text=" like ")
    assert lines.count() == 3
    seen.page.locator(".hit").first.get_by_text(f"{segments - 3} more").click()
    assert lines.count() == segments

    seen.page.go_back()
    seen.until("document.querySelectorAll('.why').length === 0")
    assert not seen.page.get_by_label("say why each one is found").is_checked()


@needs_build
def test_it_says_why_of_a_clip_and_of_a_name(visit: Open) -> None:
    seen = visit("?ref=emotion:angry&explain=true", locale="zh-CN", viewport={"width": 360, "height": 740})
    seen.page.locator(".why").first.wait_for()
    first = seen.page.locator(".why").first.inner_text()
    assert re.search("比这里 [0-9.]+% 的随机片段对更接近|比抽查的所有随机片段对都更接近", first)
    assert "生气 与 00:" in first
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    answer = seen.upload()
    match = answer["hits"][0]["why"]["matches"][0]
    assert match["reference"] == "angry.ogg"
    assert f"angry.ogg {clock(match['reference_start_s'])} 与" in seen.page.locator(".why").first.inner_text()


@needs_build
def test_a_recording_from_the_microphone_is_searched_with(visit: Open) -> None:
    seen = visit()
    seen.page.get_by_role("button", name="Record", exact=True).click()
    stop = seen.page.get_by_role("button", name="Stop · 00:03")
    stop.wait_for()
    answer = seen.find(stop.click, "query/upload")
    assert len(answer["hits"]) == len(CALLS)
    seen.page.locator("#clip").get_by_text("Your recording").wait_for()
    assert seen.page.get_by_role("button", name="Record", exact=True).is_enabled()


@needs_build
def test_the_microphone_says_why_it_cannot_be_used(visit: Open) -> None:
    seen = visit()
    seen.page.add_init_script("Object.defineProperty(window, 'isSecureContext', { value: false })")
    seen.page.reload()
    button = seen.page.get_by_role("button", name="Record", exact=True)
    button.wait_for()
    assert button.is_disabled()
    assert seen.page.get_by_text("Recording needs https, or localhost.").is_visible()


@needs_build
def test_a_segment_is_labelled_and_the_label_taken_back(visit: Open) -> None:
    seen = visit("?ref=call:1&by=segment")
    row = seen.page.locator(".hit").first
    row.get_by_role("button", name="Label it").click()
    row.get_by_label("Label of this segment").fill("testing the water")
    row.get_by_role("button", name="Save").click()
    row.get_by_text("testing the water (yours)").wait_for()
    own = seen.field("label")
    own.locator("option", has_text="testing the water").wait_for(state="attached")
    answer = seen.find(lambda: own.select_option("testing the water"))
    assert [hit["label"] for hit in answer["hits"]] == ["testing the water"]
    row.get_by_role("button", name="Take back “testing the water”").click()
    row.get_by_text("testing the water").wait_for(state="detached")


@needs_build
def test_no_emotion_is_guessed_where_none_is_named(visit: Open) -> None:
    def unnamed(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        for hit, name in zip(found["hits"], ("too short", "unsure"), strict=False):
            hit |= {"emotion": name, "emotion_score": None}
        found["hits"][2] |= {"emotion": "angry", "emotion_score": 0.7}
        route.fulfill(response=answer, json=found)

    seen = visit()
    seen.page.route("**/query", unnamed)
    seen.find(seen.page.get_by_role("button", name="angry").click)
    tags = seen.page.locator(".hit .tag")
    assert tags.all_inner_texts()[:3] == ["too short to say", "unsure", "angry 70%"]
    assert [tags.nth(at).locator(".swatch").count() for at in range(3)] == [0, 0, 1]
    assert tags.nth(1).evaluate("tag => tag.classList.contains('muted')")


@needs_build
def test_context_is_heard_and_drawn_around_the_segment(visit: Open) -> None:
    seen = visit("?ref=emotion:angry&by=segment&k=50&where=start_s > 6")
    row = seen.page.locator(".hit").first
    row.locator(".wave path.inside").first.wait_for(state="attached")
    context = row.get_by_role("button", name="± 5 s")
    context.click()
    assert context.get_attribute("aria-pressed") == "true"
    row.locator('.wave .all path.context:not([d=""])').wait_for(state="attached")
    row.get_by_role("button", name="Play").click()
    seen.until("audio.currentTime > 0 && !audio.paused")
    start, end = (
        60 * int(minutes) + float(seconds)
        for minutes, seconds in re.findall(r"(\d+):([\d.]+)", row.locator(".span").inner_text())
    )
    assert end - start + 4.9 < seen.page.evaluate("audio.duration") < end - start + 10.1


@needs_build
def test_the_keyboard_alone_is_enough(visit: Open) -> None:
    seen = visit("?ref=emotion:sad")
    keyboard = seen.page.keyboard
    seen.page.locator(".hit").nth(2).wait_for()
    for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        keyboard.press(key)
        assert seen.page.locator(".hit").nth(row).get_attribute("aria-current") == "true"
    keyboard.press("Space")
    seen.until("audio.currentTime > 0 && !audio.paused")
    keyboard.press("Space")
    seen.until("audio.paused")
    segment = seen.page.locator(".hit .ids").nth(1).inner_text().split()[1]
    assert seen.find(lambda: keyboard.press("Enter"))["references"] == [segment]
    keyboard.press("?")
    assert seen.page.get_by_role("dialog").get_by_text("next, previous").is_visible()
    keyboard.press("Escape")
    keyboard.press("/")
    assert seen.page.evaluate("document.activeElement.name") == "emotion"


@needs_build
def test_the_key_is_asked_for_and_kept_in_this_tab_only(visit: Open, index: Path) -> None:
    with serving(index, api_key=KEY) as address:
        seen = visit(address=address)
        seen.expected.append("status of 401")
        dialog = seen.page.get_by_role("dialog")
        dialog.get_by_text("An API key is needed").wait_for()
        for given in ("not the key", KEY):
            dialog.get_by_label("API key").fill(given)
            dialog.get_by_role("button", name="Use it").click()
        seen.page.get_by_role("heading", name="Start from a feeling").wait_for()
        assert not dialog.is_visible()
        seen.upload()
        seen.page.locator(".hit").first.get_by_role("button", name="Play").click()
        seen.until("audio.currentTime > 0")
        stored = "[Object.values(sessionStorage), Object.values(localStorage), document.cookie]"
        assert seen.page.evaluate(stored) == [[KEY], [], ""]
        seen.page.context.close()


@needs_build
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_holds_it_all_in_chinese(visit: Open, scheme: str) -> None:
    seen = visit("?ref=emotion:angry", locale="zh-CN", color_scheme=scheme, viewport={"width": 360, "height": 740})
    seen.page.locator(".hit").first.wait_for()
    assert seen.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert "个片段中查找了" in seen.line()
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    seen.page.get_by_text("查找范围").click()
    assert seen.field("emotion").input_value() == ""
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    seen.page.get_by_role("button", name="English").click()
    assert seen.page.get_by_role("button", name="Find").is_visible()
    assert "searched" in seen.line()


@needs_build
def test_text_has_the_contrast_that_can_be_read(visit: Open) -> None:
    """WCAG 2.1 AA: 4.5 to 1 for text on what it is written on, 3 to 1 for the edges of fields."""
    pairs = {
        ("--ink", "--card"): 4.5,
        ("--ink", "--ground"): 4.5,
        ("--ink", "--sunken"): 4.5,
        ("--ink", "--accent-soft"): 4.5,
        ("--quiet", "--card"): 4.5,
        ("--quiet", "--ground"): 4.5,
        ("--quiet", "--sunken"): 4.5,
        ("--accent", "--card"): 4.5,
        ("--accent", "--accent-soft"): 4.5,
        ("--on-accent", "--accent"): 4.5,
        ("--error", "--error-soft"): 4.5,
        ("--field", "--card"): 3.0,
    }
    for scheme in ("light", "dark"):
        seen = visit(color_scheme=scheme)
        named = {name for pair in pairs for name in pair}
        colours = seen.page.evaluate(
            "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(n).trim())",
            sorted(named),
        )
        light = {name: luminance(colour) for name, colour in zip(sorted(named), colours, strict=True)}
        low = [
            (scheme, text, ground)
            for (text, ground), least in pairs.items()
            if (max(light[text], light[ground]) + 0.05) / (min(light[text], light[ground]) + 0.05) < least
        ]
        assert low == []


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.1, definition)."""
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@needs_build
def test_no_hits_lead_to_the_value_that_was_meant_and_hits_are_saved(visit: Open) -> None:
    seen = visit("?ref=emotion:angry&by=segment&where=queue+%3D+biling")
    seen.page.get_by_text("No queue is called “biling”.").wait_for()
    answer = seen.find(seen.page.get_by_role("link", name="Use “billing”").click)
    assert {hit["metadata"]["queue"] for hit in answer["hits"]} == {"billing"}
    with seen.page.expect_download() as saved:
        seen.page.get_by_role("button", name="Save as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert [(row["segment"], float(row["score"]), row["meta.queue"]) for row in rows] == [
        (hit["segment"], hit["score"], "billing") for hit in answer["hits"]
    ]
