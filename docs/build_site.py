"""The documentation as a site: the manual, the documents in the repository's root, and generated references.

    make docs

Pages are copied to a folder of their own, where each link to a file of the repository becomes one to its page, or to
the file itself; references are generated beside them; Sphinx builds the whole (docs/conf.py). A warning is an error,
and a link that leads nowhere is a warning. `llms.txt` lists the pages for language models, each as Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Set
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from references import REFERENCES

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
DOCUMENTS = {
    "README.md": "index.md",
    "README.zh.md": "project/readme-zh.md",
    "RESPONSIBLE-USE.md": "project/responsible-use.md",
    "SECURITY.md": "project/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "training/README.md": "project/training.md",
    "samples/README.md": "project/samples.md",
    "examples/README.md": "project/examples.md",
    "index/README.md": "project/collection-folder.md",
}
"""Documents that lie outside docs/, and their pages. The README is the site's front page."""

FRONT = "docs/index.md"
"""The manual's front page in the repository: on the site its table of contents goes below the README."""

_LINK = re.compile(r"\[(?P<words>[^\[\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_CODE = re.compile(r"^(```.*?^```\n)", re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """Return each document, by its path in the repository, with the place of its page."""
    ours = (path.relative_to(REPOSITORY).as_posix() for path in sorted(DOCS.rglob("*.md")))
    found = {path: path.removeprefix("docs/") for path in ours}
    return found | {path: page for path, page in DOCUMENTS.items() if (REPOSITORY / path).is_file()}


def relinked(text: str, path: str, page: str, places: Mapping[str, str], folder: Path) -> str:
    """Return a document with its links as they are on its page; files that are no pages are copied beside them.

    A link that is written as a file's name gets the title of its page.
    """
    before = {Path(each).name: each for each in places} if path == "CHANGELOG.md" else {}

    def linked(found: re.Match[str]) -> str:
        words, target = found["words"], found["target"]
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        wanted = os.path.normpath(PurePosixPath(path).parent / target)
        wanted = before.get(Path(wanted).name, wanted)  # history names pages by where they were
        source = REPOSITORY / wanted
        if wanted in places:
            there = places[wanted]
            if words in {Path(wanted).name, wanted} and source.is_file():
                words = title(source.read_text(encoding="utf-8"))
        elif source.is_file():
            there = wanted.removeprefix("docs/") if wanted.startswith("docs/") else f"files/{wanted}"
            (folder / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / there)
        else:
            return found[0]  # it leads nowhere, of which Sphinx warns
        return f"[{words}]({os.path.relpath(there, PurePosixPath(page).parent)}{found['anchor'] or ''})"

    parts = _CODE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(linked, part) for part in parts)


def with_contents(text: str, page: str, places: Set[str]) -> str:
    """Return a page whose table of contents names what there is, in place of patterns: some pages are still to come."""
    named: list[str] = []

    def entries(pattern: str) -> list[str]:
        wanted = str(PurePosixPath(page).parent / f"{pattern}.md")
        found = [
            each
            for each in sorted(places - {page, *named})
            if fnmatch(each, wanted) and each.count("/") == wanted.count("/")
        ]
        named.extend(found)
        return [os.path.relpath(each, PurePosixPath(page).parent).removesuffix(".md") for each in found]

    def expanded(found: re.Match[str]) -> str:
        lines = found[0].splitlines()
        return "\n".join(
            new for line in lines for new in (entries(line) if re.fullmatch(r"[\w*/-]+", line) else [line])
        )

    return re.sub(r"^```{toctree}\n.*?^```", expanded, text, flags=re.MULTILINE | re.DOTALL)


def stage(folder: Path) -> None:
    """Write what Sphinx reads: pages with their links, pictures, generated references."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS / "images", folder / "images")
    places = pages()
    texts = {path: (REPOSITORY / path).read_text(encoding="utf-8") for path in places}
    texts["README.md"] += "\n" + "".join(_CODE.findall(texts.pop(FRONT)))
    for page, write in REFERENCES.items():
        texts[f"docs/{page}"] = write()
        places[f"docs/{page}"] = page
    for path, text in texts.items():
        page = places[path]
        (folder / page).parent.mkdir(parents=True, exist_ok=True)
        there = with_contents(relinked(text, path, page, places, folder), page, set(places.values()))
        (folder / page).write_text(there, encoding="utf-8")
    shutil.copyfile(DOCS / "conf.py", folder / "conf.py")
    shutil.copytree(DOCS / "_static", folder / "_static")


def title(text: str) -> str:
    """Return the heading of a page."""
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    assert found, "a page has a heading"
    return found[1].replace("`", "")


def opening(text: str) -> str:
    """Return the first sentence of a page's first paragraph, as plain text."""
    body = _CODE.sub("", text)
    paragraphs = [each for each in re.split(r"\n\s*\n", body) if re.match(r"[\w`*]", each) and "·" not in each[:30]]
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", lambda found: found[1] or "", " ".join(paragraphs[:1]))
    return re.split(r"(?<=[.:?])\s", " ".join(plain.split()))[0].rstrip(":")


def llms(sources: Path) -> str:
    """Return the list of pages for language models (llmstxt.org), each as its Markdown."""
    front = (sources / "index.md").read_text(encoding="utf-8")
    lines = [f"# {title(front)}", "", f"> {opening(front)}", ""]
    rooms = {"Tutorial and how-to": ("", "howto"), "Reference": ("reference",), "Explanation": ("explanation",)}
    for heading, folders in rooms.items():
        lines += [f"## {heading}", ""]
        found = (each for each in sorted(sources.rglob("*.md")) if each.name != "index.md")
        for page in found:
            place = page.relative_to(sources)
            if (place.parts[0] if len(place.parts) > 1 else "") in folders:
                text = page.read_text(encoding="utf-8")
                lines.append(f"- [{title(text)}](_sources/{place.as_posix()}.txt): {opening(text)}".rstrip(": "))
        lines.append("")
    lines += ["## Optional", ""]
    project = {page: path for path, page in DOCUMENTS.items() if page.startswith("project/")}
    lines += [f"- [{path}](_sources/{page}.txt)" for page, path in project.items() if (sources / page).is_file()]
    return "\n".join(lines) + "\n"


def build(out: Path) -> int:
    """Build the site in a folder; return Sphinx's exit code."""
    sources = out.with_name(f"{out.name}-sources")
    stage(sources)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(sources), str(out)], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False
    )
    if done.returncode == 0:
        (out / "llms.txt").write_text(llms(sources), encoding="utf-8")
        print(f"{out / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the documentation's site.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "docs", help="its folder")
    sys.exit(build(parser.parse_args().out.resolve()))
