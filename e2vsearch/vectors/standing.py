"""How an index stands: how far the collection has moved on, whether a build is due, what is promised. Only looks."""

from __future__ import annotations

from dataclasses import dataclass

from e2vsearch.vectors import IndexStatus
from e2vsearch.vectors.exact import Floats
from e2vsearch.vectors.generation import Generation
from e2vsearch.vectors.training import GROWN
from e2vsearch.vectors.tuning import recall_now
from e2vsearch.vectors.upkeep import Wanted

_SMALL = 1000  # SQLite reads 60,000 vectors a second and more: no generation is worth its files
_TAIL_ROWS, _TAIL_SHARE = 5000, 0.05  # a tail longer than both is due to be built in
_DEAD_SHARE = 0.1  # of the generation
_DRIFTED = 0.01  # of recall, which the same queries of the same index never lose


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the collection is from its generation, without reading a vector."""

    base: Generation | None
    damage: str | None
    live: int
    tail: int
    dead: int

    @property
    def due(self) -> str | None:
        """Why a build is due; None if none is. Below 1,000 segments only a damaged one is."""
        if self.damage is not None:
            return self.damage
        if self.live < _SMALL:
            return None
        if self.base is None:
            return f"there is no index yet over {self.live} segments"
        n, trained = self.base.manifest.n, self.base.manifest.trained
        if trained is not None and self.live >= GROWN * trained.n:
            return f"the index's lists were made for {trained.n} segments, {self.live} are there now"
        if self.tail > max(_TAIL_ROWS, _TAIL_SHARE * n):
            return f"{self.tail} segments came since the index was built over {n}"
        if self.dead > _DEAD_SHARE * n:
            return f"{self.dead} of the index's {n} segments are gone"
        return None

    def status(self, wanted: Wanted, drift: str | None) -> IndexStatus:
        """All of it.

        Args:
            wanted: what the next build is for.
            drift: what `drift` found, if it was asked.
        """
        base = self.base
        if base is None:
            return IndexStatus(
                "none", 0, self.tail, 0, wanted.target, damage=self.damage, due=self.due, asked_kind=wanted.kind
            )
        manifest, tuned = base.manifest, base.tuned
        first = tuned.tunings[0] if tuned.tunings else None
        return IndexStatus(
            kind=manifest.kind,
            n=manifest.n,
            tail=self.tail,
            tombstones=self.dead,
            target=tuned.target,
            recall=tuned.recall,
            nlist=manifest.nlist,
            nprobe=tuned.nprobe,
            k_factor=tuned.k_factor,
            built_at=manifest.built_at,
            size=base.size,
            faiss=manifest.faiss,
            watermark=manifest.watermark,
            generation=base.name,
            note="; ".join(note for note in (manifest.note, tuned.note) if note),
            due=self.due,
            recall_stored=first.recall_stored if first else 1.0,
            sample_stored=first.sample_stored if first else 0,
            recall_asked=first.recall_asked if first else None,
            sample_asked=first.sample_asked if first else 0,
            measured_at=tuned.measured_at,
            asked_kind=wanted.kind,
            trained_n=manifest.trained.n if manifest.trained else None,
            trained_at=manifest.trained.at if manifest.trained else None,
            drift=drift,
        )


def drift(base: Generation | None, asked: Floats) -> str | None:
    """How far what is found now is from what was promised, and the cure; None where it is as promised.

    Measures recall at the setting in use, on stored vectors and on the last queries `asked`: reads every vector of the
    generation once.
    """
    if base is None or base.ivf is None:
        return None
    tuning = base.tuned.tunings[0]
    stored, real = recall_now(base.ivf, base.vectors, base.ids, tuning, base.manifest.seed, asked)
    for recall, whose in ((stored, "stored vectors"), (real, "the last queries")):
        if recall is not None and recall < min(base.tuned.target, tuning.recall) - _DRIFTED:
            return (
                f"{recall:.3f} of the exact top {tuning.k} of {whose} is found where {tuning.recall:.3f} was measured "
                "before: e2vsearch index tune"
            )
    return None
