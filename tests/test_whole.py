"""The whole way through: real calls with `light`, and emotion2vec's own vectors in a collection."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from made import call, save, speech

import e2vsearch
from e2vsearch import audio

REAL_CALLS = (  # the three that are asked for, and the shorter ones
    "aws_lca_auto40_stereo",
    "aws_pca_auto0_mono",
    "azure_katiesteve",
    "google_commercial_mono",
    "google_multi",
    "google_two_channel_16k",
    "ms_convo_132ac838",
)


@pytest.mark.slow
def test_a_clip_of_a_real_call_finds_that_call(shared_audio: Path, tmp_path: Path) -> None:
    calls = shared_audio / "calls" / "audio"
    several = [path for path in calls.iterdir() if path.stem in REAL_CALLS]
    with e2vsearch.open(tmp_path / "index", encoder="light", create=True) as collection:
        report = collection.ingest(*several)
        assert report.failures == ()
        assert report.stored == len(REAL_CALLS)
        for name in ("aws_lca_auto40_stereo", "aws_pca_auto0_mono", "ms_convo_132ac838"):
            path = calls / f"{name}.flac"
            [recording] = collection.recordings(str(path))
            segments = [each for each in collection.segments(recording.id) if each.end_s - each.start_s >= 3.0]
            segment = segments[len(segments) // 2]
            cut = audio.cut(path, segment.start_s, segment.end_s, channel=segment.channel)
            audio.write(tmp_path / "cut.wav", cut)
            best = collection.query(tmp_path / "cut.wav", k=5)[0]
            assert best.recording == recording.id
            assert best.channel == segment.channel
            assert min(best.end_s, segment.end_s) > max(best.start_s, segment.start_s)

            without = collection.query(segment.id, by="segment", k=20)
            assert segment.id not in [hit.segment for hit in without]
            itself = collection.query(segment.id, by="segment", k=20, include_self=True)[0]
            assert itself.segment == segment.id
            assert f"{itself.score:.4f}" == "1.0000"


@pytest.mark.torch
def test_a_collection_holds_emotion2vecs_own_vectors(tmp_path: Path) -> None:
    """Stored vectors equal `AutoModel.generate`, one clip at a time; the encoder's tests have the published shape."""
    for package in ("torch", "funasr"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("the 'emotion2vec' extra is not installed")
    from random_emotion2vec import write_model

    folder = write_model(tmp_path / "emotion2vec_folder", "tiny")
    calls = tmp_path / "calls"
    calls.mkdir()
    save(calls / "mono.wav", np.concatenate([speech(2.0, seed=1), np.zeros(20_000, np.float32), speech(3.1, seed=2)]))
    save(calls / "pair.wav", call([(0, 0.2, 3.0), (1, 3.5, 6.0)], 6.5))
    with e2vsearch.open(tmp_path / "index", encoder=str(folder), create=True) as collection:
        report = collection.ingest(calls)
        assert report.failures == ()
        assert report.segments >= 4
        space = collection.space
        hits = collection.query(calls / "pair.wav", k=2)
        assert (hits[0].name, round(hits[0].score or 0, 5)) == ("pair", 1.0)
        stored = {
            segment.id: (segment, collection.recordings(segment.recording)[0])
            for _, segment in collection.catalog.segments()
        }
        assert collection.projections.view().projection.name == "head"
        batch = collection.catalog.feed().fetch(np.arange(1, len(stored) + 1))
    with e2vsearch.open(tmp_path / "index", create=True) as again:  # the collection knows how to open its encoder
        assert again.encoder().space == space

    from funasr import AutoModel

    model = AutoModel(model=str(folder), device="cpu", disable_update=True, disable_pbar=True, log_level="ERROR")
    for number, vector in zip(batch.ids.tolist(), batch.vectors, strict=True):
        segment, recording = stored[f"seg:{number}"]
        clip = audio.cut(recording.uri, segment.start_s, segment.end_s, channel=segment.channel)[0]
        [made] = model.generate(clip, granularity="utterance", extract_embedding=True)
        assert vector.shape == made["feats"].shape
        assert np.abs(vector - made["feats"]).max() < 1e-5
        assert list(segment.scores.values()) == pytest.approx(made["scores"], abs=1e-5)
