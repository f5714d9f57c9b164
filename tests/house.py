"""A collection that recalibrates, and the questions that every door to it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made import save, silence, speech
from shipped_head import knowing

import e2vsearch
from e2vsearch.catalog import text_search
from e2vsearch.collection import Collection
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.integrations.documents import describe
from e2vsearch.search.query import Query, Reference
from e2vsearch.search.result import QueryResult

Plain = dict[str, Any]

RECORDINGS, TURNS = 8, 4
PITCHES_HZ = np.geomspace(90.0, 280.0, RECORDINGS).tolist()
SHARPNESS = 0.8  # so that some segments are "unsure"
CLIP = "{clip}"  # stands for a file that is not stored


class ShipsProjection(FakeEncoder):
    """The fake encoder, with a projection that is installed and recalibrates its probabilities."""

    def projection(self) -> bytes:
        low, high = (FakeEncoder().encode([speech(1.6, pitch_hz=hz)]).vectors[0] for hz in (90.0, 280.0))
        return knowing(np.stack([low, high]), sharpness=SHARPNESS).pack()


@dataclass(frozen=True)
class House:
    """The collection, what opens its doors, and two clips that it does not hold."""

    collection: Collection
    index: Path
    clips: tuple[Path, Path]
    client: Any  # of the service; None without the extra

    def filled(self, question: Plain) -> Plain:
        """The question with the clip's path in its place."""
        return dict(json.loads(json.dumps(question).replace(CLIP, str(self.clips[0]))))


def open_house(folder: Path) -> Iterator[House]:
    """The collection, made and opened in an empty folder, and its service."""
    calls, clips = folder / "calls", (folder / "clips" / "angry.wav", folder / "clips" / "calm.wav")
    for each in (calls, clips[0].parent):
        each.mkdir()
    rows = ["file,queue,product"]
    for number, pitch_hz in enumerate(PITCHES_HZ):
        turns = [speech(1.6, seed=10 * number + turn, pitch_hz=pitch_hz * 1.1**turn) for turn in range(TURNS)]
        signal = np.concatenate([part for turn in turns for part in (turn, silence(1.2))])
        save(calls / f"{number}.wav", np.stack([signal, signal[::-1]]) if number == 5 else signal)
        rows.append(f"{number}.wav,{('billing', 'sales')[number % 2]},{'anna' if number < 3 else 'bela'}")
    (folder / "calls.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    save(clips[0], np.concatenate([speech(1.7, seed=91, pitch_hz=210.0), silence(1.2), speech(1.4, seed=92)]))
    save(clips[1], speech(2.0, seed=93, pitch_hz=115.0))
    index = folder / "index"
    with e2vsearch.open(index, encoder=ShipsProjection(), create=True) as collection:
        report = collection.ingest(calls, meta=folder / "calls.csv", workers=1)
        assert (report.stored, report.failures) == (RECORDINGS, ())
        for number in (1, 2, 5):
            segments = [int(each.id.removeprefix("seg:")) for each in collection.segments(f"call:{number}")]
            text_search.put(collection.catalog, number, dict.fromkeys(segments, f"my refund, number {number}"))
        collection.labels.add("hesitant", "seg:3", "seg:9")
        ids = [each.id for each in collection.segments()]
        vectors = np.random.default_rng(0).standard_normal((len(ids), 6))
        collection.named_vectors.attach("voice", ids, vectors)
        yield from _served(collection, index, clips)


def _served(collection: Collection, index: Path, clips: tuple[Path, Path]) -> Iterator[House]:
    try:
        from fastapi.testclient import TestClient

        from e2vsearch.server import create_app
        from e2vsearch.server.options import ServiceOptions
    except ImportError:
        yield House(collection, index, clips, None)
        return
    app = create_app(collection, ServiceOptions(roots=(clips[0].parent,)))
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        yield House(collection, index, clips, client)


# --- questions, as JSON: fields of `Query`, a reference with a weight as a pair

QUESTIONS: dict[str, Plain] = {
    "segment": {"references": ["seg:1"]},
    "recording": {"references": ["call:2"], "k": 5},
    "clip": {"references": [CLIP], "k": 4},
    "clip, explained": {"references": [CLIP], "explain": True},
    "clip, by segment": {"references": [CLIP], "by": "segment", "k": 30, "explain": True},
    "emotion": {"emotion": {"low": 1.0}, "k": 3, "explain": True},
    "label": {"references": ["label:hesitant"], "by": "segment"},
    "mixture": {"emotion": {"low": 1.0, "high": -0.5}, "by": "segment"},
    "filtered": {"references": ["seg:1"], "where": 'queue = "billing" and channel = 0', "text": "refund"},
    "avoid": {"references": [CLIP], "avoid": ["seg:5", "emotion:high"], "explain": True},
    "avoid, beside a clip": {"references": [CLIP], "avoid": [["seg:9", 0.3]], "explain": True},
    "all beside a clip": {
        "references": [CLIP],
        "emotion": {"low": 0.5, "high": -0.2},
        "min_probability": 0.1,
        "include_self": True,
        "by": "segment",
    },
    "avoid, by weight": {"references": ["seg:1"], "avoid": [["seg:9", 0.3]], "explain": True},
    "weights": {"references": [["call:1", 2.0], ["seg:9", 1.0]], "explain": True},
    "several": {"references": ["call:1", "seg:9", CLIP], "by": "segment", "exact": True},
    "probable": {"references": ["seg:1"], "emotion": {"low": 0}, "min_probability": 0.5, "by": "segment"},
    "trajectory": {"trajectory": "call:2", "explain": True},
    "trajectory of a clip": {"trajectory": CLIP},
    "stages": {"trajectory": "emotion:low,emotion:high", "k": 3},
    "groups": {"references": ["seg:1"], "group_by": ["queue"], "group_size": 2, "by": "segment"},
    "groups, a size each": {"references": ["seg:1"], "group_by": ["queue", "recording"], "group_size": [3, 1]},
    "itself": {"references": ["call:1", "seg:9"], "include_self": True, "by": "segment", "explain": True},
    "exact": {"references": ["call:3"], "exact": True, "where": "product = bela"},
    "lax": {"references": ["seg:1"], "consistency": "any"},
    "filter alone": {"where": "queue = billing and channel = 0"},
    "filter alone, by segment": {"where": "product = bela", "by": "segment", "k": 7},
    "words alone": {"text": "refund", "k": 2, "group_by": ["queue"]},
    "named vectors": {"references": ["seg:1"], "named_vectors": {"voice": 0.5}, "by": "segment"},
}


def answer(result: QueryResult, house: House) -> Plain:
    """A result as JSON has it, with the text that a model reads of each hit."""
    texts = [describe(hit, house.collection.space) for hit in result]
    return dict(json.loads(json.dumps(asdict(result)))) | {"texts": texts, "seconds": None}


def python(question: Plain) -> Query:
    return Query(**question | {name: _references(question.get(name, ())) for name in ("references", "avoid")})


def _references(given: Any) -> tuple[Reference, ...]:
    return tuple(Reference(*each) if isinstance(each, list) else Reference(each) for each in given)
