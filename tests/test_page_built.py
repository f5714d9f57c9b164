"""The page at ``/`` as it was built: small, licensed, in two languages, with nothing inline or from elsewhere."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

from opened_page import BUILT, REPOSITORY, SOURCES, needs_build


@needs_build
def test_the_built_page_needs_nothing_inline_and_nothing_from_elsewhere() -> None:
    page = (BUILT / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) == []
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert [link for link in linked if not link.startswith(("./", "#"))] == []
    answered = {"./responsible-use"}  # by a route of the service
    assert all((BUILT / link).is_file() for link in linked if link.startswith("./") and link not in answered)
    styles = "".join(path.read_text(encoding="utf-8") for path in BUILT.rglob("*.css"))
    assert re.findall(r"url\((?!#)|@import", styles) == []


@needs_build
def test_the_built_page_is_small() -> None:
    def zipped(suffix: str) -> int:
        return sum(len(gzip.compress(path.read_bytes())) for path in BUILT.rglob(f"*{suffix}"))

    assert 10_000 < zipped(".js") < 100_000
    assert zipped(".css") < 20_000


@needs_build
def test_what_is_bundled_is_licensed_and_named() -> None:
    licences = (BUILT / "third-party-licences.md").read_text(encoding="utf-8")
    packages = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))["dependencies"]
    notice = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
    bundled = re.findall(r"^## (\S+) - (\S+) \((\S+)\)$", licences, re.MULTILINE)
    assert {name: version for name, version, _ in bundled} == packages
    assert {licence for _, _, licence in bundled} <= {"MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Apache-2.0"}
    assert all(name in notice for name in packages)


def test_the_lock_names_no_registry() -> None:
    locked = json.loads((SOURCES / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, package in locked.items() if "resolved" in package] == []
    assert all(package["integrity"] for name, package in locked.items() if name)


def words_of(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """English and Chinese of one file of words."""
    text = path.read_text(encoding="utf-8")
    parts = (text[text.index(start) :].split("\n};")[0] for start in ("const en = {", "const zh: "))
    english, chinese = (dict(re.findall(r'^  "?([\w. ]+)"?:\s+"(.*)",$', part, re.MULTILINE)) for part in parts)
    return english, chinese


def test_both_languages_say_the_same_things() -> None:
    files = sorted((SOURCES / "src").rglob("words.ts"))
    assert [path.parent.name for path in files] == ["calls", "find", "labels", "map", "trends", "src"]
    known: dict[str, Path] = {}
    for path in files:
        english, chinese = words_of(path)
        assert english.keys() == chinese.keys()
        assert [
            word
            for word in english
            if set(re.findall(r"{(\w+)", english[word])) != set(re.findall(r"{(\w+)", chinese[word]))
        ] == []
        assert {word: known[word] for word in english.keys() & known.keys()} == {}  # each word is in one file
        known |= dict.fromkeys(english, path)
    assert len(known) > 50
    markup = (SOURCES / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'data-t(?:-\w+)?="([^"]+)"', markup)) <= known.keys()
