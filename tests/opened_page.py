"""The page at ``/`` as tests open it: a service over a few calls, and one visit in a browser."""

from __future__ import annotations

import atexit
import base64
import json
import math
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "page"
BUILT = REPOSITORY / "e2vsearch" / "server" / "static"
SAMPLES = REPOSITORY / "samples"
CLIP = SAMPLES / "angry.ogg"
CALLS = ("billing-calm", "bereavement-sad", "booking-cheerful", "cancel-angry", "outage-angry", "refund-shouting")
SAID = "I want my money back today"
KEY = "a key of thirty-two characters..."
TIMEOUT_MS = 15_000
LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
    "chinese": {"locale": "zh-CN"},
}
"""How a browser shows the page: by these options of its context."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",  # refuses to run as root otherwise, as in a container
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL by the CPU
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)

AXE = SOURCES / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: cd page && npm ci")
needs_build = pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the page is not built: make page")


@contextmanager
def serving(index: Path, **options: Any) -> Iterator[str]:
    """The service over that collection, on a free loopback port; gives its address."""
    import uvicorn

    import e2vsearch
    from e2vsearch.server import create_app
    from e2vsearch.server.options import ServiceOptions

    ready = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

    with socket.socket() as listener, e2vsearch.open(index, create=False) as collection:
        listener.bind(("127.0.0.1", 0))
        app = create_app(collection, ServiceOptions(**options))
        server = Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def make_index(folder: Path) -> Path:
    """A small collection of synthetic calls, one of them with a transcript: a copy, for it takes 3 s to make."""
    return Path(shutil.copytree(_made_index(), folder / "index"))


@cache
def _made_index() -> Path:
    """That collection, made once in a process and removed at its end."""
    import e2vsearch

    folder = Path(tempfile.mkdtemp(prefix="e2vsearch-page-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    transcripts = folder / "transcripts"
    transcripts.mkdir()
    times = ("00:00:04,900 --> 00:00:07,600", "00:00:12,400 --> 00:00:18,500")  # of her two segments
    cues = "".join(f"{number}\n{each}\n{SAID}\n\n" for number, each in enumerate(times, start=1))
    (transcripts / "refund-shouting.srt").write_text(cues, encoding="utf-8")
    calls = [path for path in (SAMPLES / "calls").iterdir() if path.stem in CALLS]
    with e2vsearch.open(folder / "index", encoder="light", create=True) as collection:
        report = collection.ingest(*calls, meta=SAMPLES / "calls.csv", transcripts=transcripts)
    assert (report.stored, report.transcripts, report.failures) == (len(CALLS), 1, ())
    return folder / "index"


def make_voice(folder: Path) -> Path:
    """What the browser's microphone hears."""
    import e2vsearch.audio

    path = folder / "voice.wav"
    e2vsearch.audio.write(path, e2vsearch.audio.read(CLIP))
    return path


@contextmanager
def listening_browser(voice: Path) -> Iterator[Any]:
    """Debian's Chromium, that recording as its microphone; skips, with the reason, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*ARGUMENTS, f"--use-file-for-fake-audio-capture={voice}"]
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """One open page, and what went wrong in it."""

    page: Any
    address: str
    expected: list[str] = field(default_factory=list)  # parts of console errors that the test brings about
    errors: list[str] = field(default_factory=list)

    def hits(self) -> list[str]:
        """The calls' names, best first."""
        names: list[str] = self.page.locator(".hit h3").all_inner_texts()
        return names

    def line(self) -> str:
        """What the page says was searched."""
        said: str = self.page.locator("#said").inner_text()
        return said

    def field(self, name: str) -> Any:
        """A field of the form, which must be seen under a label."""
        found = self.page.locator(f"#search label:visible [name='{name}']")
        found.wait_for()
        return found

    def until(self, condition: str) -> None:
        """Waits for a JavaScript expression to hold; Playwright's own way needs the eval that the policy forbids."""
        held = self.page.evaluate(
            f"""async () => {{
                const end = performance.now() + {TIMEOUT_MS};
                while (!({condition}) && performance.now() < end) await new Promise(requestAnimationFrame);
                return Boolean({condition});
            }}"""
        )
        assert held, condition

    def find(self, act: Callable[[], Any], route: str = "query") -> dict[str, Any]:
        """Does something that searches; gives the answer, once it is shown."""
        with self.page.expect_response(lambda response: urlsplit(response.url).path == f"/{route}") as answered:
            act()
        answer: dict[str, Any] = answered.value.json()
        if answered.value.ok:
            shown = [f"{hit['recording']} {hit['segment']}" for hit in answer["hits"]]
            ids = "JSON.stringify([...document.querySelectorAll('.hit .ids')].map(each => each.textContent))"
            self.until(f"{ids} === {json.dumps(json.dumps(shown, separators=(',', ':')))}")
        return answer

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 AA and its own good practice, each with where it is."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        self.until(  # half faded in, a text has half its contrast
            "document.getAnimations().every(each => each.effect.getComputedTiming().iterations === Infinity)"
        )
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [
            f"{each['id']}: {node['html'][:120]} {node['failureSummary'][:160]}"
            for each in found
            for node in each["nodes"]
        ]

    def upload(self) -> dict[str, Any]:
        """Searches with the sample clip."""
        return self.find(lambda: self.page.set_input_files("#file", CLIP), "query/upload")

    def drop(self) -> dict[str, Any]:
        """Drops the sample clip somewhere on the page."""
        dropped = """data => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(data), each => each.charCodeAt(0))], "angry.ogg"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
        }"""
        clip = base64.b64encode(CLIP.read_bytes()).decode()
        return self.find(lambda: self.page.evaluate(dropped, clip), "query/upload")


Open = Callable[..., Visit]


def asked(seen: Visit, path: str, body: Any = None) -> Any:
    """The answer of the service to a request that is not the page's."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(seen.address + path, data, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


def heard(seen: Visit) -> float:
    """The loudest sample that comes out of the page's audio element, which must be playing."""
    loudest: float = seen.page.evaluate(
        """async () => {
            const context = new AudioContext();
            const analyser = context.createAnalyser();
            context.createMediaElementSource(audio).connect(analyser).connect(context.destination);
            await context.resume();
            const samples = new Float32Array(analyser.fftSize);
            for (let frames = 0; frames < 120; frames++) {
                await new Promise(requestAnimationFrame);
                analyser.getFloatTimeDomainData(samples);
                const loudest = Math.max(...samples.map(Math.abs));
                if (loudest > 0.01) return loudest;
            }
            return 0;
        }"""
    )
    return loudest


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 10), 600)
    return f"{minutes:02d}:{rest / 10:04.1f}"


def rounded_down(percentile: float) -> str:
    return f"{math.floor(percentile * 10) / 10:.1f}%"
