"""The encoder for mteb: what it makes of clips, and, where mteb is installed, mteb's own tasks over made audio."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.encoders import base, registry
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AudioInvalid, AudioNotFound, MissingExtra, SettingsError
from e2vsearch.integrations.mteb import E2vsearchEncoder, leave_encoded
from e2vsearch.projections import network

TASK = {"task_metadata": SimpleNamespace(name="Made"), "hf_split": "train", "hf_subset": "default"}


def tone(pitch_hz: float, length_s: float = 0.5, rate_hz: int = 16_000) -> NDArray[np.float32]:
    at = np.arange(round(length_s * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * pitch_hz * at)).astype(np.float32)


def clip(signal: Any, rate_hz: int = 16_000) -> dict[str, Any]:
    return {"array": signal, "sampling_rate": rate_hz}


def raw(*clips: Any) -> NDArray[np.float32]:
    return E2vsearchEncoder(FakeEncoder(), projection="raw").encode([{"audio": list(clips)}], **TASK)  # type: ignore[arg-type]


def vectors(*signals: NDArray[np.float32]) -> NDArray[np.float32]:
    return FakeEncoder().encode(signals).vectors


def test_clips_come_out_in_their_order_whatever_the_batches() -> None:
    signals = [tone(200, 0.4), tone(300, 0.9), tone(700, 0.2), tone(90), tone(1500, 1)]
    encoder = E2vsearchEncoder(FakeEncoder(), projection="raw")
    for size in (1, 2, 5):
        batches = [{"audio": [clip(each) for each in signals[at : at + size]]} for at in range(0, 5, size)]
        found = encoder.encode(batches, **TASK, batch_size=size)  # type: ignore[arg-type]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, vectors(*signals))


def test_no_clips_are_no_vectors() -> None:
    assert E2vsearchEncoder(FakeEncoder(), projection="raw").encode([], **TASK).shape == (0, 16)  # type: ignore[arg-type]
    assert E2vsearchEncoder("light").encode([], **TASK).shape[0] == 0  # type: ignore[arg-type]


def test_other_rates_are_resampled() -> None:
    signal = tone(440, rate_hz=44_100)
    np.testing.assert_array_equal(raw(clip(signal, 44_100)), vectors(audio.read(signal, sampling_rate_hz=44_100)[0]))
    np.testing.assert_allclose(raw(clip(signal, 44_100)), raw(clip(tone(440))), atol=0.5)


def test_channels_are_averaged() -> None:
    left, right = tone(300), tone(900)
    np.testing.assert_array_equal(raw(clip(np.stack([left, right]))), vectors((left + right) / np.float32(2)))


def test_integers_and_doubles_are_the_same_clip() -> None:
    pcm = np.round(tone(300) * 32768).astype(np.int16)
    scaled = pcm.astype(np.float32) / np.float32(32768)
    expected = vectors(scaled)
    for each in (pcm, scaled, scaled.astype(np.float64), scaled.tolist()):
        np.testing.assert_array_equal(raw(clip(each)), expected)


def test_a_long_clip_is_the_mean_of_its_equal_parts() -> None:
    signal = np.concatenate([tone(200, 21), tone(1000, 21), tone(3000, 21)])  # 63 s: three parts
    found = raw(clip(tone(50)), clip(signal), clip(tone(70)))
    expected = [vectors(tone(50))[0], vectors(*np.split(signal, 3)).mean(axis=0), vectors(tone(70))[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_just_30_s_is_one_part() -> None:
    signal = tone(200, base.MAX_SIGNAL_S)
    np.testing.assert_array_equal(raw(clip(signal)), vectors(signal))
    longer = np.append(signal, signal[:1])
    np.testing.assert_allclose(raw(clip(longer)), vectors(*np.array_split(longer, 2)).mean(axis=0)[None], rtol=1e-6)


def test_a_short_clip_is_filled_up_with_silence() -> None:
    signal = tone(300, 0.01)
    np.testing.assert_array_equal(raw(clip(signal)), vectors(np.pad(signal, (0, 640 - 160))))


def test_encoded_clips_are_decoded_here(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    audio.write(path, tone(300))
    expected = vectors(audio.read(path)[0])
    for each in ({"bytes": path.read_bytes(), "path": "clip.wav"}, {"bytes": None, "path": str(path)}):
        np.testing.assert_array_equal(raw(each), expected)


class Decoder:
    """As torchcodec's, in datasets: two keys and no mapping."""

    def __getitem__(self, key: str) -> Any:
        return clip(tone(300))[key]


def test_decoders_give_their_samples() -> None:
    np.testing.assert_array_equal(raw(Decoder()), vectors(tone(300)))


def test_the_default_projection_is_the_shipped_one_at_rest() -> None:
    light = registry.open("light")
    signals = [tone(200, 1), tone(500, 1)]
    resting = network.unpack(light.projection() or b"")
    found = E2vsearchEncoder(light).encode([{"audio": [clip(each) for each in signals]}], **TASK)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, resting.apply(light.encode(signals).vectors))
    alone = E2vsearchEncoder(light).encode([{"audio": [clip(signals[1])]}], **TASK)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[1:], alone)


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"no projection ships with fake.*projection='raw'"):
        E2vsearchEncoder(FakeEncoder())
    with pytest.raises(SettingsError, match="default or raw, not 'head'"):
        E2vsearchEncoder("light", projection="head")  # type: ignore[arg-type]


def test_a_bad_clip_is_named() -> None:
    encoder = E2vsearchEncoder(FakeEncoder(), projection="raw")
    damaged = clip(np.array([0.0, np.nan], np.float32))
    batches = [{"audio": [clip(tone(200)), clip(tone(300))]}, {"audio": [clip(tone(200)), damaged]}]
    with pytest.raises(AudioInvalid, match=r"^Made, default/train, clip 3: the array has NaN"):
        encoder.encode(batches, **TASK)  # type: ignore[arg-type]
    with pytest.raises(AudioNotFound, match=r"clip 0: 'absent\.wav' does not exist"):
        raw({"bytes": None, "path": "absent.wav"})
    with pytest.raises(SettingsError, match="Made, default/train: has text and no audio"):
        encoder.encode([{"text": ["angry"]}], **TASK)  # type: ignore[arg-type]


def test_without_mteb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mteb", "mteb.models", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[mteb\]'"):
        _ = E2vsearchEncoder("light").mteb_model_meta
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[mteb\]'"):
        leave_encoded(SimpleNamespace(dataset={}))


# --- with mteb


@pytest.fixture
def mteb() -> Any:
    return pytest.importorskip("mteb", reason="the 'mteb' extra is not installed")


def made(folder: Path) -> list[dict[str, Any]]:
    """40 encoded clips, half of them low and half high."""
    clips = []
    for at in range(40):
        path = folder / f"{at}.wav"
        audio.write(path, tone((150 if at % 2 else 2500) * (1 + at / 200), 0.3))
        clips.append({"bytes": path.read_bytes(), "path": path.name})
    return clips


@pytest.mark.filterwarnings("default")
def test_mteb_files_results_under_encoder_and_projection(mteb: Any) -> None:
    from mteb.models import EncoderProtocol

    encoder = E2vsearchEncoder("light", training_datasets=["CREMA_D"])
    assert isinstance(encoder, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.modalities, meta.training_datasets) == ("e2vsearch/light-shipped", ["audio"], {"CREMA_D"})
    plain = E2vsearchEncoder("light", projection="raw").mteb_model_meta
    assert (plain.name, plain.embed_dim) == ("e2vsearch/light-raw", 448)
    assert plain.revision != meta.revision


@pytest.mark.filterwarnings("default")
def test_tasks_of_mteb_run_from_end_to_end(mteb: Any, tmp_path: Path) -> None:
    """Audio that mteb has as its data has it: encoded, in a column that torchcodec would decode."""
    from datasets import Audio, Dataset, DatasetDict

    clips, labels = made(tmp_path), [at % 2 for at in range(40)]
    steps = [1 + at % 4 // 2 for at in range(40)]  # two on is a clip of the same class, the next one is not
    single = {"audio": clips, "label": labels}
    pairs = {"audio1": clips, "audio2": [clips[(at + step) % 40] for at, step in enumerate(steps)],
             "label": [step - 1 for step in steps]}  # fmt: skip
    encoder = E2vsearchEncoder(FakeEncoder(), projection="raw")
    scores = {}
    for name, columns in {"CREMA_D": single, "CREMA_DClustering": single, "CREMADPairClassification": pairs}.items():
        task = mteb.get_task(name)
        data = Dataset.from_dict(columns)
        for column in columns.keys() - {"label"}:
            data = data.cast_column(column, Audio())
        task.dataset = DatasetDict(dict.fromkeys(task.metadata.eval_splits, data))
        task.data_loaded = True
        leave_encoded(task)
        result = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
        scores[name] = result.task_results[0].get_score()
    assert scores["CREMA_D"] == 1.0
    assert scores["CREMA_DClustering"] > 0.9
    assert scores["CREMADPairClassification"] > 0.9
