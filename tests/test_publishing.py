"""What a public repository needs: workflows that only make, forms, a citation, and one address and version in all."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import e2vsearch

REPOSITORY = Path(__file__).resolve().parent.parent
GITHUB = REPOSITORY / ".github"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "dependabot": [GITHUB / "dependabot.yml"],
    "github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / "bug.yml", GITHUB / "ISSUE_TEMPLATE" / "feature.yml"],
    "github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "citation-file-format": [REPOSITORY / "CITATION.cff"],
}

pytestmark = pytest.mark.skipif(not GITHUB.is_dir(), reason="a source distribution has no .github")


def program(name: str) -> str:
    """The path of a linter; skips where it is not installed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def said(*line: str | Path) -> tuple[int, str]:
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    return done.returncode, done.stdout + done.stderr


def document(path: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="the 'test-all' group is not installed")
    read: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # `on` is no truth value
    return read


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in document(path)["jobs"].values() for step in job["steps"]]


def checked(schema: str, *files: Path) -> tuple[int, str]:
    """Exit code and output of ``check-jsonschema``, run in this process: starting one takes a second."""
    module = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    from click.testing import CliRunner

    line = ["--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = CliRunner().invoke(module.main, line)
    return done.exit_code, done.output


@pytest.mark.slow
@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_file_is_as_its_schema_says(schema: str) -> None:
    code, text = checked(schema, *SCHEMAS[schema])
    assert code == 0, text


@pytest.mark.slow
def test_a_file_that_is_not_so_would_be_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs:\n  one:\n    steps:\n      - run: make\n", encoding="utf-8")
    code, text = checked("github-workflows", wrong)
    assert code == 1
    assert "'runs-on'" in text


@pytest.mark.slow
def test_workflows_are_without_findings() -> None:
    code, text = said(program("zizmor"), "--quiet", "--offline", "--pedantic", GITHUB)
    assert code == 0, text


def test_workflows_pass_actionlint() -> None:
    assert said(program("actionlint"), *WORKFLOWS) == (0, "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_make_and_nothing_else(path: Path) -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    ran = [step["run"] for step in steps(path) if "run" in step]
    targets = [re.fullmatch(r"make ([\w-]+)( [A-Z]+=(\S+|\"[^\"]*\"))*", line) for line in ran]
    assert None not in targets, ran
    assert {found[1] for found in targets if found} <= set(phony.split())
    assert ran


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_little_and_pins_what_it_uses(path: Path) -> None:
    whole = document(path)
    assert whole["permissions"] == {}
    for name, job in whole["jobs"].items():
        assert job["permissions"] == ({"id-token": "write"} if name == "publish" else {"contents": "read"})
    used = re.findall(r"^ +-? *uses: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert [each for each in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
    assert len(used) == len([step for step in steps(path) if "uses" in step]) > 0


def test_an_action_is_of_one_commit_everywhere() -> None:
    pinned: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for name, commit in re.findall(r"uses: ([\w./-]+)@(.+)", path.read_text(encoding="utf-8")):
            pinned.setdefault(name, set()).add(commit)
    assert [name for name, commits in pinned.items() if len(commits) > 1] == []


def test_every_python_that_is_named_is_tested() -> None:
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)}
    matrix = document(GITHUB / "workflows" / "test.yml")["jobs"]["core"]["strategy"]["matrix"]["python"]
    assert named <= set(matrix)
    assert PROJECT["requires-python"] == f">={matrix[0]}"


def test_one_version_everywhere() -> None:
    """Of the package, of the citation, and the newest in the changelog, with its date."""
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    (version,) = re.findall(r"^version: (.+)$", citation, re.MULTILINE)
    (date,) = re.findall(r'^date-released: "(.+)"$', citation, re.MULTILINE)
    headings = re.findall(r"^## \[(.+?)\](.*)$", CHANGELOG, re.MULTILINE)
    assert version == e2vsearch.__version__
    assert headings[:2] == [("Unreleased", ""), (version, f" - {date}")]


def test_the_changelog_keeps_to_its_sections() -> None:
    """Those of keepachangelog.com, in each version; every version has its link."""
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)) <= known
    for name in re.findall(r"^## \[(.+?)\]", CHANGELOG, re.MULTILINE):
        assert re.search(rf"^\[{re.escape(name)}\]: {re.escape(PROJECT['urls']['Source'])}/", CHANGELOG, re.MULTILINE)


def test_one_address_of_the_repository() -> None:
    """That of the project's metadata: what names the repository elsewhere names the same."""
    source = PROJECT["urls"]["Source"]
    assert all(address.startswith(source) for address in PROJECT["urls"].values())
    named = [REPOSITORY / "CITATION.cff", REPOSITORY / "CHANGELOG.md", GITHUB / "ISSUE_TEMPLATE" / "config.yml"]
    for path in (*named, REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", REPOSITORY / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"https?://[^\s)>\"]*e2vsearch[^\s)>\"]*", text.replace(source, "")) == [], path.name
        assert source in text or path not in named
