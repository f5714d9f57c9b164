"""What the documents show runs as they show it: README commands in order, its Python, and docstring examples."""

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

EXAMPLES = 13
"""So many examples in docstrings run, all extras installed: one that is skipped is read by people and by no test."""

# int8 kernels with VNNI and those without give vectors that differ in the third digit. UMAP then lays a map out
# otherwise: two of the samples' 28 segments (8 %) at a cluster's edge change sides, another segment is nearest to its
# middle. And a classifier of five examples a label is surest of the same segments, by .03 more or less.
TOLERANCES = {
    "e2vsearch map ": Tolerances(percent=8, factor=0.4, count=2),
    "e2vsearch label suggest ": Tolerances(decimal=0.05),
}
SEGMENT_OF_A_CLUSTER = re.compile(r"seg:\d+ +\S+ +\d\d:\d\d\.\d$", re.MULTILINE)


@dataclass(frozen=True)
class Newcomer:
    """Somebody in a folder with the samples and nothing else, who has typed the first command of the README."""

    folder: Path
    printed: str  # by that command


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(REPOSITORY / "samples", folder / "samples")
    printed = spawned(f"{typed(README)[0].code} -f table", folder)
    shutil.copytree(folder / "index", folder / "served")
    return Newcomer(folder, printed)


def typed(text: str) -> list[Shown]:
    """The commands of ours that a document shows and that end by themselves, on the samples."""
    return [each for each in commands(text) if re.match(r"(find .*\| )?e2vsearch (?!serve|evaluate)", each.code)]


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
    words = shlex.split(code)[1:]
    ran = run(*words, *(("-f", "table") if each.printed else ()), stdin=given)
    assert ran.code == 0, f"{each.code}: {ran.err}"
    return ran.out


def differences(document: Document, each: Shown, printed: str) -> list[str]:
    shown = each.printed
    tolerances = next((TOLERANCES[start] for start in TOLERANCES if each.code.startswith(start)), None)
    if each.code.startswith("e2vsearch map "):
        shown, printed = (SEGMENT_OF_A_CLUSTER.sub("a segment", text) for text in (shown, printed))
    return [f"{each.code}\n{found}" for found in document.differences(shown, printed, tolerances)]


@pytest.mark.slow
def test_readme_runs_and_prints_what_it_shows(newcomer: Newcomer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in order, then scripts: some ask what the commands made."""
    for package in ("umap", "sklearn", "langchain_core"):
        pytest.importorskip(package, reason="what the README shows needs the extras map, labels and langchain")
    monkeypatch.chdir(newcomer.folder)
    document = Document()
    first, *others = typed(README)
    assert len(others) > 20
    wrong = differences(document, first, newcomer.printed)
    for each in others:
        printed = typed_here(each, run)
        wrong += differences(document, each, printed) if each.printed else []
    ran = scripts(README)
    assert len(ran) == 3
    for each in ran:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(compile(each.code, "README.md", "exec"), {"__name__": "__main__"})
        printed = said.getvalue()
        wrong += differences(document, each, printed) if each.printed else []
    assert wrong == []
    assert Path("hits.csv").read_text().startswith("rank,score,")
    assert len(list(Path("vectors").glob("*.npy"))) >= 12
    assert Path("backup", "manifest.json").is_file()
    assert Path("board.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


@pytest.mark.slow
def test_operating_runs_as_it_is_shown(
    newcomer: Newcomer, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page's commands in their order, on a collection of the samples."""
    shutil.copytree(newcomer.folder / "index", tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    operate = typed((REPOSITORY / "docs" / "operate.md").read_text(encoding="utf-8"))
    assert len(operate) > 12
    for each in operate:
        typed_here(each, run)
    assert Path("copies", "catalog.db").is_file()
    assert Path("restored", "catalog.db").is_file()
    assert run("status", "--index", "index").rows[0]["counts"]["recordings"] == 0  # the samples are older than a year


@pytest.mark.slow
def test_readme_serves_what_it_shows(newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    monkeypatch.chdir(newcomer.folder)
    command = (sys.executable, "-m", "e2vsearch", "serve", "--port", "0", "--index", "served")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = next(line for line in process.stderr if "http://" in line)
            (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)", said)
            typed = [each.code for each in commands(README) if each.code.startswith("curl")]
            found, audio = (spawned(code.replace(":8080", f":{port}"), newcomer.folder) for code in typed)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    best = json.loads(found)["hits"][0]
    shown = next(each.printed for each in commands(README) if each.code == "e2vsearch query samples/angry.ogg -k 5")
    _, score, percentile, name, *_ = shown.splitlines()[1].split()
    begin, _, end = name.partition("…")  # shortened where the table has no room
    assert best["name"].startswith(begin)
    assert best["name"].endswith(end)
    assert best["percentile"] == pytest.approx(float(percentile), abs=0.5)
    assert best["score"] == pytest.approx(float(score), abs=Tolerances().decimal)
    assert audio == ""
    assert Path("segment.wav").read_bytes().startswith(b"RIFF")
    assert process.returncode == 0


def test_chinese_readme_shows_the_same() -> None:
    for of in (commands, scripts):
        english, chinese = (of(text) for text in (README, CHINESE))
        assert chinese
        assert [each for each in chinese if each not in english] == []
    assert [each for each in scripts(README) if each not in scripts(CHINESE)] == []


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
