"""The projection that ships with an encoder, in an evaluation and in a comparison without a collection."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import Run
from shipped_head import Ships, calls, knowing, made, vectors

from e2vsearch.analysis.evaluation import adaptation, dataset, evaluate


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    calls(tmp_path / "calls", 12)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["path", "emotion", "speaker", "text"])
        for n in range(12):
            out.writerow([f"calls/{n}.wav", ("calm", "cross")[n % 2], f"s{n // 4}", f"t{n % 3}"])
    return tmp_path / "labels.csv"


def test_an_evaluation_looks_through_what_ships_centred_on_each_condition(labels: Path) -> None:
    heard = dataset.embed_table(labels, Ships(), ("clean", "telephone"))
    found = evaluate.evaluate(heard, condition="all", draws=50)
    assert found.projection == "shipped"
    assert list(found.figures) == ["clean", "telephone", "telephone_in_clean", "raw"]
    by_hand = {name: made().centred(heard.vectors[name]).apply(heard.vectors[name]) for name in ("clean", "telephone")}
    plain = evaluate.evaluate(replace(heard, vectors=by_hand), projection="raw", condition="all", draws=50)
    assert found.figures["clean"] == plain.figures["clean"]
    assert found.figures["telephone"] == plain.figures["telephone"]
    raw = evaluate.evaluate(heard, projection="raw", draws=50)
    assert (raw.projection, list(raw.figures)) == ("raw", ["clean"])
    assert found.figures["raw"] == raw.figures["clean"]


def test_an_evaluation_names_emotions_as_a_centred_collection_would(labels: Path) -> None:
    labels.write_text(labels.read_text().replace("calm", "low").replace("cross", "high"))
    heard = dataset.embed_table(labels, Ships(), ("clean",))
    truth = np.array([("low", "high").index(row.emotion) for row in heard.rows])
    told = (knowing().means[truth] + 0.1 * vectors(len(truth))).astype(np.float32)
    wrong = np.eye(2, dtype=np.float32)[1 - truth]  # what the encoder would say by itself
    heard = replace(heard, vectors={"clean": told}, scores={"clean": wrong}, adapt=adaptation.of(knowing()))
    assert evaluate.evaluate(heard, draws=50).uar == 1.0
    assert evaluate.evaluate(heard, projection="raw", draws=50).uar == 0.0


def test_evaluate_prints_raw_vectors_beside(labels: Path, run: Run) -> None:
    done = run("evaluate", labels, "--encoder", "light", "--draws", 50, "--format", "table")
    assert done.code == 0
    assert "projection shipped" in done.out
    head = next(line for line in done.out.splitlines() if line.startswith("figure"))
    assert head.split()[:3] == ["figure", "clean", "raw"]


def test_clips_without_a_collection_are_compared_through_what_ships(tmp_path: Path, run: Run) -> None:
    calls(tmp_path / "calls", 2)
    clips = [tmp_path / "calls" / f"{n}.wav" for n in range(2)]
    done = run("compare", *clips, "--encoder", "light", "--index", tmp_path / "none", "--format", "jsonl")
    assert done.code == 0
    assert done.rows[0]["space"]["projection"].startswith("shipped@")
    assert "it ships with light" in done.err
