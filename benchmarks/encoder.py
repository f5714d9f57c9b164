"""How fast, how exact and how heavy emotion2vec is here, beside FunASR's own `AutoModel.generate` in the same run.

    python benchmarks/encoder.py                   # about ten minutes on two quiet cores
    python benchmarks/encoder.py --device cuda     # the same on a GPU
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python benchmarks/encoder.py    # as a processor without AMX; or AVX2_VNNI

Without AMX bf16 is emulated, a hundred times slower, and is left out.

Weights are random, of the published large shape: times, memory and equality are those of real ones, and what is like
what is not, so that nothing here says how well emotion is found. Sides take turns in every round, clip sets are
(a) 64 made clips of 2 to 10 s and (b) segments of real calls, where there are any beside the checkout. Load times and
memory are of processes of their own, over a checkpoint that holds each weight three times, as the published one does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import logging
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from _table import Row, parser, show
from numpy.typing import NDArray

import e2vsearch
from e2vsearch import audio, speech
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.encoders import base as encoders_base
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import Encoder, EncoderOptions
from e2vsearch.encoders.emotion2vec.onednn import has_amx

CHECKOUT = Path(__file__).resolve().parent.parent
CALLS = CHECKOUT.parent / "shared" / "audio" / "calls"
Signals = list[NDArray[np.float32]]


def made(count: int) -> Signals:
    """Clips of 2 to 10 s, shorter ones more often, as segments of calls are: a voice of some harmonics, and noise."""
    rng = np.random.default_rng(0)
    out = []
    for length_s in np.exp(rng.uniform(np.log(2.0), np.log(10.0), count)):
        at = np.arange(int(length_s * audio.SAMPLING_RATE_HZ)) / audio.SAMPLING_RATE_HZ
        pitch_hz = rng.uniform(90, 250)
        voice = sum(np.sin(2 * np.pi * pitch_hz * n * at) / n for n in range(1, 12)) * np.sin(2 * np.pi * 2 * at) ** 2
        out.append((0.1 * voice + 0.01 * rng.standard_normal(at.size)).astype(np.float32))
    return out


def segments(count: int) -> Signals:
    """So many spoken segments of real calls, each channel by itself; none without the recordings."""
    out: Signals = []
    for path in sorted(CALLS.rglob("*")) if CALLS.is_dir() else []:
        if path.suffix.lower() not in {".wav", ".flac", ".ogg", ".mp3"}:
            continue
        out += [segment.signal for segment in speech.segments(audio.stream(path))]
    random.Random(0).shuffle(out)
    return out[:count]


def model(folder: Path, *, published: bool) -> Path:
    """Make a model folder of the large shape with random weights, each three times if `published`."""
    sys.path.append(str(CHECKOUT / "tests"))
    place = folder / "emotion2vec_plus_large"
    importlib.import_module("random_emotion2vec").write_model(place, "large", optimizer=published)
    return place


def funasr(folder: Path, device: str) -> Any:
    """FunASR's own front door, as many threads as there are cores."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from funasr import AutoModel

        logging.disable()
        cores = len(os.sched_getaffinity(0))
        return AutoModel(model=str(folder), device=device, ncpu=cores, disable_update=True, disable_pbar=True)


def generated(reference: Any, signals: Signals) -> NDArray[np.float32]:
    """FunASR's vectors."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        results = reference.generate(signals, granularity="utterance", extract_embedding=True, batch_size=8)
    vectors: NDArray[np.float32] = np.stack([result["feats"] for result in results])
    return vectors


def race(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round; who begins moves on by one each time."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            sides[name]()
            spent[name].append(time.perf_counter() - started)
    return spent


def speeds(title: str, signals: Signals, sides: dict[str, Callable[[Signals], object]], rounds: int) -> list[Row]:
    """Clips a second of each side: median of the rounds, and from least to most."""
    for run in sides.values():
        run(signals[:2])
    spent = race({name: partial(run, signals) for name, run in sides.items()}, rounds)
    base = next(iter(sides))
    rows = []
    for name, each in spent.items():
        rate = len(signals) / statistics.median(each)
        ratio = statistics.median(theirs / ours for theirs, ours in zip(spent[base], each, strict=True))
        beside = None if name == base else f"{title}: {base}"
        rows.append(Row(f"{title}: {name}", rate, "clips/s", ratio if beside else None, beside))
        rows += [
            Row(f"{title}: {name}, {word}", len(signals) / which(each), "clips/s")
            for word, which in (("slowest round", max), ("quickest round", min))
        ]
    return rows


def apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the largest difference of any number."""
    return float(np.abs(a - b).max())


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each at length 1."""
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def equality(signals: Signals, reference: Any, fp32: Encoder, others: dict[str, Encoder]) -> list[Row]:
    """How far vectors are from those of one clip at a time, norm 27 or so, and from fp32 in others."""
    alone = np.concatenate([fp32.encode([signal]).vectors for signal in signals])
    shuffled = np.random.default_rng(1).permutation(len(signals))
    turned = np.empty_like(alone)
    turned[shuffled] = fp32.encode([signals[each] for each in shuffled]).vectors
    with ThreadPoolExecutor(4) as pool:
        threaded = np.concatenate(list(pool.map(lambda part: fp32.encode(part).vectors, (signals[::2], signals[1::2]))))
    halves = np.concatenate([alone[::2], alone[1::2]])
    return [
        Row("norm of a vector", float(np.linalg.norm(alone, axis=1).mean())),
        Row("FunASR's and ours, one clip at a time", apart(alone, generated(reference, signals)) * 1e6, "millionths"),
        Row("batches and one at a time", apart(alone, fp32.encode(signals).vectors) * 1e6, "millionths"),
        Row("another order and one at a time", apart(alone, turned) * 1e6, "millionths"),
        Row("two threads at a time and one at a time", apart(halves, threaded) * 1e6, "millionths"),
        *(row for name, encoder in others.items() for row in neighbours(name, encoder, signals, alone)),
    ]


def neighbours(name: str, encoder: Encoder, signals: Signals, fp32: NDArray[np.float32]) -> list[Row]:
    """How far the vectors of another precision are from fp32, and how many of the nearest are the same."""
    vectors = encoder.encode(signals).vectors
    alone = np.concatenate([encoder.encode([signal]).vectors for signal in signals])
    depth = min(10, len(signals) // 2)
    near, near_here = (np.argsort(-(unit(each) @ unit(each).T), axis=1)[:, 1 : depth + 1] for each in (fp32, vectors))
    kept = np.mean([len(set(a) & set(b)) / depth for a, b in zip(near, near_here, strict=True)])
    return [
        Row(f"{name} and fp32", apart(fp32, vectors)),
        Row(f"{name} and fp32, least cosine", float((unit(fp32) * unit(vectors)).sum(axis=1).min())),
        Row(f"{name}, batches and one at a time", apart(vectors, alone)),
        Row(f"of {depth} nearest with fp32, still so with {name} (random weights)", 100 * float(kept), "%"),
    ]


def against(encoders: dict[str, Encoder], seconds: int, rounds: int) -> list[Row]:
    """CPU seconds of one thread for one clip in each precision, in turns, and the share of what int8 is to reach."""
    import torch

    signal = np.resize(made(1)[0], seconds * audio.SAMPLING_RATE_HZ)
    best = dict.fromkeys(encoders, float("inf"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                for name, encoder in encoders.items():
                    before = time.thread_time()
                    encoder._network.run([signal])  # type: ignore[attr-defined]
                    best[name] = min(best[name], time.thread_time() - before)
    finally:
        torch.set_num_threads(threads)
    base, aim = ("bf16", 1.4) if "bf16" in best else ("fp32", 2.5)
    rows = [Row(f"{seconds} s on one thread: {name}", taken, "s") for name, taken in best.items()]
    times = best[base] / best["int8"]
    return [*rows, Row(f"{seconds} s on one thread: int8, x {base}", times, "", times / aim, f"the aim: {aim}")]


def service(encoder: Encoder, reference: Any, folder: Path, rounds: int) -> list[Row]:
    """Measure a query by a 1.8 s clip, decoding and search included, over 2,000 segments, beside FunASR's encoding."""
    rng = np.random.default_rng(0)
    clip = folder / "clip.wav"
    clip.write_bytes(audio.encode(audio.cut(CHECKOUT / "samples" / "angry.ogg", 0.0, 1.8)))
    with e2vsearch.open(folder / "index", encoder=encoder, create=True) as collection:
        collection.catalog.pin(encoder.space, encoder.opened_by)
        for number in range(40):
            vectors = rng.standard_normal((50, encoder.space.dim)).astype(np.float32)
            scores = np.full(len(encoder.space.labels), 1 / len(encoder.space.labels), np.float32)
            spans = tuple(NewSegment(0, 5.0 * at, 5.0 * at + 4.0, each, scores) for at, each in enumerate(vectors))
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            when = datetime(2024, 1, 1, tzinfo=UTC)
            uri = f"/made/{number}.wav"
            made_up = NewRecording(uri, str(number), digest, 0, 0, when, 250.0, 1, 8000, "made up", spans)
            collection.catalog.store(made_up)
        collection.index.build()
        signal = audio.read(clip)[0]
        sides = {"query": lambda: collection.query(clip, k=20), "FunASR": lambda: generated(reference, [signal])}
        spent = {name: times[1:] for name, times in race(sides, rounds + 1).items()}
    beside = "FunASR: encoding that clip"
    theirs, ours = statistics.median(spent["FunASR"]), statistics.median(spent["query"])
    return [
        Row(beside, theirs, "s"),
        Row("query of a 1.8 s clip, warm, median", ours, "s", ours / theirs, beside),
        Row("query of a 1.8 s clip, warm, slowest", max(spent["query"]), "s"),
    ]


def of_the_peak(encoder: Any, precision: str, limit: float, rounds: int) -> list[Row]:
    """Set the network's arithmetic on a clip of 10 s beside what the products of its own shapes do alone, in turns.

    CPU seconds of one thread, so that others at work here take from both alike.
    """
    import torch

    from e2vsearch.encoders.emotion2vec import onednn

    network = encoder._network
    module, dtype = network.module, torch.float32 if precision == "fp32" else torch.bfloat16
    audio_part = module.modality_encoders["AUDIO"]
    blocks = [*audio_part.context_encoder.blocks, *module.blocks]
    signal = np.resize(made(1)[0], 10 * audio.SAMPLING_RATE_HZ)
    samples, shapes = signal.size, []  # rows, inner, outer
    for layer in audio_part.local_encoder.conv_layers:
        (kernel,), (stride,) = layer[0].kernel_size, layer[0].stride
        samples = (samples - kernel) // stride + 1
        shapes.append((samples, kernel * layer[0].in_channels, layer[0].out_channels))
    frames, dim = samples, int(module.cfg.embed_dim)
    tokens = frames + int(audio_part.modality_cfg.num_extra_tokens)
    linears = ((dim, 3 * dim), (dim, dim), (dim, 4 * dim), (4 * dim, dim))
    shapes += [(tokens, inner, outer) for inner, outer in linears] * len(blocks)
    flop = sum(2.0 * prod(shape) for shape in shapes)
    others = 4.0 * tokens * tokens * dim * len(blocks)  # attention
    for each in (*audio_part.relative_positional_encoder.modules(), *audio_part.project_features.modules()):
        if isinstance(each, torch.nn.Conv1d | torch.nn.Linear):
            others += 2.0 * frames * each.weight.numel()
    kinds = {
        (rows, inner, outer): (
            torch.randn(rows, inner).to(dtype),
            onednn.product(torch.randn(outer, inner), None, dtype)[1],
        )
        for rows, inner, outer in set(shapes)
    }

    def products() -> None:
        for shape in shapes:
            given, run = kinds[shape]
            run(given)

    best = {"network": float("inf"), "products": float("inf")}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(rounds + 1):
                for name, call in (("network", lambda: network.run([signal])), ("products", products)):
                    before = time.thread_time()
                    call()
                    best[name] = min(best[name], time.thread_time() - before)
    finally:
        torch.set_num_threads(threads)
    rate = flop / best["products"]
    share = (flop + others) / best["network"] / rate
    return [
        Row(f"{precision}: products of the network's shapes alone", rate / 1e9, "GFLOP/s"),
        Row(
            f"{precision}: the network, of that rate", 100 * share, "%", share / limit, f"the aim: {100 * limit:.0f} %"
        ),
    ]


def resident_mb() -> float:
    """Return what this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1e6


def load(side: str, folder: Path, device: str) -> None:
    """Open one side in this process and print what that took, as JSON."""
    started = time.perf_counter()
    signal = made(1)[0][: 2 * audio.SAMPLING_RATE_HZ]
    if side == "FunASR":
        reference = funasr(folder, device)
        loaded_s, peak = time.perf_counter() - started, peak_mb()
        for _ in range(3):
            generated(reference, [signal])
    else:
        encoder = registry.open(str(folder), EncoderOptions(device=device, precision=side))  # type: ignore[arg-type]
        loaded_s, peak = time.perf_counter() - started, peak_mb()
        for _ in range(3):
            encoder.encode([signal])
    print(json.dumps({"loaded_s": loaded_s, "peak_mb": peak, "steady_mb": resident_mb()}))


def peak_mb() -> float:
    """Return the most that this process ever held."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process that started this one held as well
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def loads(folder: Path, device: str) -> list[Row]:
    """Load time and memory of each side, in processes of their own; ours twice, for what the first leaves behind."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "E2VSEARCH_WEIGHTS_CACHE": cache}
        names = {"FunASR": "FunASR", "first time": "fp32", "second time": "fp32", "second time, bf16": "bf16"}
        if device == "cpu":
            names["second time, int8"] = "int8"
        base: dict[str, float] = {}
        for name, side in names.items():
            command = [sys.executable, __file__, "--load", side, "--model", str(folder), "--device", device]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found = json.loads(done.stdout.splitlines()[-1])
            base = base or found
            words = {"loaded_s": ("imported and loaded", "s"), "peak_mb": ("peak memory", "MB"),
                     "steady_mb": ("memory after three clips", "MB")}  # fmt: skip
            for key, (word, unit_) in words.items():
                beside = None if side == "FunASR" else f"FunASR: {word}"
                rows.append(
                    Row(f"{name}: {word}", found[key], unit_, found[key] / base[key] if beside else None, beside)
                )
    return rows


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    arguments.add_argument("--rounds", type=int, help="how often the sides take turns; 5 by default")
    arguments.add_argument("--load", help=argparse.SUPPRESS)
    arguments.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.load:
        load(chosen.load, chosen.model, chosen.device)
        return
    rounds, count, spoken = (1, 4, 0) if chosen.quick else (5, 64, 16)
    rounds = chosen.rounds or rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = model(Path(scratch), published=not chosen.quick)
        rows = [] if chosen.quick else loads(folder, chosen.device)
        os.environ["E2VSEARCH_WEIGHTS_CACHE"] = "off"
        names: list[encoders_base.Precision] = ["fp32", "bf16", "int8"]
        if chosen.device != "cpu":
            names.remove("int8")
        elif not has_amx():
            names.remove("bf16")
        encoders: dict[str, Encoder] = {
            name: registry.open(str(folder), EncoderOptions(device=chosen.device, precision=name)) for name in names
        }
        fp32, others = encoders["fp32"], {name: each for name, each in encoders.items() if name != "fp32"}
        reference = funasr(folder, chosen.device)
        sides: dict[str, Callable[[Signals], object]] = {
            "FunASR": lambda signals: generated(reference, signals),
            **{name: each.encode for name, each in encoders.items()},
        }
        sets: Sequence[tuple[str, Signals]] = (
            ("made clips", made(count)),
            ("real calls", segments(spoken) if spoken else []),
        )
        for title, signals in sets:
            if signals:
                rows += speeds(title, signals, sides, rounds)
        rows += equality(made(4 if chosen.quick else 12), reference, fp32, others)
        if chosen.device == "cpu":
            rows += of_the_peak(fp32, "fp32", 0.80, rounds)
            if "bf16" in others:
                rows += of_the_peak(others["bf16"], "bf16", 0.55, rounds)
            rows += [
                row for seconds in ((2,) if chosen.quick else (2, 10)) for row in against(encoders, seconds, rounds)
            ]
        rows += service(fp32, reference, Path(scratch), 9)
    held = f"load {os.getloadavg()[0]:.1f}" if chosen.device == "cpu" else chosen.device
    show(f"emotion2vec, large shape, random weights, {rounds} rounds, {held}", rows, chosen.json)


if __name__ == "__main__":
    main()
