"""Tasks of the service: started, followed, stopped, one at a time."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from service_client import error_of, post

from e2vsearch.collection import Collection
from e2vsearch.errors import QueryError
from e2vsearch.server.responses import RequestError
from e2vsearch.server.tasks import MOST_WAITING, Progress, Task, Tasks

PATIENCE_S = 60.0


def ended(client: TestClient, task: Any) -> Any:
    """The task once it has ended: asked for again and again, as a page does."""
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        found = client.get(f"/tasks/{task['id']}").json()
        if found["state"] not in ("waiting", "running"):
            return found
        waiting.wait(0.05)
    raise AssertionError(f"{found} did not end")


class Gate:
    """Work that waits to be let through."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, progress: Progress) -> str:
        progress("waiting for the gate", 1, 2)
        self.entered.set()
        assert self.open.wait(PATIENCE_S)
        progress("through", 2, 2)
        return "made"


def fail(_: Progress) -> str:
    raise QueryError("this makes\nno sense")


def break_(_: Progress) -> str:
    raise RuntimeError("secret")


@pytest.mark.slow
def test_a_classifier_is_trained_while_the_client_asks_how_far_it_is(
    client: TestClient, collection: Collection
) -> None:
    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")
    for name, segments in (("deep", range(1, 7)), ("clear", range(7, 13))):
        post(client, "/labels", label=name, segments=[f"seg:{number}" for number in segments])
    response = client.post("/tasks/train", json={"classifier": "voices", "seed": 3})
    assert response.status_code == 202
    task = response.json()
    assert (task["kind"], task["made"], task["error"]) == ("train", None, None)
    found = ended(client, task)
    assert (found["state"], found["made"], found["step"]) == ("done", "voices", "training")
    (trained,) = client.get("/labels").json()["classifiers"]
    report = collection.labels.train("voices", seed=3)
    assert (trained["accuracy"], trained["version"], report.version) == (report.accuracy, 1, 2)
    assert client.get("/tasks").json()["tasks"][0] == found
    client.post("/labels", json={"label": "rare", "segments": ["seg:1"]})
    failed = ended(client, client.post("/tasks/train", json={"labels": ["rare"]}).json())
    assert (failed["state"], failed["error"]["reason"]) == ("failed", "too-few-examples")
    for name in ("deep", "clear", "rare"):
        collection.labels.remove(label=name)
    collection.labels.remove_classifier("voices")


def test_a_map_of_too_few_says_so(client: TestClient) -> None:
    pytest.importorskip("umap", reason="a map needs the 'map' extra")
    failed = ended(client, post_task(client, where="channel = 7"))
    assert (failed["state"], failed["kind"]) == ("failed", "map")
    assert "no segment meets" in failed["error"]["message"]
    error_of(client.post("/tasks/map", json={"by": "agent"}), 422, "invalid")
    error_of(client.get(f"/tasks/{'0' * 16}"), 404, "not-stored")
    error_of(client.delete("/tasks/nonsense"), 422, "invalid")


def post_task(client: TestClient, **fields: Any) -> Any:
    response = client.post("/tasks/map", json=fields)
    assert response.status_code == 202
    return response.json()


def state_of(tasks: Tasks, task: Task) -> str:
    return tasks.get(task.id).state


def test_they_run_one_after_another() -> None:
    tasks, one, other = Tasks(), Gate(), Gate()
    first, second = tasks.start("map", one), tasks.start("train", other)
    assert one.entered.wait(PATIENCE_S)
    now = tasks.get(first.id)
    assert (now.state, now.step, now.done, now.of) == ("running", "waiting for the gate", 1, 2)
    assert state_of(tasks, second) == "waiting"
    one.open.set()
    assert other.entered.wait(PATIENCE_S)
    assert (state_of(tasks, first), tasks.get(first.id).made) == ("done", "made")
    assert [each.id for each in tasks.list()] == [second.id, first.id]
    other.open.set()
    tasks.close()


def test_one_is_stopped_at_its_next_step_and_others_go_on() -> None:
    tasks, gates = Tasks(), [Gate(), Gate(), Gate()]
    started = [tasks.start("map", gate) for gate in gates]
    assert gates[0].entered.wait(PATIENCE_S)
    for task in started[:2]:
        tasks.stop(task.id)
    for gate in gates:
        gate.open.set()
    assert gates[2].entered.wait(PATIENCE_S)
    assert [state_of(tasks, each) for each in started[:2]] == ["stopped", "stopped"]
    assert not gates[1].entered.is_set()  # it had not begun
    tasks.close()


def test_closing_stops_all() -> None:
    tasks, entered, gate = Tasks(), threading.Event(), Gate()

    def endless(progress: Progress) -> str:
        while True:
            entered.set()
            progress("on and on", 0, 1)

    first, second = tasks.start("map", endless), tasks.start("map", gate)
    assert entered.wait(PATIENCE_S)
    tasks.close()
    assert (state_of(tasks, first), state_of(tasks, second)) == ("stopped", "waiting")
    assert not gate.entered.is_set()


def test_what_fails_is_told_in_one_line_and_a_bug_keeps_its_words_for_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    known, bug = tasks.start("map", fail), tasks.start("map", break_)
    gate = Gate()
    tasks.start("map", gate)
    assert gate.entered.wait(PATIENCE_S)
    gate.open.set()
    tasks.close()
    errors = [tasks.get(each.id).error for each in (known, bug)]
    assert [(each.reason, each.message) for each in errors if each] == [
        ("query", "this makes no sense"),
        ("internal", "this failed - the service's log says why"),
    ]
    assert "secret" in caplog.text


def test_few_wait_and_few_are_kept() -> None:
    tasks, gate = Tasks(), Gate()
    for _ in range(MOST_WAITING + 1):
        tasks.start("map", gate)
    with pytest.raises(RequestError, match="8 tasks are waiting") as raised:
        tasks.start("map", gate)
    assert (raised.value.status_code, raised.value.reason) == (409, "busy")
    gate.open.set()
    tasks.close()
