from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest

from e2vsearch.encoders import embedding_files
from e2vsearch.errors import AudioError, VectorFileError

SCORES = {
    "angry": 0.721,
    "disgusted": 0.01,
    "fearful": 0.02,
    "happy": 0.03,
    "neutral": 0.1,
    "other": 0.019,
    "sad": 0.05,
    "surprised": 0.03,
    "unknown": 0.02,
}
RESULT = {
    "emotion": "angry",
    "confidence": 0.721,
    "scores": SCORES,
    "granularity": "utterance",
    "timestamp": "2026-01-04 22:30:00",
}


def vector(dim: int = 8, rows: int | None = None, dtype: str = "f4", seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((rows, dim) if rows else dim).astype(dtype)


def save(path: Path, array: np.ndarray[Any, Any]) -> Path:
    with path.open("wb") as file:  # numpy.save would add a suffix to "B.NPY"
        np.save(file, array)
    return path


def results_folder(root: Path, name: str = "outputs_20260104_223000", **result: Any) -> Path:
    """What the web page leaves behind for a clip of 1.8 s."""
    folder = root / name
    folder.mkdir()
    save(folder / "embedding.npy", vector())
    made.save(folder / "processed_audio.wav", made.speech(1.8))
    (folder / "result.json").write_text(json.dumps(RESULT | result), encoding="utf-8")
    return folder


# ---------------------------------------------------------------------------------------------------------- vectors


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
@pytest.mark.parametrize("rows", [None, 1])
def test_an_utterance_of_any_width_and_float_type_is_one_vector(tmp_path: Path, dtype: str, rows: int | None) -> None:
    array = vector(1024, rows, dtype)
    recording = embedding_files.read(save(tmp_path / "call.npy", array))
    assert recording.vectors.dtype == np.float32
    np.testing.assert_allclose(recording.vectors, array.reshape(1, 1024), rtol=1e-3)
    assert recording.granularity == "utterance"
    assert recording.spans_s == ((0.0, 0.0),)
    assert (recording.audio, recording.labels, recording.scores) == (None, (), None)


@pytest.mark.parametrize(
    ("frames", "windows"), [(2, 1), (99, 1), (750, 1), (751, 2), (1500, 2), (1501, 3), (15_000, 20), (15_001, 21)]
)
def test_frames_are_averaged_over_equal_windows_of_at_most_15_s(tmp_path: Path, frames: int, windows: int) -> None:
    array = vector(4, frames)
    recording = embedding_files.read(save(tmp_path / "call.npy", array))
    assert recording.granularity == "frame"
    assert recording.vectors.shape == (windows, 4)
    assert len(recording.spans_s) == windows
    assert recording.spans_s[0][0] == 0.0
    assert recording.spans_s[-1][1] == frames / 50
    lengths = [round((end - start) * 50) for start, end in recording.spans_s]
    assert max(lengths) <= 750
    assert max(lengths) - min(lengths) <= 1
    for row, (start, end) in zip(recording.vectors, recording.spans_s, strict=True):
        np.testing.assert_allclose(row, array[round(start * 50) : round(end * 50)].mean(axis=0), atol=1e-5)


def test_half_precision_frames_do_not_overflow_in_the_mean(tmp_path: Path) -> None:
    path = save(tmp_path / "call.npy", np.full((700, 4), 1000.0, np.float16))  # their sum is ten times float16's limit
    np.testing.assert_array_equal(embedding_files.read_vectors(path), np.full((1, 4), 1000.0, np.float32))


def test_frames_in_fortran_order_are_the_same(tmp_path: Path) -> None:
    array = vector(4, 1000)
    one = embedding_files.read_vectors(save(tmp_path / "c.npy", array))
    np.testing.assert_array_equal(embedding_files.read_vectors(save(tmp_path / "f.npy", np.asfortranarray(array))), one)


def test_a_long_file_is_not_read_into_memory(tmp_path: Path) -> None:
    array = np.lib.format.open_memmap(tmp_path / "day.npy", "w+", np.float32, (50_000, 256))  # 51 MB, 17 minutes
    array[:] = 1.0
    del array
    tracemalloc.start()
    vectors = embedding_files.read_vectors(tmp_path / "day.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.shape == (67, 256)
    assert peak < 8_000_000


def test_a_wrong_dimension_names_both(tmp_path: Path) -> None:
    path = save(tmp_path / "call.npy", vector(384))
    assert embedding_files.read_vectors(path, 384).shape == (1, 384)
    with pytest.raises(VectorFileError, match=r"call\.npy holds 384-d vectors where 1024-d are needed"):
        embedding_files.read_vectors(path, 1024)


# ----------------------------------------------------------------------------------------------------------- damage


class Payload:
    """Leaves a mark if it is ever unpickled."""

    ran = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _mark, ()


def _mark() -> None:
    Payload.ran = True


def _poisoned(value: float) -> np.ndarray[Any, Any]:
    array = vector(8, 900)
    array[850, 3] = value
    return array


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, embedding=vector())


def _cut(path: Path) -> None:
    save(path, vector())
    path.write_bytes(path.read_bytes()[:-8])


def _header(path: Path, text: str) -> None:
    save(path, vector())
    data = path.read_bytes()
    path.write_bytes(data[:10] + text.encode().ljust(117) + b"\n" + data[128:])


BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "pickled": ("pickled Python objects", lambda p: np.save(p, np.array([Payload()]), allow_pickle=True)),
    "bare pickle": ("not an .npy file", lambda p: p.write_bytes(pickle.dumps([1.0, 2.0]))),
    "npz": ("perhaps an .npz", _npz),
    "text": ("not an .npy file", lambda p: p.write_text("0.1 0.2 0.3")),
    "empty": ("but empty", lambda p: p.write_bytes(b"")),
    "cut": ("truncated: it holds 24 of 32 bytes", _cut),
    "cut header": ("damaged .npy header", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00\x76\x00{'descr'")),
    "broken header": ("damaged .npy header", lambda p: _header(p, "{'descr': '<f4', 'shape'")),
    "no header": ("damaged .npy header", lambda p: _header(p, "()")),
    "unknown version": ("damaged .npy header", lambda p: p.write_bytes(b"\x93NUMPY\x09\x09" + bytes(200))),
    "negative shape": (
        "has the shape",
        lambda p: _header(p, "{'descr': '<f4', 'fortran_order': False, 'shape': (-8,)}"),
    ),
    "huge shape": (
        "truncated",
        lambda p: _header(p, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 1024)}"),
    ),
    "integers": ("holds int64", lambda p: np.save(p, np.arange(8))),
    "complex": ("holds complex64", lambda p: np.save(p, np.ones(8, np.complex64))),
    "words": ("holds <U5", lambda p: np.save(p, np.array(["angry"]))),
    "records": ("not float16", lambda p: np.save(p, np.zeros(3, [("a", "f4"), ("b", "f4")]))),
    "scalar": ("has the shape ()", lambda p: np.save(p, np.float32(1.0))),
    "three axes": ("has the shape (1, 2, 8)", lambda p: np.save(p, np.ones((1, 2, 8), np.float32))),
    "no rows": ("has the shape (0, 8)", lambda p: np.save(p, np.ones((0, 8), np.float32))),
    "no columns": ("has the shape (0,)", lambda p: np.save(p, np.ones(0, np.float32))),
    "NaN": ("NaN, infinite or huge", lambda p: np.save(p, _poisoned(np.nan))),
    "infinite": ("NaN, infinite or huge", lambda p: np.save(p, _poisoned(np.inf))),
    "huge": ("NaN, infinite or huge", lambda p: np.save(p, np.full(8, 1e300))),
    "zeros": ("vector of zeros", lambda p: np.save(p, np.zeros(8, np.float32))),
    "a window of zeros": ("vector of zeros", lambda p: np.save(p, np.repeat([[1.0], [0.0]], 750, axis=0))),
    "vanishing": ("vector of zeros", lambda p: np.save(p, np.full(8, 1e-300))),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_unusable_file_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    message, write = BAD[kind]
    path = tmp_path / "call.npy"
    write(path)
    for read in (embedding_files.read, embedding_files.read_vectors):
        with pytest.raises(VectorFileError) as caught:
            read(path)
        text = str(caught.value)
        assert message in text
        assert str(path) in text
        assert "\n" not in text
    assert not Payload.ran


def test_any_damage_to_a_header_is_a_vector_file_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = save(tmp_path / "call.npy", vector()).read_bytes()
    path = tmp_path / "damaged.npy"
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(6, 128, rng.integers(1, 6)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        with suppress(VectorFileError):  # a few changes leave a usable header
            embedding_files.read(path)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "outputs_20260104_223000").mkdir()
    for path in (tmp_path / "call.npy", tmp_path / "outputs_20260104_223000"):
        with pytest.raises(VectorFileError, match="have the embedding extracted"):
            embedding_files.read(path)


# ----------------------------------------------------------------------------------------------------- result folders


@pytest.mark.parametrize("given", ["folder", "file"])
def test_a_result_folder_is_read_with_its_audio_and_scores(tmp_path: Path, given: str) -> None:
    folder = results_folder(tmp_path)
    recording = embedding_files.read(folder if given == "folder" else folder / "embedding.npy")
    assert recording.path == folder / "embedding.npy"
    assert recording.audio == folder / "processed_audio.wav"
    assert recording.spans_s == ((0.0, 1.8),)
    assert recording.labels == tuple(SCORES)
    assert recording.scores is not None
    np.testing.assert_allclose(recording.scores, np.array([list(SCORES.values())], np.float32))
    np.testing.assert_array_equal(recording.vectors, [vector()])


def test_class_names_are_taken_by_name_in_any_order(tmp_path: Path) -> None:
    scores = {"<unk>": 0.1, "开心/happy": 0.2, "生气/Angry": 0.7}
    recording = embedding_files.read(results_folder(tmp_path, scores=scores))
    assert recording.scores is not None
    named = dict(zip(recording.labels, recording.scores[0].tolist(), strict=True))
    assert named == pytest.approx(dict.fromkeys(SCORES, 0.0) | {"angry": 0.7, "happy": 0.2, "unknown": 0.1})


def test_frames_of_a_result_folder_have_times_and_the_recordings_own_scores(tmp_path: Path) -> None:
    folder = results_folder(tmp_path, granularity="frame")
    save(folder / "embedding.npy", vector(8, 1000))
    recording = embedding_files.read(folder)
    assert recording.granularity == "frame"
    assert recording.spans_s == ((0.0, 10.0), (10.0, 20.0))
    assert recording.scores is not None
    np.testing.assert_array_equal(recording.scores[0], recording.scores[1])


def test_a_result_folder_may_lack_audio_or_scores(tmp_path: Path) -> None:
    folder = results_folder(tmp_path)
    (folder / "processed_audio.wav").unlink()
    (folder / "result.json").write_text('{"emotion": "angry"}')
    recording = embedding_files.read(folder)
    assert (recording.audio, recording.labels, recording.scores) == (None, (), None)
    assert recording.spans_s == ((0.0, 0.0),)


@pytest.mark.parametrize(
    "text",
    [
        "{'emotion': 'angry'}",
        "",
        "[1, 2]",
        "\x00\xff",
        '{"scores": {"angry": "very"}}',
        '{"scores": {"hungry": 0.7}}',
        '{"scores": [0.7, 0.3]}',
        '{"scores": {"angry": NaN}}',
        '{"scores": {"angry": -0.5}}',
    ],
)
def test_a_broken_result_file_is_named(tmp_path: Path, text: str) -> None:
    folder = results_folder(tmp_path)
    (folder / "result.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(VectorFileError, match=r"result\.json.*mend or remove it$") as caught:
        embedding_files.read(folder)
    assert "\n" not in str(caught.value)
    assert embedding_files.read_vectors(folder).shape == (1, 8)  # a query needs only the vector


def test_broken_audio_beside_the_vector_is_named(tmp_path: Path) -> None:
    folder = results_folder(tmp_path)
    (folder / "processed_audio.wav").write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match=r"processed_audio\.wav"):
        embedding_files.read(folder)


def test_another_files_result_is_not_taken(tmp_path: Path) -> None:
    folder = results_folder(tmp_path)
    assert embedding_files.read(save(folder / "other.npy", vector())).scores is None


# ------------------------------------------------------------------------------------------------------ find and space


def test_find_gives_each_file_and_result_folder_once(tmp_path: Path) -> None:
    first = results_folder(tmp_path)
    (tmp_path / "day").mkdir()
    second = results_folder(tmp_path / "day", "outputs_20260105_080000")
    plain = [save(tmp_path / "a.npy", vector()), save(tmp_path / "day" / "B.NPY", vector())]
    beside = save(first / "other.npy", vector())
    (tmp_path / "outputs_20260106_000000").mkdir()  # the page makes one even where no embedding was asked for
    (tmp_path / "calls.csv").write_text("id")
    found = list(embedding_files.find(tmp_path))
    assert sorted(found) == sorted([first, second, *plain, beside])
    assert all(embedding_files.is_saved(path) for path in found)
    assert list(embedding_files.find(first)) == [first]
    assert list(embedding_files.find(plain[0])) == [plain[0]]
    assert list(embedding_files.find(tmp_path / "calls.csv")) == []


@pytest.mark.parametrize("name", ["call.wav", "nowhere.npy", "outputs_1"])
def test_anything_else_is_not_saved_embeddings(tmp_path: Path, name: str) -> None:
    (tmp_path / "call.wav").write_bytes(b"")
    assert not embedding_files.is_saved(tmp_path / name)


def test_one_space_for_all_files_of_one_dimension(tmp_path: Path) -> None:
    plain = embedding_files.read(save(tmp_path / "a.npy", vector()))
    scored = embedding_files.read(results_folder(tmp_path))
    wider = embedding_files.read(save(tmp_path / "b.npy", vector(1024)))
    assert embedding_files.space_of(plain) == embedding_files.space_of(scored)
    assert embedding_files.space_of(plain) != embedding_files.space_of(wider)
    assert (embedding_files.space_of(wider).encoder, embedding_files.space_of(wider).dim) == ("saved", 1024)
