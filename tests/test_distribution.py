"""What is released: the wheel, with all that it needs outside a checkout, and the source distribution it comes from.

Both are built by hatchling itself: an isolated build would ask the network.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import e2vsearch

sys.path.append(str(Path(__file__).parents[1] / "deploy"))

import sbom

REPOSITORY = Path(__file__).resolve().parent.parent
DIST_INFO = f"e2vsearch-{e2vsearch.__version__}.dist-info"


def python(*arguments: str, **options: Any) -> str:
    """Run this interpreter in a process of its own; its failure is the test's, with what it said."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(what: str, source: Path, target: Path) -> Path:
    """Build a wheel or a source distribution; return its file."""
    pytest.importorskip("hatchling")
    python("-m", "hatchling", "build", "-t", what, "-d", str(target), cwd=source)
    (found,) = target.iterdir()
    return found


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder


def files(root: Path, below: str) -> set[str]:
    kept = (path for path in (root / below).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in kept}


def test_the_wheel_holds_one_package(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir()} == {"e2vsearch", DIST_INFO}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    tracked = files(REPOSITORY, "e2vsearch")
    beside = files(REPOSITORY, "migrations") | files(REPOSITORY, "samples") - {"samples/make_samples.py"}
    outside = {"e2vsearch/RESPONSIBLE-USE.md", *(f"e2vsearch/{name}" for name in beside)}
    assert files(wheel, "e2vsearch") == tracked | outside
    assert {"e2vsearch/py.typed", "e2vsearch/encoders/data/light.onnx"} <= tracked
    assert {"e2vsearch/samples/angry.ogg", "e2vsearch/samples/calls/cancel-angry.ogg"} <= outside
    assert any(re.fullmatch(r"e2vsearch/migrations/versions/\d+_\w+\.py", name) for name in outside)


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE"])
def test_the_wheel_holds_licences(wheel: Path, name: str) -> None:
    (packed,) = wheel.glob(f"*.dist-info/**/{name}")
    assert packed.read_bytes() == (REPOSITORY / name).read_bytes()
    assert len(packed.read_bytes()) > 500


@pytest.mark.slow
def test_migrations_run_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    code = """
import sqlalchemy, e2vsearch
from e2vsearch.catalog.upgrade import current, upgrade
engine = sqlalchemy.create_engine("sqlite:///catalog.db")
upgrade(engine)
print(e2vsearch.__file__, current(engine), *sqlalchemy.inspect(engine).get_table_names(), sep="\\n")
"""
    origin, revision, *tables = python("-c", code, cwd=tmp_path, env={"PYTHONPATH": str(wheel)}).splitlines()
    assert Path(origin).is_relative_to(wheel)
    newest = max(path.name for path in (REPOSITORY / "migrations" / "versions").glob("*.py"))
    assert revision == newest.partition("_")[0]
    assert {"recording", "segment", "vector"} <= set(tables)


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Outside a checkout: with the samples, weights and tables of the wheel."""
    surroundings = {"PYTHONPATH": str(wheel), "HOME": str(tmp_path)}
    printed = python("-m", "e2vsearch", "demo", cwd=tmp_path, env=surroundings)
    assert "\nindex: 12 stored\n" in printed
    assert re.search(r"^1 +0\.\d{4} ", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_source_distribution_builds_the_same_wheel(packed: Path, tmp_path: Path) -> None:
    """Every file with its content, the page where it was built, and nothing besides."""
    with tarfile.open(built("sdist", REPOSITORY, tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    again = built("wheel", tmp_path / f"e2vsearch-{e2vsearch.__version__}", tmp_path / "wheel")
    assert again.name == packed.name
    with zipfile.ZipFile(packed) as ours, zipfile.ZipFile(again) as theirs:
        assert theirs.namelist() == ours.namelist()
        assert [name for name in ours.namelist() if ours.read(name) != theirs.read(name)] == []


# --- the bill of materials


def test_the_bill_of_materials_is_of_this_checkout(wheel: Path) -> None:
    (packed,) = (wheel / DIST_INFO / "sboms").iterdir()
    assert packed.name == "e2vsearch.cdx.json"
    assert json.loads(packed.read_text(encoding="utf-8")) == sbom.bill(), "write it anew: make sbom"


def test_the_bill_of_materials_names_all_that_is_shipped(wheel: Path) -> None:
    components = {each["name"]: each for each in sbom.bill()["components"]}
    weights = {name for name, each in components.items() if each["type"] == "machine-learning-model"}
    assert weights == {f"e2vsearch/encoders/data/light.{kind}" for kind in ("onnx", "npz")}
    for name in weights:
        assert components[name]["hashes"][0]["content"] == hashlib.sha256((wheel / name).read_bytes()).hexdigest()
    required = {name for name, each in components.items() if each.get("scope") == "required"}
    assert {"numpy", "faiss-cpu", "onnxruntime"} <= required
    assert components["torch"]["scope"] == "optional"
    licences = wheel / "e2vsearch" / "server" / "static" / "third-party-licences.md"
    if not licences.exists():
        pytest.skip("the page is not built: make page")
    bundled = re.findall(r"^## (\S+) - (\S+) \(", licences.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {(name, each["version"]) for name, each in components.items() if "npm" in each.get("purl", "")}
    assert set(bundled) == listed != set()


def test_the_bill_of_materials_is_as_cyclonedx_says() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the 'test-all' group is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    text = sbom.WRITTEN.read_text(encoding="utf-8")
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"machine-learning-model"', '"machine"')) is not None
