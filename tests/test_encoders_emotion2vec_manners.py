"""What opening and using emotion2vec leaves behind in its process: nothing."""

from __future__ import annotations

import logging
import random
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import made
import numpy as np
import pytest
from opened_emotion2vec import NEEDED, opened
from random_emotion2vec import write_model

from e2vsearch.encoders.emotion2vec.funasr import silenced
from e2vsearch.errors import BadWeights

pytestmark = NEEDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A model folder to be tampered with."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture
def bare_root_logger() -> Iterator[logging.Logger]:
    """The root logger as a program has it that never set logging up, and put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def _state() -> tuple[object, ...]:
    import torch

    python, (_, keys, *rest) = random.getstate(), np.random.get_state()
    root = logging.getLogger()
    return (
        python,
        np.asarray(keys).tobytes(),
        rest,
        torch.get_rng_state().numpy().tobytes(),
        torch.get_num_threads(),
        [(handler, list(handler.filters)) for handler in root.handlers],
        root.level,
        list(warnings.filters),
        sys.stdout,
        sys.stderr,
    )


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_opening_and_encoding_leave_the_process_as_it_was(
    folder: Path, bare_root_logger: logging.Logger, threads: int, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _state()
    encoder = opened(folder, threads=threads)
    assert _state() == before
    encoder.encode([made.noise(1.0)])
    encoder.encode([made.noise(1.0), made.noise(3.0), made.noise(0.5)])
    encoder.frames(made.noise(1.0))
    assert _state() == before
    assert capfd.readouterr() == ("", "")


def test_opening_says_nothing_to_handlers_that_are_there(
    folder: Path, bare_root_logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    bare_root_logger.addHandler(caplog.handler)
    bare_root_logger.setLevel(logging.DEBUG)
    before = _state()
    opened(folder)
    assert _state() == before
    assert caplog.records == []
    logging.getLogger("caller").info("still heard")
    assert caplog.messages == ["still heard"]


def test_a_failure_leaves_the_process_as_it_was(copy: Path, bare_root_logger: logging.Logger) -> None:
    (copy / "tokens.txt").write_text("angry\nangry", encoding="utf-8")
    before = _state()
    with pytest.raises(BadWeights):
        opened(copy, threads=1)
    assert _state() == before


def test_encoding_uses_the_threads_asked_for(folder: Path) -> None:
    import torch

    before, seen = torch.get_num_threads(), []
    encoder = opened(folder, threads=before + 1)
    encoder._network.module.blocks[0].register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    encoder.encode([made.noise(1.0)])
    encoder.frames(made.noise(1.0))
    assert seen == [before + 1] * 2
    assert torch.get_num_threads() == before


def test_other_threads_still_print_and_log(
    bare_root_logger: logging.Logger, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    bare_root_logger.addHandler(caplog.handler)

    def speak(name: str) -> None:
        sys.stdout.write(f"{name}\n")
        logging.getLogger().warning(name)

    with silenced():
        speak("ours")
        kept = sys.stdout
        other = threading.Thread(target=speak, args=("theirs",))
        other.start()
        other.join()
    assert capsys.readouterr() == ("theirs\n", "")
    assert caplog.messages == ["theirs"]
    kept.write("a logger that was made meanwhile\n")
    assert capsys.readouterr().out == "a logger that was made meanwhile\n"
