"""`former.py`: one task in the checkout that PYTHONPATH names, whichever of the two ways of calling it has.

    python benchmarks/_former.py TASK SCRATCH OWN

Prints a JSON object: seconds of processor time for each figure, and the peak memory of the process in MB.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from _apart import memory_mb
from numpy.typing import NDArray

import e2vsearch

QUERIES = 200
WARM = 5  # queries of each kind that come before
PER_RECORDING = 50


def first_of(*names: str) -> Any:
    """Return the first of these names, each ``module:attribute``, that this checkout has.

    Raises:
        ImportError: it has none.
    """
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"this checkout has none of {', '.join(names)}")


def opened(folder: Path, **options: Any) -> Any:
    """Return a collection, made if there is none; formerly that was the default."""
    try:
        return e2vsearch.open(folder, create=True, **options)
    except TypeError:
        return e2vsearch.open(folder, **options)


def built(collection: Any) -> None:
    """Build the index anew, lists trained anew."""
    build = getattr(collection, "build", None) or collection.index.build
    build(retrain=True)


def store(collection: Any, vectors: NDArray[np.float32], scores: NDArray[np.float32] | None) -> None:
    """Store made segments, `PER_RECORDING` in each recording."""
    recording = first_of("e2vsearch.catalog.rows:NewRecording", "e2vsearch.catalog:NewRecording")
    segment = first_of("e2vsearch.catalog.rows:NewSegment", "e2vsearch.catalog:NewSegment")
    when = datetime(2024, 1, 1, tzinfo=UTC)
    for first in range(0, len(vectors), PER_RECORDING):
        rows = range(first, min(first + PER_RECORDING, len(vectors)))
        segments = tuple(
            segment(0, 5.0 * at, 5.0 * at + 4.0, vectors[row], None if scores is None else scores[row])
            for at, row in enumerate(rows)
        )
        uri = f"/made/{first}.wav"
        digest = hashlib.sha256(uri.encode()).hexdigest()
        length = 5.0 * len(segments)
        made = recording(uri, f"made{first}", digest, 0, 0, when, length, 1, 8000, "made", segments)
        collection.catalog.store(made)


@contextmanager
def timed(spent: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of processor time of what is done within."""
    started = worked_s()
    yield
    spent[name] = worked_s() - started


def worked_s() -> float:
    """Return the seconds of processor time so far, threads and children included."""
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def fill_queries(scratch: Path, own: Path) -> dict[str, float]:
    """Ingest a few clips with `light`, so that all it ships is in use, and store made segments of their space."""
    with opened(own / "queries", encoder="light") as collection:
        collection.ingest(scratch / "few")
        store(collection, np.load(scratch / "vectors.npy"), np.load(scratch / "scores.npy"))
        built(collection)
    return {}


def fill_build(scratch: Path, own: Path) -> dict[str, float]:
    """Store the vectors of an index."""
    space = first_of("e2vsearch.types:Space", "e2vsearch.space:Space")
    with opened(own / "build") as collection:
        vectors = np.load(scratch / "many.npy")
        collection.catalog.pin(space("saved", "made-up", vectors.shape[1]), "saved")
        store(collection, vectors, None)
    return {}


def queries(scratch: Path, own: Path) -> dict[str, float]:
    """Query by stored id, by name and by clip."""
    spent: dict[str, float] = {}
    clips = sorted((scratch / "references").iterdir())
    with opened(own / "queries", encoder="light") as collection:
        names = [f"emotion:{label}" for label in collection.space.labels]
        total = collection.status().counts.segments
        kinds: dict[str, Callable[[int], Any]] = {
            "stored id": lambda at: f"seg:{at * 7 % total + 1}",
            "emotion name": lambda at: names[at % len(names)],
            "clip": lambda at: clips[at % len(clips)],
        }
        for kind, reference in kinds.items():
            for at in range(WARM):
                collection.query(reference(at), k=20)
            each = []
            for at in range(QUERIES):
                started = worked_s()
                collection.query(reference(at), k=20)
                each.append(worked_s() - started)
            spent[f"query by {kind}, median of {QUERIES}"] = statistics.median(each)
    return spent


def ingest(scratch: Path, own: Path) -> dict[str, float]:
    """Ingest clips with `light` into a new collection, once its modules and weights are loaded."""
    spent: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=own) as folder:
        with opened(Path(folder) / "first", encoder="light") as collection:
            collection.ingest(scratch / "few")
        with opened(Path(folder) / "index", encoder="light") as collection, timed(spent, "ingest"):
            report = collection.ingest(scratch / "clips")
        if report.failures or not report.stored:
            raise SystemExit(f"not all were stored: {report}")
    return spent


def build(_: Path, own: Path) -> dict[str, float]:
    """Build the index."""
    spent: dict[str, float] = {}
    with opened(own / "build") as collection, timed(spent, "index build"):
        built(collection)
    return spent


TASKS = {each.__name__: each for each in (fill_queries, fill_build, queries, ingest, build)}


def main() -> None:
    """Do one task and print what it took."""
    task, scratch, own = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if not Path(e2vsearch.__file__).is_relative_to(os.environ["PYTHONPATH"]):
        raise SystemExit(f"{e2vsearch.__file__} is not of {os.environ['PYTHONPATH']}")
    spent = TASKS[task](scratch, own)
    memory = memory_mb([os.getpid()], "VmHWM")
    print(json.dumps({"spent": spent, "memory": memory}))


if __name__ == "__main__":
    main()
