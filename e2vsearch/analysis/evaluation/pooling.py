"""Pooling of segments: one vector for each channel of each recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation.dataset import EvaluationSet
from e2vsearch.vectors.exact import unit32


def by_recording(material: EvaluationSet) -> tuple[EvaluationSet, list[str]]:
    """Return the means of each channel of each recording, by length of its items; and notes on what is left out.

    A recording is one of the column ``call`` or, without one, a file. Its emotion is that of most of its seconds (a tie
    leaves it out), its speaker and text those that all its items have, or else unknown. Vectors are of length one
    before their mean is taken, as wherever recordings are compared.
    """
    if not material.rows:
        return material, []
    files: list[Hashable] = [
        ("call", row.call) if row.call else ("file", file)
        for row, file in zip(material.rows, material.files, strict=True)
    ]
    keys = list(zip(files, material.channels, strict=True))
    groups: dict[Hashable, list[int]] = {}
    for at, key in enumerate(keys):
        groups.setdefault(key, []).append(at)
    emotions = {key: _longest(material, items) for key, items in groups.items()}
    kept = {key: items for key, items in groups.items() if emotions[key] is not None}
    firsts = [items[0] for items in kept.values()]
    rows = tuple(
        replace(
            material.rows[items[0]],
            emotion=emotions[key] or "",
            speaker=_shared([material.rows[at].speaker for at in items]),
            text=_shared([material.rows[at].text for at in items]),
        )
        for key, items in kept.items()
    )
    made = replace(
        material,
        rows=rows,
        files=tuple(str(files[at]) for at in firsts),
        channels=tuple(material.channels[at] for at in firsts),
        lengths_s=np.array([material.lengths_s[items].sum() for items in kept.values()]),
        vectors={name: _means(unit32(each), kept.values(), material) for name, each in material.vectors.items()},
        scores={
            name: None if each is None else _means(each, kept.values(), material)
            for name, each in material.scores.items()
        },
    )
    notes = []
    if len(groups) == len(material.rows):
        notes.append("every recording is one segment: the figures by recording are those by segment")
    if tied := len(groups) - len(kept):
        notes.append(f"{tied:,} recordings are labelled with two emotions for equally long: left out")
    return made, notes


def _longest(material: EvaluationSet, items: Sequence[int]) -> str | None:
    seconds: Counter[str] = Counter()
    for at in items:
        seconds[material.rows[at].emotion] += float(material.lengths_s[at])  # type: ignore[assignment]
    (most, length), *rest = seconds.most_common(2)
    return None if rest and rest[0][1] == length else most


def _shared(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else ""


def _means(rows: NDArray[np.float32], groups: Iterable[list[int]], material: EvaluationSet) -> NDArray[np.float32]:
    weights = material.lengths_s
    means = [np.average(rows[items], axis=0, weights=weights[items]) for items in groups]
    return np.stack(means).astype(np.float32)
