"""What the README and the manual show runs as they show it: commands, Python, and docstring examples."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import Run
from shown import Document, Shown, Tolerances, commands, scripts

from e2vsearch.errors import MissingExtra

REPOSITORY = Path(__file__).resolve().parent.parent
README, CHINESE = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))

EXAMPLES = 13
"""So many examples in docstrings run, all extras installed: one that is skipped is read by people and by no test."""

RUN_ELSEWHERE = {
    "howto/scale.md": "needs Postgres and a bucket: tests/sources/test_sources_scale.py",
    "howto/rag.md": "its Python needs four frameworks: tests/test_examples.py",
    "howto/client.md": "asks a service: tests/test_docs_howto.py",
    "howto/embeddings-api.md": "asks a service: tests/test_docs_howto.py",
    "howto/telemetry.md": "sets a provider of traces for good: tests/test_docs_howto.py",
    "tutorial.md": "begins with nothing, and goes on through one collection: tests/test_tutorial.py",
}
"""Pages that other tests run, and why not here."""

NOT_RUN = {
    "e2vsearch serve": "runs until it is stopped: test_what_is_served_is_as_shown asks it what serve.md asks",
    "curl ": "test_what_is_served_is_as_shown",
    "e2vsearch evaluate labels.csv": "labels.csv is the reader's: tests/test_cli_evaluating.py",
    "e2vsearch mcp": "runs until it is stopped: tests/test_examples.py starts it",
    "make ": "makes environments of its own: tests/test_house.py knows the targets",
    "pip ": "installs packages",
    "uvx ": "installs packages",
    "docker ": "needs a container engine: deploy/build.py and deploy/compose.py run what it would run",
}
"""What begins like this is shown and not typed here, and why. What is no ``console`` block is nowhere typed: it names
hosts, buckets or clusters that there are not."""

# int8 kernels with VNNI and those without give vectors that differ in the third digit. UMAP then lays a map out
# otherwise: some of the samples' 28 segments at a cluster's edge change sides, another segment is nearest to its
# middle, and the calmer cluster is "neutral" or "mixed". And a classifier of five examples a label is unsure of other
# segments.
TOLERANCES = {
    "e2vsearch map ": Tolerances(percent=12, count=3),
    "e2vsearch label suggest ": Tolerances(),
}
LOOSE = {
    "e2vsearch map ": (
        (r"seg:\d+ +\S+ +\d\d:\d\d\.\d$", "a segment"),
        (r"^(\d +)(neutral|mixed) ", r"\1calmer "),
        (r"^ +\w+ \d+% \(.*$", "  emotions"),
        (r"over time [▁-█]+", "over time"),
    ),
    "e2vsearch label suggest ": (
        (r"^seg:\d+ .*$", "a segment"),
        (r"undecided: .*$", "undecided"),
        (r"^ +(?!undecided).*$", "  its words"),
    ),
}
"""What of an output differs from processor to processor, and what is compared in its place."""


MADE = {
    "howto/find.md": ("hits.csv", "angry.wav"),
    "howto/embed.md": ("vectors/cancel-angry.npy", "vectors/cancel-angry.json"),
    "howto/maps.md": ("board.html", "board.png", "board.parquet"),
    "howto/trends.md": ("trends.csv", "trends.png"),
    "howto/operate.md": ("copies/catalog.db", "restored/catalog.db"),
}
"""Files that the commands of a page write."""


@dataclass(frozen=True)
class Newcomer:
    """Somebody in a folder with the samples and nothing else, who has typed the first command of the README."""

    folder: Path
    printed: str  # by that command


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    return Newcomer(folder, spawned(f"{typed(README)[0].code} -f table", folder))


@pytest.fixture
def copied(newcomer: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is also the current one: every page begins where the README's first command ends."""
    shutil.copytree(newcomer.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(text: str) -> list[Shown]:
    """The commands that a document shows and that are typed here."""
    return [each for each in commands(text) if not each.code.startswith(tuple(NOT_RUN))]


def spawned(code: str, folder: Path) -> str:
    """Type a command in that folder, in a process of its own."""
    line = re.sub(r"^e2vsearch ", lambda _: f"{shlex.quote(sys.executable)} -m e2vsearch ", code)
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{code}: {done.stderr}"
    return done.stdout


def typed_here(each: Shown, run: Run) -> str:
    """The same in this process, which has imported everything; where a document shows what is printed, a table."""
    first, piped, code = each.code.rpartition(" | ")
    given = subprocess.run(shlex.split(first), capture_output=True, text=True, check=True).stdout if piped else ""
    words = shlex.split(code, comments=True)
    assert words[0] == "e2vsearch", f"{each.code}: say in NOT_RUN why it is not typed"
    ran = run(*words[1:], *(("-f", "table") if each.printed else ()), stdin=given)
    assert ran.code == 0, f"{each.code}: {ran.err}"
    return ran.out


def differences(document: Document, each: Shown, printed: str) -> list[str]:
    shown = each.printed
    start = next((start for start in TOLERANCES if each.code.startswith(start)), "")
    for pattern, replaced in LOOSE.get(start, ()):
        shown, printed = (re.sub(pattern, replaced, text, flags=re.MULTILINE) for text in (shown, printed))
    return [f"{each.code}\n{found}" for found in document.differences(shown, printed, TOLERANCES.get(start))]


def run_document(text: str, run: Run, document: Document) -> list[str]:
    """Type the commands of a document in order, then run its scripts; return what is not as it is shown."""
    wrong = []
    for each in typed(text):
        printed = typed_here(each, run)
        wrong += differences(document, each, printed) if each.printed else []
    for each in scripts(text):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(each.code, "a document", "exec"), {"__name__": "__main__"})
        wrong += differences(document, each, said.getvalue()) if each.printed else []
    return wrong


def named(path: Path) -> str:
    return path.relative_to(REPOSITORY / "docs").as_posix()


def pages_to_run() -> list[Path]:
    """Pages of the manual with something to type or to run."""
    texts = ((path, path.read_text(encoding="utf-8")) for path in PAGES if named(path) not in RUN_ELSEWHERE)
    return [path for path, text in texts if typed(text) or scripts(text)]


@pytest.mark.slow
def test_readme_runs_and_prints_what_it_shows(newcomer: Newcomer, copied: Path, run: Run) -> None:
    document = Document()
    first, *others = typed(README)
    assert len(others) >= 4
    assert len(scripts(README)) == 1
    assert all(each.printed for each in (first, *others))
    wrong = differences(document, first, newcomer.printed)
    shutil.rmtree(copied / "index")
    assert wrong + run_document(README, run, document) == []


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_to_run(), ids=named)
def test_page_runs_and_prints_what_it_shows(page: Path, copied: Path, run: Run) -> None:
    """Every page of the manual by itself, on the collection that the README makes."""
    for package in ("umap", "sklearn", "pandas", "langchain_core", "fastapi"):
        pytest.importorskip(package, reason="what the manual shows needs most extras")
    assert run_document(page.read_text(encoding="utf-8"), run, Document()) == []
    assert [name for name in MADE.get(named(page), ()) if not Path(name).is_file()] == []
    if named(page) == "howto/operate.md":  # it forgets what is older than a year, as the samples are
        assert run("status", "--index", "index").rows[0]["counts"]["recordings"] == 0


def test_what_is_not_run_is_shown_somewhere() -> None:
    """Another test names the page that it runs, and a command that no document shows has no place in the list."""
    for name, why in RUN_ELSEWHERE.items():
        elsewhere = REPOSITORY / why.rpartition(": ")[2]
        if (REPOSITORY / "docs" / name).is_file():
            assert Path(name).name in elsewhere.read_text(encoding="utf-8"), name
    shown = README + "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [start for start in NOT_RUN if start not in shown] == []


@pytest.mark.slow
def test_what_is_served_is_as_shown(copied: Path) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    asked = commands((REPOSITORY / "docs" / "howto" / "serve.md").read_text(encoding="utf-8"))
    with subprocess.Popen(
        (sys.executable, "-m", "e2vsearch", "serve", "--port", "0"), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if "http://" in line)
            (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", said)
            typed = [each.code for each in asked if each.code.startswith("curl")]
            found, audio = (spawned(code.replace(":8080", f":{port}"), copied) for code in typed)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    best = json.loads(found)["hits"][0]
    shown = next(each.printed for each in commands(README) if each.code == "e2vsearch query samples/angry.ogg -k 3")
    _, score, percentile, name, *_ = shown.splitlines()[1].split()
    begin, _, end = name.partition("…")  # shortened where the table has no room
    assert best["name"].startswith(begin)
    assert best["name"].endswith(end)
    assert best["percentile"] == pytest.approx(float(percentile), abs=0.5)
    assert best["score"] == pytest.approx(float(score), abs=Tolerances().decimal)
    assert audio == ""
    assert Path("segment.wav").read_bytes().startswith(b"RIFF")
    assert process.returncode == 0


# --- the READMEs


def figures(text: str) -> list[list[str]]:
    """Numbers of each row of the last table, which has the figures."""
    table = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[-1]
    return [sorted(re.findall(r"\d[\d.,]*\d|\d", row)) for row in table.splitlines()[2:]]


def targets(text: str) -> set[str]:
    """What a README links to, the other README and pictures apart, whose Chinese ones have a name of their own."""
    found = set(re.findall(r"\]\(([^)]+)\)", text))
    return {re.sub(r"-zh(?=\.png$)", "", each) for each in found if not each.startswith("README")}


def test_chinese_readme_shows_the_same() -> None:
    """The same commands with the same output, scripts, figures, install commands and links, in the same order."""
    assert commands(CHINESE) == commands(README)
    assert scripts(CHINESE) == scripts(README)
    assert len(figures(README)) == 5
    assert figures(CHINESE) == figures(README)
    installs = [re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE) for text in (README, CHINESE)]
    assert installs[0] == installs[1] != []
    assert targets(CHINESE) == targets(README)


def test_readmes_are_short() -> None:
    english, chinese = (len(text.splitlines()) for text in (README, CHINESE))
    assert chinese <= english <= 150


@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "RESPONSIBLE-USE.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_links_of_the_repository_lead_somewhere(name: str) -> None:
    found = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (REPOSITORY / name).read_text(encoding="utf-8"))
    local = [each for each in found if "://" not in each]
    assert local
    assert [each for each in local if not (REPOSITORY / each).exists()] == []


# --- docstrings


def modules_with_examples() -> Iterator[str]:
    """Modules of the package with an example that is not skipped, whatever they are called."""
    package = REPOSITORY / "e2vsearch"
    for path in sorted(package.rglob("*.py")):
        if re.search(r"^ *>>> (?!.*doctest: \+SKIP)", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def test_docstring_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner, missing = doctest.DocTestRunner(), []
    ran = 0
    for name in modules_with_examples():
        try:
            module = importlib.import_module(name)
        except (MissingExtra, ModuleNotFoundError) as error:
            missing.append(f"{name}: {error}")
            continue
        for found in doctest.DocTestFinder().find(module):
            ran += sum(not example.options.get(doctest.SKIP) for example in found.examples)
            runner.run(found)
    assert runner.failures == 0
    if missing:
        pytest.skip(f"{ran} examples ran, others need an extra: {'; '.join(missing)}")
    assert ran >= EXAMPLES


def test_what_is_not_as_it_is_shown_is_seen() -> None:
    """Another number, another order, another id, a line too many or too few."""
    shown = "1  0.85  anna  00:20.8  seg:3\n2  0.84  bela  00:00.3  seg:4"

    def wrong(printed: str) -> int:
        return len(Document().differences(shown, printed))

    assert wrong(shown) == 0
    assert wrong("1 0.853 anna 00:20.7 seg:8\n2 0.835 bela 00:00.3 seg:3") == 0  # other ids, one for one
    assert wrong("1 0.85 anna 00:20.8 seg:8\n2 0.84 bela 00:00.3 seg:8") == 1
    assert wrong("1 0.87 anna 00:20.8 seg:3\n2 0.84 bela 00:00.3 seg:4") == 1
    assert wrong("1 0.85 anna 00:21.8 seg:3\n3 0.84 bela 00:00.3 seg:4") == 2
    assert wrong("\n".join(reversed(shown.splitlines()))) == 2
    assert wrong(shown.splitlines()[0]) == 1
    assert wrong(shown + "\nmore") == 1
    bar = "1  ███·· angry"
    assert len(Document().differences(bar, "1  ██▌·· angry")) == 0
    assert len(Document().differences(bar, "1  ██··· angry")) == 1
    assert len(Document().differences(bar, "1  ███·· sad")) == 1
    assert wrong(shown.replace("0.85", "85")) == 1
