"""Pictures of the page for the documents: each view over the sample calls, in docs/images.

    make screenshots

Needs the extras serve, map and labels, the page (`make page`), playwright (dependency group test) and a Chromium; exits
with 77, having said so, where one of them is missing. Chromium draws the map in software, as everywhere without a GPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CANNOT = 77
REPOSITORY = Path(__file__).resolve().parent.parent
IMAGES = Path(__file__).resolve().parent / "images"
SAMPLES = REPOSITORY / "samples"
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
VIEWS = {
    "find": "/?ref=seg:12&k=5",
    "calls": "/calls",
    "call": "/calls/call:8",
    "map": "/view/map",
    "trends": "/view/trends?by=day&group=queue",
    "labels": "/view/labels",
}
LOOKS: dict[str, dict[str, Any]] = {
    "": {"viewport": WIDE, "color_scheme": "light"},
    "-dark": {"viewport": WIDE, "color_scheme": "dark"},
    "-phone": {"viewport": PHONE, "color_scheme": "light", "is_mobile": True, "has_touch": True},
    "-zh": {"viewport": WIDE, "color_scheme": "light", "locale": "zh-CN"},
}


def e2vsearch(*words: str, folder: Path) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "e2vsearch", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def fill(folder: Path) -> None:
    """Make a collection of the samples, with words, labels, a classifier and a map."""
    calls = ("--meta", str(SAMPLES / "calls.csv"), "--transcripts", str(SAMPLES / "transcripts"))
    e2vsearch("ingest", str(SAMPLES / "calls"), "--encoder", "light", *calls, folder=folder)
    e2vsearch("label", "--csv", str(SAMPLES / "labels.csv"), folder=folder)
    e2vsearch("train", folder=folder)
    e2vsearch("classify", folder=folder)
    e2vsearch("map", "--min-cluster-size", "4", "-o", "board.parquet", folder=folder)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve that collection on a free port of loopback; gives its address."""
    command = (sys.executable, "-m", "e2vsearch", "serve", "--port", "0")
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if "http://" in line)
            yield re.findall(r"http://127\.0\.0\.1:\d+", said)[0]
        finally:
            process.terminate()
            process.communicate(timeout=60)


def main() -> None:
    """Take every picture; with names of views, of those alone."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("pictures need playwright and a Chromium: pip install --group test, apt-get install chromium")
        sys.exit(CANNOT)
    wanted = sys.argv[1:] or list(VIEWS)
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        fill(Path(folder))
        with serving(Path(folder)) as address:
            flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            for look, options in LOOKS.items():
                context = browser.new_context(**options, reduced_motion="reduce")
                page = context.new_page()
                for view in wanted:
                    page.goto(address + VIEWS[view])
                    page.wait_for_load_state("networkidle")
                    page.screenshot(path=IMAGES / f"{view}{look}.png")
                    print(f"docs/images/{view}{look}.png")
                context.close()
            browser.close()


if __name__ == "__main__":
    main()
