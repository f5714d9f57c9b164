"""The documentation's site: it builds without a warning, and its generated references name all that there is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import e2vsearch
from e2vsearch.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once: ten seconds."""
    for package in ("sphinx", "furo", "myst_parser", "fastapi", "sklearn", "umap"):
        pytest.importorskip(package, reason="the site needs the dependency group docs, and all extras to describe them")
    out = tmp_path_factory.mktemp("site") / "docs"
    script = str(DOCS / "build_site.py")
    done = subprocess.run([sys.executable, script, "--out", str(out)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


class _Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.anchors.add(value)
            elif value and name in {"href", "src"}:
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Links of all pages that lead to no file of the site, or to no place in it."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchored = not parts.fragment or there not in pages or unquote(parts.fragment) in pages[there].anchors
            if not there.is_file() or not anchored:
                broken.append(f"{path.name}: {link}")
    return broken


@pytest.mark.slow
def test_the_site_builds(site: Path) -> None:
    """Each page of the manual has its place in a table of contents: one that has none is a warning, and an error."""
    for path in DOCS.rglob("*.md"):
        assert (site / path.relative_to(DOCS)).with_suffix(".html").is_file(), path
    for document in ("responsible-use", "security", "contributing", "changelog"):
        assert (site / "project" / f"{document}.html").is_file()
    assert (site / "search.html").is_file()


@pytest.mark.slow
def test_every_link_leads_somewhere(site: Path) -> None:
    assert broken_links(site) == []


def test_a_broken_link_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="top"><a href="b.html#there"></a><a href="#top"></a><a href="c.html"></a>')
    (tmp_path / "b.html").write_text('<h1 id="here">')
    assert broken_links(tmp_path) == ["a.html: b.html#there", "a.html: c.html"]


@pytest.mark.slow
def test_a_warning_is_an_error(tmp_path: Path) -> None:
    """A page with a link to none fails Sphinx, as the site is built."""
    pytest.importorskip("myst_parser", reason="the dependency group docs is not installed")
    shutil.copyfile(DOCS / "conf.py", tmp_path / "conf.py")
    (tmp_path / "_static").mkdir()
    (tmp_path / "index.md").write_text("# One\n\n[gone](nowhere.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "dummy", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """Fonts, scripts and styles are the site's own: it can be read on a machine without a network."""
    for path in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(https?://[^\"]+)", path.read_text(encoding="utf-8")
        )
        assert loaded == [], path


@pytest.mark.slow
def test_every_public_name_is_described(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    described = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines() if " py:" in line}
    names = {f"e2vsearch.{name}" for name in e2vsearch.__all__}
    assert {name for name in names if not {name, name.replace(".", ".errors.")} & described} == set()
    assert "e2vsearch.Collection.query" in described


def commands_of(command: object, path: str) -> list[str]:
    below = getattr(command, "commands", {})
    return [path, *(each for name in below for each in commands_of(below[name], f"{path} {name}"))]


@pytest.mark.slow
def test_every_command_route_and_table_is_described(site: Path) -> None:
    import typer

    import e2vsearch.catalog.beside  # noqa: F401 - it declares two tables that a query does without
    from e2vsearch.catalog.schema import Base
    from e2vsearch.cli import app

    def headings(name: str) -> set[str]:
        text = (site / "_sources" / "reference" / f"{name}.md.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^#{2,4} (.+)$", text, re.MULTILINE))

    assert headings("cli") == set(commands_of(typer.main.get_command(app), "e2vsearch")[1:])
    assert headings("sql") == set(Base.metadata.tables)
    assert {"POST /query", "GET /recordings/{id}/timeline", "GET /healthz", "Hit"} <= headings("http")


def test_every_setting_is_described() -> None:
    """Each has a row with its variable, as has every other variable that the package reads."""
    described = set(
        re.findall(r"`(E2VSEARCH_[A-Z_]+)`", (DOCS / "reference" / "settings.md").read_text(encoding="utf-8"))
    )
    code = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "e2vsearch").rglob("*.py"))
    read = set(re.findall(r"\bE2VSEARCH_[A-Z_]*[A-Z]\b", code)) | {
        f"E2VSEARCH_{each.name.upper()}" for each in fields(Settings)
    }
    assert described == read


@pytest.mark.slow
def test_language_models_have_a_list_of_pages(site: Path) -> None:
    """llms.txt has a title, a summary and links to the Markdown of every page of the manual."""
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# e2vsearch\n\n> \w.*\n\n## ", text)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (site / link).is_file()] == []
    listed = {link.removeprefix("_sources/").removesuffix(".txt") for link in links}
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.name != "index.md"}
    assert pages - listed == set()
