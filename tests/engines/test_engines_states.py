"""A state machine over each engine, against brute force: add, delete, upsert, filter, build, restart, be killed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_sides import Opened, Side
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memory_source import MemorySource, clustered

from e2vsearch.vectors.exact import UnitVectors

DIM = 8
EXAMPLES = {"exact": 25, "faiss": 15, "pgvector": 15, "milvus-lite": 3, "milvus": 1}
STEPS = {"milvus-lite": 12, "milvus": 10}


class Killed(BaseException):
    """Stands for the end of the process."""


def machine(side: Side) -> type[RuleBasedStateMachine]:
    """The state machine of one engine."""

    class Machine(RuleBasedStateMachine):
        opened: Opened

        @initialize(n=st.integers(1, 60), seed=st.integers(0, 99))
        def start(self, n: int, seed: int) -> None:
            self.opened = side.open(MemorySource(clustered(n, DIM, seed)))
            self.seen = 0

        @rule(n=st.integers(1, 12), seed=st.integers(100, 199))
        def add(self, n: int, seed: int) -> None:
            self.opened.source.add(clustered(n, DIM, seed))

        @rule(share=st.floats(0, 0.6), seed=st.integers(0, 99))
        def delete(self, share: float, seed: int) -> None:
            ids = self.opened.source.ids
            self.opened.source.remove(np.random.default_rng(seed).choice(ids, int(share * len(ids)), replace=False))

        @rule()
        def build(self) -> None:
            self.opened.build()

        @rule()
        def restart(self) -> None:
            self.opened.index = self.opened.opened()

        @rule()
        def drop(self) -> None:
            self.opened.index.drop()
            self.seen = 0

        @precondition(lambda self: side.engine is not None)
        @rule(share=st.floats(0, 1), seed=st.integers(0, 99))
        def upsert_again(self, share: float, seed: int) -> None:
            """As a builder does that was killed after its data and before its watermark: nothing is there twice."""
            engine, source = self.opened.engine, self.opened.source
            watermark = engine.filled().watermark
            if watermark is None:
                return
            held = engine.ids(0, 10_000)
            there = held[np.isin(held, source.ids)]
            some = np.random.default_rng(seed).choice(there, int(share * len(there)), replace=False)
            engine.apply([UnitVectors.of(source.fetch(some))], np.empty(0, np.int64), watermark, watermark)
            assert engine.count() == len(held)
            assert engine.ids(0, 10_000).tolist() == held.tolist()

        @precondition(lambda self: side.engine is not None)
        @rule(after=st.integers(0, 2))
        def be_killed_between_apply_and_commit(self, after: int) -> None:
            engine, source = self.opened.engine, self.opened.source
            before = engine.filled().watermark
            if before is None:
                return
            changes = source.changes_since(before)

            def rows() -> Iterator[UnitVectors]:
                for number in changes.added[:after].tolist():
                    yield UnitVectors.of(source.fetch(np.array([number])))
                raise Killed

            with source.snapshot() as snapshot, pytest.raises(Killed):
                engine.apply(rows(), changes.removed, before, snapshot.watermark)
            assert engine.filled().watermark == before
            self.opened.index = self.opened.opened()

        @rule(k=st.integers(1, 25), seed=st.integers(0, 99), share=st.floats(0, 1), out=st.integers(0, 3))
        def search(self, k: int, seed: int, share: float, out: int) -> None:
            ids = np.arange(1, self.opened.source.ids.max(initial=0) + 2)
            rng = np.random.default_rng(seed)
            allowed = np.sort(rng.choice(ids, int(share * len(ids)), replace=False)) if share < 0.9 else None
            recall = self.opened.check(clustered(2, DIM, seed), k, allowed, rng.choice(ids, out) if out else None)
            # of a few neighbours; HNSW's levels are random, and its recall on planted data is the contract's to hold
            assert recall >= (0.8 if side.engine is not None else 0.95)

        @invariant()
        def the_watermark_is_never_ahead_of_its_data(self) -> None:
            if side.engine is None or not hasattr(self, "opened"):
                return
            engine, source = self.opened.engine, self.opened.source
            watermark = engine.filled().watermark
            assert watermark is None or watermark >= self.seen, "it never goes back"
            self.seen = watermark or 0
            if watermark is not None:
                changes = source.changes_since(watermark)
                expected = np.setdiff1d(source.ids, changes.added)
                assert np.isin(expected, engine.holds(expected)).all() if expected.size else True
                assert source.snapshot().__enter__().watermark >= watermark

    return Machine


@pytest.mark.slow
def test_every_history_is_answered_right(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2vsearch.vectors.engines.search._GATHER_ROWS", 5)  # so that filters reach the engine
    options: Any = settings(
        max_examples=EXAMPLES[side.name],
        stateful_step_count=STEPS.get(side.name, 25),
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(side), settings=options)
