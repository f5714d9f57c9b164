"""The service's routes to what was found: labels, classifiers, maps."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from service_client import error_of, post

from e2vsearch.collection import Collection
from e2vsearch.server.openapi_examples import example_of
from e2vsearch.server.results import MapView


def test_labels_are_given_and_taken_back(client: TestClient) -> None:
    report = post(client, "/labels", label="hesitant", segments=["seg:1", "seg:2"])
    assert (report["label"], report["added"]) == ("hesitant", 2)
    (counted,) = client.get("/labels").json()["labels"]
    assert (counted["name"], counted["examples"]) == ("hesitant", 2)
    assert client.get("/filters").json()["labels"] == ["hesitant"]
    assert client.get("/segments/1").json()["segment"]["label"] == "hesitant"
    assert client.delete("/labels/hesitant", params={"segment": "seg:1"}).json() == {"removed": 1}
    assert client.delete("/labels/hesitant").json() == {"removed": 1}
    error_of(client.delete("/labels/hesitant"), 404, "not-stored")
    error_of(client.post("/labels", json={"label": "x", "segments": ["call:1"]}), 422, "invalid")


def test_classify_with_a_classifier_of_ones_own(client: TestClient, collection: Collection) -> None:
    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")

    error_of(client.post("/classify", json={"reference": "seg:1"}), 404, "not-stored")
    for name, segments in (("deep", range(1, 7)), ("clear", range(7, 13))):
        post(client, "/labels", label=name, segments=[f"seg:{number}" for number in segments])
    collection.labels.train("voices")
    found = post(client, "/classify", reference="call:1", classifier="voices")["segments"]
    assert [segment["label"] for segment in found] == ["deep"] * 3
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1.0)
    clip = client.get("/segments/12/audio").content
    files = {"file": ("a.wav", clip)}
    (segment,) = client.post("/classify/upload", files=files, data={"classifier": "voices"}).json()["segments"]
    assert segment["label"] == "clear"
    (report,) = client.get("/labels").json()["classifiers"]
    assert report["name"] == "voices"


def unlabel(collection: Collection) -> None:
    """Remove what tests before have labelled and trained."""
    for classifier in collection.labels.classifiers():
        collection.labels.remove_classifier(classifier.name)
    for label in collection.labels.list():
        collection.labels.remove(label=label.name)


def test_labelling_until_the_collection_is_classified(client: TestClient, collection: Collection) -> None:
    unlabel(collection)
    post(client, "/labels", label="deep", segments=["seg:1", "seg:2", "seg:3"])
    suggested = client.get("/labels/suggestions", params={"k": 2, "where": "recording = 1 or channel = 0"}).json()
    assert suggested == {"suggestions": [asdict(each) for each in collection.labels.suggest(2, where="channel = 0")]}
    assert suggested["suggestions"][0]["kind"] == "alike"
    error_of(client.get("/labels/suggestions", params={"k": 0}), 422, "invalid")
    error_of(client.get("/labels/suggestions", params={"where": "loud > 1"}), 400, "bad-filter")
    error_of(client.get("/labels/suggestions", params={"classifier": "nobody"}), 404, "not-stored")

    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")
    post(client, "/labels", label="clear", segments=["seg:7", "seg:8"])
    assert "'clear' has 2" in error_of(
        client.post("/labels/train", json={"classifier": "loop"}), 409, "too-few-examples"
    )
    post(client, "/labels", label="clear", segments=["seg:10", "seg:11"])
    report = post(client, "/labels/train", classifier="loop", seed=7)
    (stored,) = [each for each in collection.labels.classifiers() if each.name == "loop"]
    assert report == {**json.loads(json.dumps(asdict(stored), default=str)), "created_at": report["created_at"]}
    assert datetime.fromisoformat(report["created_at"]) == stored.created_at
    assert (report["version"], report["seed"], report["labels"]) == (1, 7, ["clear", "deep"])
    error_of(client.post("/labels/train", json={"speaker_keys": ["who"]}), 409, "analysis")
    error_of(client.post("/labels/train", json={"labels": ["nothing"]}), 404, "not-stored")
    error_of(client.post("/labels/train", json={"seed": -1}), 422, "invalid")

    done = post(client, "/labels/classify", classifier="loop", min_score=0.0)
    assert (done["scored"], done["stored"], done["min_score"]) == (12, 12, 0.0)
    counted = {each["name"]: each["classified"] for each in client.get("/labels").json()["labels"]}
    assert counted == done["labels"]
    assert client.get("/labels").json()["needs"] == {"train": 3, "measure": 5, "recordings": 3}
    error_of(client.post("/labels/classify", json={"classifier": "nobody"}), 404, "not-stored")
    error_of(client.post("/labels/classify", json={"min_score": 1.1}), 422, "invalid")
    collection.set_policy(employee_fields=("agent", "product"))
    error_of(client.get("/labels/suggestions", params={"where": "product = anna"}), 403, "unlawful")
    error_of(client.post("/labels/classify", json={"where": "product = anna"}), 403, "unlawful")
    collection.set_policy(employee_fields=("agent",))
    collection.labels.remove_classifier("loop")


def test_training_without_scikit_learn_says_what_to_install(
    client: TestClient, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlabel(collection)
    for module in ("sklearn", "sklearn.cluster", "sklearn.linear_model", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "e2vsearch[labels]" in error_of(client.get("/labels/suggestions"), 409, "missing-extra")
    post(client, "/labels", label="deep", segments=["seg:1", "seg:2", "seg:3"])
    post(client, "/labels", label="clear", segments=["seg:7", "seg:8", "seg:9"])
    assert "e2vsearch[labels]" in error_of(client.post("/labels/train", json={}), 409, "missing-extra")


def test_maps(client: TestClient, collection: Collection) -> None:
    """A map as the analysis keeps it, put there without the layout, which takes ten seconds of compiling."""
    from e2vsearch.analysis.maps import types
    from e2vsearch.catalog import maps as rows

    assert client.get("/map").json() == {"maps": []}
    options = {"options": asdict(types.MapOptions(min_cluster_size=5)), "versions": {}}
    ids = np.arange(1, 13)
    cluster = np.where(ids < 8, 0, -1).astype(np.int32)
    at = np.linspace(-1, 1, 12, dtype=np.float32)
    points = rows.Points(ids, at, -at, cluster, np.ones(12, np.float32), np.zeros(12, np.bool_))
    described = json.loads(json.dumps(asdict(replace(example_of(MapView).clusters[0], segments=()))))
    run = rows.StoredMap("moods", "segment", None, options, [described], datetime(2024, 3, 1, tzinfo=UTC))
    rows.save(collection.catalog, run, points)
    assert [each["name"] for each in client.get("/map").json()["maps"]] == ["moods"]
    whole = client.get("/map/moods").json()
    assert (whole["points"], whole["none"], whole["by"]) == (12, 5, "segment")
    assert whole["clusters"] == [{**described, "size": 7, "share": 7 / 12, "recordings": 3}]
    found = client.get("/map/moods/points").json()
    assert found["segments"] == ids.tolist()
    assert found["calls"] is None
    assert found["x"] == np.round(at.astype(float), 4).tolist()
    assert found["cluster"] == cluster.tolist()
    assert len(client.get("/map/moods/points").content) < 40 * len(ids)

    header, columns = unpacked(client.get("/map/moods/columns").content)
    assert columns["id"].tolist() == ids.tolist()
    assert columns["x"] == pytest.approx(at, abs=1e-4)
    assert columns["cluster"].tolist() == cluster.tolist()
    segments = list(collection.segments(*(f"seg:{number}" for number in ids)))
    assert columns["recording"].tolist() == [int(each.recording.partition(":")[2]) for each in segments]
    assert columns["start_s"] == pytest.approx([each.start_s for each in segments])
    names = [*header["emotions"], *[None] * 256]
    assert [names[code] for code in columns["emotion"]] == [each.emotion for each in segments]
    assert set(header["colours"]) == {"0", "-1"}

    header, columns = unpacked(client.get("/map/moods/columns/name").content)
    recordings = {each.id: each.name for each in collection.recordings()}
    assert [header["values"][code] for code in columns["value"]] == [recordings[each.recording] for each in segments]
    error_of(client.get("/map/moods/columns/nothing"), 404, "not-stored")
    error_of(client.get("/map/moods/columns/agent"), 403, "unlawful")
    error_of(client.get("/map/nowhere/columns"), 404, "not-stored")


def unpacked(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the columns of a packed answer."""
    size = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + size])
    at, columns = 4 + size, {}
    for column in header["columns"]:
        array = np.frombuffer(body, f"<{column['type']}", header["points"], at)
        columns[column["name"]] = array if column["scale"] == 1 else array * column["scale"]
        at += -(-array.nbytes // 8) * 8
    assert at == len(body)
    return header, columns
