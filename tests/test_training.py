"""The training of `light`: what is tuned in torch is what ships as ONNX, and the head says the same in both."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from late import late
from numpy.typing import NDArray

from e2vsearch.encoders.light import feed, levelled

PACKAGES = ("torch", "onnx", "onnxruntime")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the training group is not installed"),
]
sys.path.append(str(Path(__file__).parents[1] / "training"))
if TYPE_CHECKING:
    import light_augment
    import light_calibrate
    import light_data
    import light_former
    import light_head
    import light_onnx
    import light_smooth
    import light_tune
    import light_voice
    import onnxruntime
    import torch
else:
    torch, onnxruntime = late("torch"), late("onnxruntime")
    light_augment = late("light_augment")
    light_calibrate = late("light_calibrate")
    light_data = late("light_data")
    light_former = late("light_former")
    light_head = late("light_head")
    light_onnx = late("light_onnx")
    light_smooth = late("light_smooth")
    light_tune = late("light_tune")
    light_voice = late("light_voice")

BLOCKS = (1, 2)


@pytest.fixture(scope="module")
def weights() -> Any:
    torch.manual_seed(0)
    return light_tune.Stem(max(BLOCKS)).export()


@pytest.fixture(scope="module")
def decades() -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.normal(-2, 1.5, (80, frames)).astype(np.float32) for frames in (61, 100, 140)]


def rows_of(
    labels: NDArray[np.int64],
    speakers: NDArray[np.int64],
    texts: NDArray[np.int64],
    corpora: NDArray[np.int64] | None = None,
) -> Any:
    weights = np.ones(len(labels), np.float32)
    corpora = np.zeros(len(labels), np.int64) if corpora is None else corpora
    return light_data.Rows(labels, labels, labels, weights, weights, speakers, texts, corpora)


def pooled(model: Any, picture: NDArray[np.float32]) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed(picture))


def test_the_stem_that_is_tuned_is_the_one_that_ships(weights: Any, decades: list[NDArray[np.float32]]) -> None:
    stem = light_tune.Stem(max(BLOCKS))
    stem.load(weights)
    graph = light_onnx.build(weights, BLOCKS, exact=True)
    for each in decades:
        picture = levelled(each)
        padded = np.zeros((1, 80, 160), np.float32)  # what is behind a clip must not be heard
        padded[0, :, : picture.shape[1]] = picture
        real = torch.arange(160)[None] < picture.shape[1]
        with torch.no_grad():
            after = stem(torch.from_numpy(padded), real)
        frames = -(-picture.shape[1] // 2)
        own = [after[block - 1][0, :frames].numpy() for block in BLOCKS]
        expected = [part for each in own for part in (each.mean(axis=0), each.std(axis=0))][1:]
        expected += [picture[:, ::2].mean(axis=1), picture[:, ::2].std(axis=1)]
        assert pooled(graph, picture)[0][0] == pytest.approx(np.concatenate(expected), abs=2e-3)


def test_a_long_clip_is_heard_in_stretches(weights: Any) -> None:
    stem = light_tune.Stem(max(BLOCKS))
    stem.load(weights)
    graph = light_onnx.build(weights, BLOCKS, exact=True)
    rng = np.random.default_rng(5)
    for frames in (light_onnx.STRETCH, light_onnx.STRETCH + 1, 2 * light_onnx.STRETCH, 643):
        picture = rng.normal(0, 1, (80, 2 * frames)).astype(np.float32)
        stretches = -(-frames // light_onnx.STRETCH)
        length = -(-frames // stretches)
        starts = torch.minimum(torch.arange(frames) // length * length, torch.tensor(frames - length))[:, None]
        hidden = (torch.arange(frames) < starts) | (torch.arange(frames) >= starts + length)
        with torch.no_grad():
            x = stem.convolved(torch.from_numpy(picture[None]), torch.ones(1, 2 * frames, dtype=torch.bool))
            for block in stem.blocks:
                x = block(x, hidden)
        expected = x[0].numpy()
        found = pooled(graph, picture)[0][0][-2 * light_onnx.WIDTH - 160 : -160]  # the last block's, before the bands'
        assert found == pytest.approx(np.concatenate([expected.mean(axis=0), expected.std(axis=0)]), abs=2e-3), frames


def test_no_pair_of_int8_weights_overflows_sixteen_bits() -> None:
    weight = np.random.default_rng(3).standard_t(4, (96, 40)).astype(np.float32)
    weight[:, 7] = 0  # a unit that nothing reaches
    small, steps = light_onnx.int8(weight)
    pairs = np.abs(small.astype(int)).reshape(-1, 2, 40).sum(axis=1) * 255  # an input goes up to 255
    assert 31_000 < pairs.max() < 2**15
    assert (np.abs(small * steps - weight) <= steps / 2 + 1e-6).all()
    assert steps.mean() < 0.8 * (np.abs(weight).max(axis=0) / 64).mean()  # of what allows each weight the same


def test_smoothing_changes_no_answer_and_what_int8_makes_of_it(
    weights: Any, decades: list[NDArray[np.float32]]
) -> None:
    loud = {name: weight.copy() for name, weight in weights.items()}
    rng = np.random.default_rng(4)
    for block in range(max(BLOCKS)):  # as in trained networks, unlike random ones: some inputs are ten times louder
        for norm in ("attn_ln", "mlp_ln"):
            loud[f"blocks.{block}.{norm}.weight"] *= np.exp(rng.normal(0, 1.2, light_onnx.WIDTH)).astype(np.float32)
    pictures = [levelled(each) for each in decades]
    smooth = light_smooth.smoothed(loud, BLOCKS, pictures[:2])
    missed = {}
    for name, stem in (("as it was", loud), ("smoothed", smooth)):
        exact, small = (
            np.concatenate([pooled(light_onnx.build(stem, BLOCKS, exact=exact), each)[0][0] for each in pictures])
            for exact in (True, False)
        )
        missed[name] = np.abs(small - exact).mean()
        if name == "as it was":
            before = exact
    assert exact == pytest.approx(before, abs=2e-4)
    assert 0 < missed["smoothed"] < 0.75 * missed["as it was"]


def test_a_head_learns_emotion_and_says_the_same_in_onnx(weights: Any, decades: list[NDArray[np.float32]]) -> None:
    rng = np.random.default_rng(1)
    emotions, speakers, texts = (np.arange(240) // step % 4 for step in (1, 4, 16))
    width = light_onnx.pooled_width(BLOCKS)
    shift, voices = (rng.standard_normal((4, width)).astype(np.float32) for _ in range(2))
    shift[:, -160:], voices[:, :-160] = 0, 0  # the picture's bands tell of the voice alone
    features = (shift[emotions] + voices[speakers])[:, None] + rng.standard_normal((240, 3, width)).astype(np.float32)
    rows = rows_of(emotions, speakers, texts)
    options = light_head.HeadOptions(members=2, steps=60)
    head = light_head.train(features, rows, 3, options)
    vectors, logits = head(features[:, 0])
    assert vectors.shape == (240, head.width + head.voice.dim) == (240, 2 * options.hidden + light_voice.DIMS)
    assert logits.shape == (240, 3)  # the fourth emotion has no score
    assert (logits[emotions < 3].argmax(axis=1) == emotions[emotions < 3]).mean() > 0.95
    assert vectors.mean(axis=0) == pytest.approx(0, abs=0.2)  # zero at the mean of all copies
    prior = np.array([0.5, 0.25, 0.25])
    projection = head.projection(features[:, 0], prior, 0.3)
    scores = torch.from_numpy(logits).softmax(dim=1).numpy()
    assert projection.scores(vectors) == pytest.approx(scores, abs=1e-4)  # at rest, the encoder's own
    twice = head.calibrated(2.0, np.array([1.0, 0.0, 0.0]))(features[:, 0])[1]
    assert twice == pytest.approx(2 * logits + [1, 0, 0], abs=1e-4)
    seen = projection.apply(vectors)
    assert seen.shape == (240, projection.dim_out(0))
    assert np.linalg.norm(seen, axis=1) == pytest.approx(1.0, abs=1e-5)
    alike = seen @ seen.T
    same, self_ = emotions[:, None] == emotions, np.eye(240, dtype=bool)
    assert alike[same & ~self_].mean() > alike[~same].mean() + 0.3

    picture = levelled(decades[0])
    seen = pooled(light_onnx.build(weights, BLOCKS), picture)[0]
    by_onnx = pooled(light_onnx.build(weights, BLOCKS, head), picture)
    own, logits = head(seen)
    for ours, theirs in zip((own, torch.from_numpy(logits).softmax(dim=1).numpy()), by_onnx, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-4)


def test_labels_and_weights_are_what_raters_heard(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "path,speaker,emotion,text\na.wav,1,anger,x\nb.wav,1,anger,y\nc.wav,2,sadness,x\nd.wav,2,disgust,y\n"
        "e.wav,2,contempt,y\n"
    )
    (tmp_path / "voice_votes.csv").write_text(
        "path,anger,disgust,fear,happiness,neutral,sadness\na.wav,8,0,0,0,2,0\nb.wav,1,0,0,0,9,0\nc.wav,0,0,0,0,5,5\n"
    )
    rows = light_data.clips(tmp_path).rows
    assert rows.acted.tolist() == [0, 0, 5, 1]  # contempt is no class here
    assert rows.heard.tolist() == [0, 4, 5, 1]  # who acted sadness was heard so by half; nobody rated the last
    assert rows.most.tolist() == [0, 4, -1, 1]
    by_acted = np.array([0.8**2, 0.1**2, 0.5**2, 1.0]) + light_data.LEAST_WEIGHT
    assert rows.acted_weight == pytest.approx(by_acted / by_acted.mean())
    by_heard = np.array([0.8**2, 0.9**2, 0.5**2, 1.0]) + light_data.LEAST_WEIGHT
    assert rows.heard_weight == pytest.approx(by_heard / by_heard.mean())
    assert rows.labels(as_heard=True)[0] is rows.heard


def test_a_clip_that_nobody_heard_as_labelled_teaches_little() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(8, 4), dim=1)
    logits, labels, speakers = torch.randn(8, 3), torch.arange(8) % 3, torch.arange(8)
    options = light_head.HeadOptions()
    whole = light_head.loss_of(embeddings[:7], logits[:7], labels[:7], torch.ones(7), speakers[:7], options)
    weights = torch.ones(8)
    weights[7] = 1e-9
    without = light_head.loss_of(embeddings, logits, labels, weights, speakers, options)
    # the eighth stays among what others are told from
    assert abs(float(without - whole)) < 0.3
    weights[7] = 1
    assert abs(float(light_head.loss_of(embeddings, logits, labels, weights, speakers, options) - without)) > 1e-3


def test_a_third_of_each_batch_is_of_the_second_corpus() -> None:
    corpora = (np.arange(300) >= 280).astype(np.int64)
    rows = rows_of(np.arange(300) % 3, np.arange(300) // 10, np.arange(300) % 5 + 5 * corpora, corpora)
    texts = torch.from_numpy(rows.texts)
    batches = light_head._batches(rows, texts, light_head.HeadOptions(batch=60))
    for _ in range(8):
        chosen, other = next(batches)
        assert corpora[chosen].sum() == 20
        assert ((other >= 5).numpy() == (corpora[chosen] == 1)).all()  # moved to a sentence of its own corpus
    options = light_tune.TuneOptions(batch=60)
    seen = list(light_tune._batches(rows, options, np.random.default_rng(0)))
    assert sorted(np.concatenate(seen)[corpora[np.concatenate(seen)] == 0].tolist()) == list(range(280))
    assert all(corpora[batch].sum() == 20 for batch in seen)


def test_calibration_finds_the_scale_and_the_offsets_of_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3)).astype(np.float32)
    true = 0.5 * logits + [1.0, 0.0, -1.0]
    odds = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    truth = (rng.random((20_000, 1)) > odds.cumsum(axis=1)).sum(axis=1)
    scale, offsets = light_calibrate._fitted(torch.from_numpy(logits), torch.from_numpy(truth))
    assert scale == pytest.approx(0.5, abs=0.03)
    assert offsets - offsets.mean() == pytest.approx([1, 0, -1], abs=0.08)


def test_what_the_bands_tell_of_a_voice_is_taken_off() -> None:
    rng = np.random.default_rng(2)
    emotions, speakers = np.arange(400) % 4, np.arange(400) // 4 % 20
    feels, sounds = rng.standard_normal((4, 8)), rng.standard_normal((20, 8))
    bands = rng.standard_normal((20, 80))[speakers][:, None] + 0.3 * rng.standard_normal((400, 2, 80))
    vectors = (feels[emotions] + sounds[speakers])[:, None] + 0.1 * rng.standard_normal((400, 2, 8)) + 5
    rows = rows_of(emotions, speakers, emotions)
    slope, level = light_voice.shift(vectors.astype(np.float32), bands.astype(np.float32), rows, 0.1)
    shed = vectors - bands @ slope + level
    assert shed.mean(axis=(0, 1)) == pytest.approx(vectors.mean(axis=(0, 1)), abs=1e-4)
    for groups, kept in ((speakers, 0.2), (emotions, 0.9)):
        before, after = (
            np.array([each[groups == group].mean(axis=(0, 1)) for group in np.unique(groups)]).std(axis=0).mean()
            for each in (vectors, shed)
        )
        assert (after < kept * before) == (groups is speakers)  # the voice goes, the emotion stays


def test_a_voice_part_tells_voices_apart_whatever_they_feel() -> None:
    rng = np.random.default_rng(2)
    emotions, speakers = np.arange(1200) % 4, np.arange(1200) // 4 % 60
    feels, sounds, line = (rng.standard_normal((n, 160)) for n in (4, 60, 1))
    bands = (4 * feels[emotions] + sounds[speakers])[:, None] + 0.5 * rng.standard_normal((1200, 2, 160))
    bands[:, 1] += line[0] * rng.standard_normal((1200, 1))
    known = speakers < 50
    rows = rows_of(emotions[known], speakers[known], emotions[known])
    part = light_voice.directions(bands[known].astype(np.float32), rows, 0.5)
    lengths = np.linalg.norm(part(bands[known].reshape(-1, 160).astype(np.float32)), axis=1)
    assert np.sqrt((lengths**2).mean()) == pytest.approx(0.5, rel=1e-3)

    voice, mood = (each[~known, None] == each[~known] for each in (speakers, emotions))

    def alike(vectors: Any, pairs: Any) -> Any:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (unit @ unit.T)[pairs].mean()

    for copy in (0, 1):  # of voices that it has not heard
        new = bands[~known, copy].astype(np.float32)
        assert alike(new - new.mean(axis=0), mood & ~voice) > alike(new - new.mean(axis=0), voice & ~mood) + 0.5
        assert alike(part(new), voice & ~mood) > alike(part(new), mood & ~voice) + 0.5


def test_copies_differ_and_keep_to_what_is_heard(decades: list[NDArray[np.float32]]) -> None:
    options = light_augment.Augmentation()
    first, second = (light_augment.degraded(decades[2], options, np.random.default_rng(seed)) for seed in (1, 2))
    again = light_augment.degraded(decades[2], options, np.random.default_rng(1))
    assert (first == again).all()
    assert first.shape != second.shape or not np.allclose(first, second)
    for copy in (first, second):
        assert copy.shape[0] == 80
        assert np.isfinite(copy).all()
        assert (copy[light_augment._HEARD :] == -10).all()


def test_tuning_moves_the_stem_and_repeats_itself(weights: Any, decades: list[NDArray[np.float32]]) -> None:
    rows = rows_of(np.arange(12) % 3, np.arange(12) // 3, np.arange(12) % 2)
    shown = [decades[index % 3].astype(np.float16) for index in range(12)]
    pictures = light_data.Pictures(shown, [each - 1 for each in shown])
    options = light_tune.TuneOptions(head_epochs=1, epochs=1, batch=6, of_a_voice=3)
    first, second = (light_tune.tune(pictures, rows, weights, BLOCKS, options) for _ in range(2))
    assert first.keys() == weights.keys()
    for name, weight in first.items():
        assert (weight == second[name]).all()
    assert not np.array_equal(first["blocks.1.mlp.2.weight"], weights["blocks.1.mlp.2.weight"])
    half = light_tune.mean_of(weights, first, 0.5)["blocks.1.mlp.2.weight"]
    assert half == pytest.approx((first["blocks.1.mlp.2.weight"] + weights["blocks.1.mlp.2.weight"]) / 2, abs=1e-7)


def test_a_stem_that_shipped_is_read_back_as_the_same_network(
    weights: Any, decades: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    tuned = {name: weight + 0.02 * weight.std() * rng.standard_normal(weight.shape) for name, weight in weights.items()}
    tuned = {name: weight.astype(np.float32) for name, weight in tuned.items()}
    pictures = [levelled(each) for each in decades]
    smooth = light_smooth.smoothed(tuned, BLOCKS, pictures)
    (tmp_path / "light.onnx").write_bytes(light_onnx.build(smooth, BLOCKS).SerializeToString())
    again = light_former.stem_of(tmp_path / "light.onnx", weights)
    assert again.keys() == tuned.keys()
    for each in pictures:
        exact, read = (pooled(light_onnx.build(stem, BLOCKS, exact=True), each)[0][0] for stem in (tuned, again))
        assert read == pytest.approx(exact, abs=0.05 * float(np.abs(exact).max()))
    for name in ("blocks.0.attn.qkv.weight", "blocks.1.mlp.0.weight", "blocks.1.attn.out.weight"):
        far, near = (np.linalg.norm(stem[name] - tuned[name]) for stem in (smooth, again))
        assert near < 0.3 * far  # in Whisper's scales, in which weights can be averaged
