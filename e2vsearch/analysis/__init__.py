"""What a collection's vectors say of the whole: labels of one's own with their classifiers, and maps with clusters.

Knows an open collection and numbers, nothing of how results are printed or asked for. `Collection` here is what
`e2vsearch.open` gives: it can be asked, added to, labelled and mapped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from e2vsearch.ingest import runner

if TYPE_CHECKING:
    from e2vsearch.analysis.evaluation.types import Condition, Evaluation
    from e2vsearch.analysis.labels.types import Classified, ClassifierReport, LabelReport, Suggestion
    from e2vsearch.analysis.maps.types import Map, MapOptions
    from e2vsearch.types import By

__all__ = ["Collection"]


class Collection(runner.Collection):
    """A collection with all its verbs. The rooms behind these load when they are first used."""

    def label(self, label: str, *examples: str | os.PathLike[str] | bytes, speaker: str | None = None) -> LabelReport:
        """Give moments a label of one's own: see `e2vsearch.analysis.labels.add_examples`."""
        from e2vsearch.analysis.labels import examples as labels

        return labels.add_examples(self, label, *examples, speaker=speaker)

    def suggest(self, k: int = 10, classifier: str | None = None, where: str | None = None) -> tuple[Suggestion, ...]:
        """Moments worth labelling next: see `e2vsearch.analysis.labels.suggest`."""
        from e2vsearch.analysis.labels import active_learning

        return active_learning.suggest(self, k, classifier, where)

    def train(
        self,
        name: str = "labels",
        *,
        labels: Sequence[str] | None = None,
        speaker_keys: Sequence[str] = (),
        seed: int = 0,
    ) -> ClassifierReport:
        """Train a classifier of one's own labels, and judge it honestly: see `e2vsearch.analysis.labels.train`."""
        from e2vsearch.analysis.labels.train import train

        return train(self, name, labels=labels, speaker_keys=speaker_keys, seed=seed)

    def classify(self, name: str | None = None, where: str | None = None, *, min_score: float = 0.5) -> Classified:
        """Let a classifier judge the collection's segments: see `e2vsearch.analysis.labels.classify`."""
        from e2vsearch.analysis.labels import predict

        return predict.classify(self, name, where, min_score=min_score)

    def evaluate(
        self,
        labels: str | os.PathLike[str],
        projection: str | None = None,
        *,
        by: By = "segment",
        condition: Condition = "clean",
        seed: int = 0,
    ) -> Evaluation:
        """How well its space finds the same emotion in other voices: see `e2vsearch.analysis.evaluation.evaluate`.

        Clean, its stored segments are compared; for telephone copies its encoder hears the files anew.
        """
        from e2vsearch.analysis.evaluation.evaluate import evaluate

        encoder = None if condition == "clean" else self.encoder()
        return evaluate(labels, encoder, collection=self, projection=projection, by=by, condition=condition, seed=seed)

    def map(
        self,
        name: str = "map",
        by: By = "segment",
        where: str | None = None,
        options: MapOptions | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Map:
        """Make a map with clusters, and store it: see `e2vsearch.analysis.maps.build.make`."""
        from e2vsearch.analysis.maps import build

        return build.make(self, name, by, where, options, progress)
