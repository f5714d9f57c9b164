"""How the page's Map view fares with 100,000 points: size of the answer, time until it can be used, and a lasso.

    python benchmarks/map_view.py

A made collection with a stored map is served, and Debian's Chromium opens it with WebGL by the CPU, as on a machine
without a graphics card. A map can be used once all points are on the canvas, the clusters are listed, and a frame was
drawn after that. Each figure is the median of several.
"""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from _made_map import fill
from _table import Row, parser, show
from serve import serving

POINTS = 100_000
LASSO = 10_000
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-sync")
WEBGL = "canvas[data-renderer=webgl]"

# from the navigation on: what the reader waits for
_OPENED = """async () => {
    while (!document.querySelector(".view.map[data-ready=yes]")) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return performance.now();
}"""

# from the last corner of the line until the list of what is inside is there and drawn
_ENCLOSED = """async (corners) => {
    const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
    const send = (name, [x, y], buttons) => canvas.dispatchEvent(new PointerEvent(name, {
        bubbles: true, pointerId: 1, button: 0, buttons,
        clientX: box.x + x * box.width, clientY: box.y + y * box.height }));
    canvas.setPointerCapture = () => undefined;
    send("pointerdown", corners[0], 1);
    for (const corner of corners) send("pointermove", corner, 1);
    await new Promise(requestAnimationFrame);
    const start = performance.now();
    send("pointerup", corners.at(-1), 0);
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return [performance.now() - start, Number(document.querySelector("[data-selected]")?.dataset.selected ?? 0)];
}"""


def main() -> None:
    """Measure, and print the table."""
    arguments = parser(__doc__).parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        print("playwright is not installed")
        sys.exit(77)
    if chromium is None:
        print("no chromium is installed")
        sys.exit(77)
    times = 3 if arguments.quick else 7
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        fill(index, POINTS)
        with serving(index, Path(folder) / "log") as service:
            rows = _answers(service.address, times)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
                rows += _views(browser, service.address, times)
                browser.close()
    show(f"the Map view with {POINTS:,} points", rows, arguments.json)


def _answers(address: str, times: int) -> list[Row]:
    rows = []
    for name, path in (("points, packed", "map/map/columns"), ("points, JSON", "map/map/points")):
        seconds, size = [], 0
        for _ in range(times):
            start = time.perf_counter()
            size = len(httpx.get(f"{address.rstrip('/')}/{path}", timeout=60).raise_for_status().content)
            seconds.append(time.perf_counter() - start)
        rows += [Row(f"{name}: size", size / 1e6, "MB"), Row(f"{name}: time", statistics.median(seconds), "s")]
    return rows


def _views(browser: Any, address: str, times: int) -> list[Row]:
    opened, enclosed, found = [], [], 0
    for _ in range(times):
        page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
        page.goto(f"{address.rstrip('/')}/view/map", wait_until="commit")
        opened.append(page.evaluate(_OPENED) / 1000)
        if page.locator(WEBGL).count() == 0:
            raise SystemExit("this Chromium has no WebGL, not even by the CPU")
        page.evaluate("document.querySelector('[name=tool][value=lasso]').click()")
        milliseconds = 0.0
        for share in (0.1, 0.12, 0.14, 0.17, 0.2, 0.24, 0.3):  # of the canvas, until enough are inside
            milliseconds, found = page.evaluate(_ENCLOSED, _circle(share))
            if found >= LASSO:
                break
        enclosed.append(milliseconds / 1000)
        page.context.close()
    return [
        Row("opening, until it can be used", statistics.median(opened), "s"),
        Row("lasso, until its list is there", statistics.median(enclosed), "s"),
        Row("points in the lasso", found),
    ]


def _circle(share: float) -> list[list[float]]:
    """Return the corners of a line around the middle of the canvas, in shares of it."""
    angles = [2 * math.pi * at / 120 for at in range(120)]
    return [[0.5 + share * math.cos(angle), 0.5 + share * math.sin(angle)] for angle in angles]


if __name__ == "__main__":
    main()
