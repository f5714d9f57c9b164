"""Processor time and memory of queries, ingest and index build, beside a former commit.

    git worktree add ../former COMMIT
    python benchmarks/former.py --before ../former

Both checkouts take turns in processes of their own, on the same made collection (5,000 segments of `light`'s space),
the same thirty made clips and the same 50,000 vectors of 256 numbers; who begins changes each round. Figures are
medians of seconds that the processor worked, since on a shared machine a clock tells little; a ratio is the median of
the rounds' ratios, with their least and greatest.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _postgres import from_tests
from _table import Row, parser, show
from ingest import compose

from e2vsearch import audio
from e2vsearch.encoders import registry

HERE = Path(__file__).resolve().parent
SEGMENTS, QUICK_SEGMENTS = 5_000, 500
CLIPS, QUICK_CLIPS, FEW = 30, 6, 3
CLIP_S = 10.0
REFERENCES, REFERENCE_S = 10, 2.0
VECTORS, QUICK_VECTORS, DIM = 50_000, 3_000, 256
ROUNDS, QUICK_ROUNDS = 7, 2
SPREAD = 0.5  # of made vectors, beside what they are made of
STARTS = {"import e2vsearch": ["-c", "import e2vsearch"]} | {
    f"e2vsearch {' '.join(words)}": ["-m", "e2vsearch", *words] for words in (["--help"], ["query", "--help"])
}
STARTED = 3  # times a round, of which the least counts
CANNOT_RUN = 77

Figures = dict[str, float]


def material(scratch: Path, segments: int, clips: int, vectors: int) -> None:
    """Write what both checkouts get: clips, and vectors around those that `light` makes of noise."""
    rng = np.random.default_rng(0)
    compose(scratch / "clips", clips, CLIP_S)
    compose(scratch / "few", FEW, CLIP_S, seed=1)
    (scratch / "references").mkdir()
    for number in range(REFERENCES):
        audio.write(scratch / "references" / f"{number}.wav", from_tests("made").speech(REFERENCE_S, seed=number))
    light = registry.open("light")
    signals = [(rng.standard_normal(16_000) * level).astype(np.float32) for level in np.geomspace(0.001, 0.3, 40)]
    made = light.encode(signals)
    chosen = rng.integers(len(signals), size=segments)
    noise = rng.standard_normal((segments, light.space.dim)) * SPREAD * made.vectors.std(axis=0)
    np.save(scratch / "vectors.npy", (made.vectors[chosen] + noise).astype(np.float32))
    np.save(scratch / "scores.npy", rng.dirichlet(np.ones(len(light.space.labels)), segments).astype(np.float32))
    centres = rng.standard_normal((200, DIM))
    many = centres[rng.integers(len(centres), size=vectors)] + rng.standard_normal((vectors, DIM))
    np.save(scratch / "many.npy", many.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Checkout:
    """One of the two."""

    path: Path
    scratch: Path  # what both get, and compiled modules
    own: Path  # its collections

    def environ(self) -> dict[str, str]:
        """Return what its processes run under: one thread, so that none waits for another."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("E2VSEARCH_", "PYTHON"))}
        kept |= {"PYTHONPATH": str(self.path), "PYTHONPYCACHEPREFIX": str(self.scratch / "bytecode")}
        return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def work(self, task: str) -> Figures:
        """Return the figures of one task.

        Raises:
            SystemExit: it failed.
        """
        if task == "start":
            return self.start()
        command = [sys.executable, str(HERE / "_former.py"), task, str(self.scratch), str(self.own)]
        done = subprocess.run(command, env=self.environ(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{task} failed in {self.path}:\n{done.stderr}")
        printed = json.loads(done.stdout.splitlines()[-1])
        spent = {f"{name}, processor time": value for name, value in printed["spent"].items()}
        return spent | {f"{task}, peak memory": printed["memory"]}

    def start(self) -> Figures:
        """Return the processor time of whole processes that do next to nothing.

        Raises:
            SystemExit: one of them failed.
        """
        figures = {}
        for name, words in STARTS.items():
            spent = []
            for _ in range(STARTED):
                process = subprocess.Popen([sys.executable, *words], env=self.environ(), stdout=subprocess.DEVNULL)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise SystemExit(f"{name} failed in {self.path}")
                spent.append(usage.ru_utime + usage.ru_stime)
            figures[f"{name}, processor time"] = min(spent)
        return figures


def compared(before: list[Figures], now: list[Figures]) -> Iterator[Row]:
    """Return the medians of now beside those before."""
    for name in now[0]:
        pairs = [(each[name], other[name]) for each, other in zip(now, before, strict=True)]
        ratios = [ours / theirs for ours, theirs in pairs]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        memory = name.endswith("memory")
        scale, unit = (1.0, "MB") if memory else (1000.0, "ms")
        beside = f"{scale * theirs:.4g} {unit} before ({min(ratios):.2f} to {max(ratios):.2f})"
        yield Row(name, scale * ours, unit, statistics.median(ratios), beside)


def main() -> int:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--before", type=Path, help="a checkout of the former commit; without one nothing is run")
    arguments.add_argument("--rounds", type=int, help=f"how often both take turns ({ROUNDS})")
    arguments.add_argument("--only", nargs="+", default=["start", "queries", "ingest", "build"], help="%(default)s")
    chosen = arguments.parse_args()
    if chosen.before is None:
        print("nothing to compare with: --before names a checkout of a former commit, as git worktree makes one")
        return CANNOT_RUN
    before = chosen.before.resolve()
    if not (before / "e2vsearch" / "__init__.py").is_file():
        print(f"{chosen.before} is no checkout of e2vsearch: it has no e2vsearch/__init__.py", file=sys.stderr)
        return 1
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    sizes = (QUICK_SEGMENTS, QUICK_CLIPS, QUICK_VECTORS) if chosen.quick else (SEGMENTS, CLIPS, VECTORS)
    figures: list[list[Figures]] = [[], []]
    with tempfile.TemporaryDirectory(prefix="former-") as folder:
        scratch = Path(folder)
        material(scratch, *sizes)
        checkouts = [Checkout(before, scratch, scratch / "before"), Checkout(HERE.parent, scratch, scratch / "now")]
        for checkout in checkouts:
            checkout.own.mkdir()
            checkout.start()  # compiles what it imports
            for task in {"queries", "build"}.intersection(chosen.only):
                checkout.work(f"fill_{task}")
        for number in range(rounds):
            for which in (number % 2, 1 - number % 2):
                found = [checkouts[which].work(task) for task in chosen.only]
                figures[which].append({name: value for each in found for name, value in each.items()})
    load = os.getloadavg()[1]
    busy = f"{load:.1f} processes at work on {os.cpu_count()} cores"
    title = f"Now beside {chosen.before}, {rounds} rounds in turns; {busy}"
    show(title, list(compared(*figures)), chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
