"""The card of `light` is true: its front matter parses, and its figures, limits and hashes are those of what ships."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from e2vsearch.analysis.evaluation import yardstick
from e2vsearch.encoders import registry

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "e2vsearch" / "encoders" / "data"
CARD, SHEET = ((REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("model-card.md", "data-sheet.md"))
TRAINING = (REPOSITORY / "training" / "README.md").read_text(encoding="utf-8")
ROW = r"^\| ((?:emodb|crema15|cremad)[^|]*?) \| (\.\d+) \((\.\d+) to (\.\d+)\) \| (\.\d+) \|"


def rows(text: str) -> dict[str, tuple[str, ...]]:
    """The yardstick's rows in a document: default, its interval, and raw, by name."""
    return {name: tuple(figures) for name, *figures in re.findall(ROW, text, re.MULTILINE)}


def front_matter() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    _, front, _ = CARD.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def test_the_table_is_that_of_the_training() -> None:
    assert len(rows(TRAINING)) == 17
    assert rows(CARD) == rows(TRAINING)


def test_every_row_of_the_yardstick_is_there() -> None:
    reverse = (yardstick.ACTED, yardstick.HEARD, yardstick.ONE_MOOD)
    named = {f"crema15 {kind}" for kind in yardstick.KINDS} | {f"cremad {kind}" for kind in reverse}
    named |= {f"emodb {kind}" for kind in yardstick.KINDS if kind not in (*reverse[:2], yardstick.CALLS)} | {"emodb"}
    named |= {f"emodb {yardstick.ONE_MOOD}"}
    assert set(rows(CARD)) == named
    for kind in yardstick.KINDS:
        assert kind in SHEET


def test_the_front_matter_has_the_same_figures() -> None:
    card = front_matter()
    assert card["license"] == "apache-2.0"
    assert {"language", "library_name", "tags", "datasets", "metrics", "base_model", "pipeline_tag"} <= set(card)
    (model,) = card["model-index"]
    assert model["name"] == "light"
    found = {each["name"]: each["value"] for result in model["results"] for each in result["metrics"]}
    assert found == {name: float(figures[0]) for name, figures in rows(TRAINING).items()}
    for result in model["results"]:
        assert {"task", "dataset", "metrics"} <= set(result)


def test_the_file_named_is_the_one_that_ships() -> None:
    space = registry.open("light").space
    assert f"`light@{space.revision[:12]}`: {space.dim} numbers" in CARD
    assert ", ".join(space.labels) in CARD
    for name in ("light.onnx", "light.npz"):
        digest = hashlib.sha256((DATA / name).read_bytes()).hexdigest()
        assert re.search(rf"^\| `{re.escape(name)}`.*`{digest}` \|$", CARD, re.MULTILINE), name


def test_limits_and_licences_are_those_that_ship() -> None:
    shipped = json.loads((DATA / "light.json").read_text(encoding="utf-8"))
    for limit in shipped["limits"]:
        assert f"* {limit}\n" in CARD
    notice = (REPOSITORY / "NOTICE").read_text(encoding="utf-8")
    for source in shipped["sources"]:
        assert source["url"] in CARD
        assert source["url"] in notice
    assert re.search(r"EMO-DB.*CC0 1\.0 \(CC BY 4\.0", CARD)
    assert re.search(r"CREMA-D.*ODbL 1\.0, contents DbCL 1\.0", CARD)


def test_names_leak_and_triplets_are_those_of_the_training() -> None:
    for figure in (
        "expected calibration error .035",
        "24 % are unsure",
        ".87/.89/.86",
        ".82/.82/.78",
        "64 %",
        "22 % unsure, 10 % disgusted, 2 % angry, 2 % sad",
    ):
        assert figure in " ".join(CARD.split()), figure
        assert figure in " ".join(TRAINING.split()), figure
    assert "RESPONSIBLE-USE.md" in CARD


def test_the_sheet_counts_the_clips(shared_audio: Path) -> None:
    """Where the corpora are at hand."""
    from e2vsearch.analysis.evaluation import labels_table

    for corpus, clips, speakers in (("emodb", 535, 10), ("crema_d", 7442, 91)):
        table = labels_table.read(shared_audio / corpus / "labels.csv")
        assert (len(table.rows), len({row.speaker for row in table.rows})) == (clips, speakers)
        assert f"{clips:,}" in SHEET or f"{clips:,}" in CARD
