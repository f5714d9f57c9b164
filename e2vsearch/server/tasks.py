"""Tasks: work that takes longer than a request may, such as making a map. A client starts one, and asks how far it is.

One is in work at a time, in the order of starting. A client that goes away, or whose page is loaded anew, finds it
again in the list. Tasks are of this process, and of one that ends nothing is kept.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Literal

from e2vsearch.errors import Cancelled, E2vsearchError, NotStored
from e2vsearch.server.responses import Problem, RequestError

Progress = Callable[[str, int, int], None]
"""Called with the step, how much of it is done, and of how much."""

MOST_WAITING = 8
"""Tasks that wait behind the one in work."""

_KEPT = 32  # tasks that are listed, with those that have ended
_UNFINISHED = ("waiting", "running")

_log = logging.getLogger("e2vsearch.server")

TaskKind = Literal["map", "train"]


@dataclass(frozen=True, slots=True)
class Task:
    """Work that goes on after its request has been answered."""

    id: str
    kind: TaskKind  # makes a map, or trains a classifier
    state: Literal["waiting", "running", "done", "failed", "stopped"]
    started_at: datetime
    step: str = ""  # what it does now
    done: int = 0  # how much of the step
    of: int = 0
    made: str | None = None  # once it is done: the name of the map or classifier
    error: Problem | None = None  # where it failed


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of this service since it was started, the newest first; of those that have ended, the last 32."""

    tasks: list[Task]


class Tasks:
    """The tasks of one service. Safe to use from several threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="e2vsearch-task")
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._stopped: set[str] = set()

    def start(self, kind: TaskKind, work: Callable[[Progress], str]) -> Task:
        """Start a task, and return it as it is now.

        Args:
            kind: what it does.
            work: does it, and returns the name of what was made; it ends where the function it is given raises.

        Raises:
            RequestError: too many wait already.
        """
        with self._lock:
            if sum(each.state in _UNFINISHED for each in self._tasks.values()) > MOST_WAITING:
                message = f"{MOST_WAITING} tasks are waiting already - ask again when one is done"
                raise RequestError(409, "busy", message)
            task = Task(token_hex(8), kind, "waiting", datetime.now(UTC))
            self._tasks[task.id] = task
            for ended in [each.id for each in self._tasks.values() if each.state not in _UNFINISHED][:-_KEPT]:
                del self._tasks[ended]
            self._pool.submit(self._run, task.id, work)
        return task

    def list(self) -> list[Task]:
        """Return the tasks, the last one that was started first."""
        with self._lock:
            return list(self._tasks.values())[::-1]

    def get(self, name: str) -> Task:
        """Return a task as it is now.

        Raises:
            NotStored: there is none.
        """
        with self._lock:
            if name not in self._tasks:
                raise NotStored(f"there is no task {name!r} - GET /tasks lists them; a restart forgets them")
            return self._tasks[name]

    def stop(self, name: str) -> Task:
        """Ask a task to stop, which it does between two steps, and return it as it is now.

        Raises:
            NotStored: there is none.
        """
        task = self.get(name)
        with self._lock:
            self._stopped.add(name)
        return task

    def close(self) -> None:
        """Stop all, and wait for the one in work."""
        with self._lock:
            self._stopped.update(self._tasks)
        self._pool.shutdown(cancel_futures=True)

    def _run(self, name: str, work: Callable[[Progress], str]) -> None:
        def progress(step: str, done: int, of: int) -> None:
            if name in self._stopped:
                raise Cancelled
            self._set(name, step=step, done=done, of=of)

        try:
            if name in self._stopped:
                raise Cancelled
            self._set(name, state="running")
            made = work(progress)
            self._set(name, state="done", made=made)
        except Cancelled:
            self._set(name, state="stopped")
        except E2vsearchError as error:
            self._set(name, state="failed", error=Problem(error.reason, " ".join(str(error).split())))
        except Exception:
            _log.exception("task %s failed", name)
            self._set(name, state="failed", error=Problem("internal", "this failed - the service's log says why"))

    def _set(self, name: str, **changes: object) -> None:
        with self._lock:
            self._tasks[name] = replace(self._tasks[name], **changes)  # type: ignore[arg-type]
