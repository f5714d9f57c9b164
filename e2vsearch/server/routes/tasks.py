"""``/tasks`` makes maps and trains classifiers, which may take longer than a request, and says how far they are."""

from __future__ import annotations

from fastapi import APIRouter, Response

from e2vsearch.server.parameters import TaskPath
from e2vsearch.server.responses import json_response, returns
from e2vsearch.server.schemas import MapRequest, TrainRequest
from e2vsearch.server.state import ServerState
from e2vsearch.server.tasks import Progress, Task, TaskList


def router(state: ServerState) -> APIRouter:
    """Return the routes over a collection."""
    routes = APIRouter(prefix="/tasks", tags=["tasks"])
    collection, tasks = state.collection, state.tasks

    @routes.get("", summary="The tasks of this service", **returns(TaskList))
    async def list_tasks() -> Response:
        """Those in work and those that have ended; a restart forgets them."""
        return json_response(TaskList, TaskList(tasks.list()))

    @routes.get("/{task}", summary="How far a task is", **returns(Task, 404, 422))
    async def get_task(task: TaskPath) -> Response:
        """Ask again until its state is `done`, `failed` or `stopped`."""
        return json_response(Task, tasks.get(task))

    @routes.delete("/{task}", summary="Stop a task", **returns(Task, 404, 422))
    async def stop_task(task: TaskPath) -> Response:
        """Ask it to end before its next step; it leaves nothing behind."""
        return json_response(Task, tasks.stop(task))

    @routes.post("/map", summary="Make a map", **returns(Task, 400, 409, 413, 422, status=202))
    async def make_map(body: MapRequest) -> Response:
        """Layout and clusters, as `e2vsearch map build` makes them; tens of seconds for 20,000 segments."""

        def work(progress: Progress) -> str:
            return collection.maps.build(body.name, body.by, body.where, progress=progress).name

        return json_response(Task, tasks.start("map", work), status=202)

    @routes.post("/train", summary="Train a classifier, as a task", **returns(Task, 400, 409, 413, 422, status=202))
    async def train_in_background(body: TrainRequest) -> Response:
        """Do as `/labels/train` does, which answers once it is done; `/labels` lists the report."""

        def work(progress: Progress) -> str:
            return collection.labels.train(
                body.classifier,
                labels=body.labels,
                speaker_keys=body.speaker_keys,
                seed=body.seed,
                progress=progress,
            ).name

        return json_response(Task, tasks.start("train", work), status=202)

    return routes
