from __future__ import annotations

import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import random_emotion2vec
from random_emotion2vec import FIVE_TOKENS, TOKENS, Shape, tensors, write_model

from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.encoders.emotion2vec import checkpoint as cache
from e2vsearch.encoders.emotion2vec import checkpoint as weights
from e2vsearch.encoders.emotion2vec import model_folder as folders
from e2vsearch.encoders.emotion2vec.loader import load
from e2vsearch.errors import BadWeights

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None or importlib.util.find_spec("funasr") is None,
    reason="the 'emotion2vec' extra is not installed",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", optimizer=True)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of stripped copies."""
    monkeypatch.setenv("E2VSEARCH_WEIGHTS_CACHE", str(tmp_path / "copies"))
    return tmp_path / "copies"


def loaded(folder: Path) -> Any:
    return load(folders.read(folder), EncoderOptions())[0]


def saved(folder: Path) -> dict[str, Any]:
    """The tensors of a checkpoint under the network's names."""
    import torch

    state = torch.load(folder / "model.pt", weights_only=True)["model"]
    return {name.removeprefix("d2v_model."): tensor for name, tensor in state.items() if ".decoder." not in name}


def assert_filled(network: Any, expected: dict[str, Any]) -> None:
    import torch

    state = network.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor.float()), name


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def change_text(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


# --------------------------------------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("decoder_in_file", [False, True])
@pytest.mark.parametrize("decoder_in_config", [False, True])
@pytest.mark.parametrize("optimizer", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_every_tensor_is_as_it_was_saved_and_nothing_else_is_there(
    tmp_path: Path, copies: Path, decoder_in_file: bool, decoder_in_config: bool, optimizer: bool, again: bool
) -> None:
    folder = write_model(tmp_path / "model", decoder=decoder_in_file, optimizer=optimizer)
    if not decoder_in_config:
        import yaml

        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        config["model_conf"]["modalities"]["audio"]["decoder"] = None
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    network = loaded(folder)
    if again:
        network = loaded(folder)
    assert_filled(network, saved(folder))
    assert len(saved(folder)) == len(tensors(random_emotion2vec.SHAPES["tiny"])) == 65
    assert not network.training
    assert network.modality_encoders["AUDIO"].decoder is None


@pytest.mark.parametrize("tokens", [TOKENS, FIVE_TOKENS, ()], ids=["nine", "five", "no head"])
def test_tokens_are_the_lines_of_the_file(tmp_path: Path, copies: Path, tokens: tuple[str, ...]) -> None:
    folder = write_model(tmp_path / "model", tokens=tokens)
    network, found = load(folders.read(folder), EncoderOptions())
    assert found == (list(tokens) or None)
    assert (network.proj is None) == (not tokens)


def test_halves_become_singles(model: Path, copies: Path) -> None:
    import torch

    checkpoint = torch.load(model / "model.pt", weights_only=True)
    checkpoint["model"] = {name: tensor.half() for name, tensor in checkpoint["model"].items()}
    torch.save(checkpoint, model / "model.pt")
    for _ in range(2):
        assert_filled(loaded(model), saved(model))


def test_a_number_without_a_point_is_a_number(model: Path, copies: Path) -> None:
    change_text(model / "config.yaml", "norm_eps: 1.0e-05", "norm_eps: 1e-05")  # text to plain YAML
    assert loaded(model).cfg.norm_eps == 1e-5


def test_of_two_tensors_that_fit_scope_map_decides_as_it_does_for_funasr(model: Path, copies: Path) -> None:
    import torch

    checkpoint = torch.load(model / "model.pt", weights_only=True)
    checkpoint["model"]["blocks.0.norm1.bias"] = checkpoint["model"]["d2v_model.blocks.0.norm1.bias"] + 1
    expected = saved(model)
    torch.save(checkpoint, model / "model.pt")
    assert_filled(loaded(model), expected)


def test_loading_draws_no_random_numbers_and_connects_to_nothing(
    model: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = random.getstate()
    loaded(model)
    assert random.getstate() == before


# ------------------------------------------------------------------------------------------------------------ refusals


def _rot(folder: Path) -> None:
    import zipfile

    path = folder / "model.pt"
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda each: each.file_size)
    flip(path, part.header_offset + 30 + 64 + part.file_size // 2)


REFUSED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no weights": ("has no model.pt", lambda f: (f / "model.pt").unlink()),
    "no tokens": ("has no tokens.txt", lambda f: (f / "tokens.txt").unlink()),
    "no scope_map": ("63 of 65 tensors are missing", lambda f: change_text(f / "config.yaml", "scope_map", "map")),
    "another size": ("by config.yaml", lambda f: change_text(f / "config.yaml", "embed_dim: 64", "embed_dim: 128")),
    "another tokenizer": ("names 'Other'", lambda f: change_text(f / "config.yaml", "CharTokenizer", "Other")),
    "a bit flipped": ("is damaged: .* is not as it was saved", _rot),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("copied", [False, True], ids=["new", "with a copy"])
def test_what_is_not_whole_is_refused_with_and_without_a_copy(
    model: Path, copies: Path, kind: str, copied: bool
) -> None:
    message, damage = REFUSED[kind]
    if copied:
        if kind == "a bit flipped":
            pytest.skip("the copy is of before the damage")
        loaded(model)
    damage(model)
    with pytest.raises(BadWeights, match=message) as caught:
        loaded(model)
    assert "\n" not in str(caught.value)


def test_values_that_are_infinite_are_refused(model: Path, copies: Path) -> None:
    import torch

    checkpoint = torch.load(model / "model.pt", weights_only=True)
    checkpoint["model"]["proj.bias"][0] = float("inf")
    torch.save(checkpoint, model / "model.pt")
    with pytest.raises(BadWeights, match=r"proj\.bias has values that are not finite"):
        loaded(model)
    assert not list(copies.glob("*.safetensors"))


# ---------------------------------------------------------------------------------------------------- stripped copies


def test_the_second_start_reads_the_copy(model: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = saved(model)
    loaded(model)
    size = sum(tensor.nbytes for tensor in expected.values())
    assert size < only(copies).stat().st_size < 1.2 * size
    monkeypatch.setattr(weights, "read", lambda path: pytest.fail(f"{path} was read"))
    assert_filled(loaded(model), expected)


def test_a_moved_model_finds_its_copy(model: Path, copies: Path) -> None:
    loaded(model)
    elsewhere = Path(shutil.copytree(model, model.parent / "elsewhere"))
    os.utime(elsewhere / "model.pt", (1, 1))
    assert_filled(loaded(elsewhere), saved(model))
    only(copies)


def _other_weights(copy: Path) -> None:
    """A healthy copy, of another checkpoint, under this one's name."""
    import safetensors
    from safetensors.torch import load_file, save_file

    changed = {name: tensor + 1 for name, tensor in load_file(copy).items()}
    with safetensors.safe_open(copy, framework="pt") as file:
        metadata = file.metadata()
    save_file(changed, copy, metadata)


def _less(copy: Path) -> None:
    import safetensors
    from safetensors.torch import load_file, save_file

    with safetensors.safe_open(copy, framework="pt") as file:
        metadata = file.metadata()
    save_file({name: tensor for name, tensor in load_file(copy).items() if name != "proj.bias"}, copy, metadata)


def _no_checksums(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(copy), copy)


DAMAGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda c: c.write_bytes(b""),
    "cut": lambda c: c.write_bytes(c.read_bytes()[:-1]),
    "half": lambda c: c.write_bytes(c.read_bytes()[: c.stat().st_size // 2]),
    "longer": lambda c: c.write_bytes(c.read_bytes() + b"\0"),
    "another format": lambda c: c.write_bytes(b"PK\3\4" * 100),
    "first byte": lambda c: flip(c, 0),
    "header": lambda c: flip(c, 60),
    "first value": lambda c: flip(c, 8 + int.from_bytes(c.read_bytes()[:8], "little")),
    "last value": lambda c: flip(c, -1),
    "other weights": _other_weights,
    "a tensor lost": _less,
    "no checksums": _no_checksums,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_copy_is_not_believed_and_made_again(model: Path, copies: Path, kind: str) -> None:
    loaded(model)
    copy = only(copies)
    whole = copy.read_bytes()
    DAMAGED[kind](copy)
    assert copy.read_bytes() != whole
    assert_filled(loaded(model), saved(model))
    mended = cache.Stripped(only(copies)).read(saved(model))
    assert mended is not None


def test_other_weights_of_the_same_size_and_date_have_another_copy(model: Path, copies: Path) -> None:
    loaded(model)
    stat = (model / "model.pt").stat()
    write_model(model, seed=1, optimizer=True)
    os.utime(model / "model.pt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (model / "model.pt").stat().st_size == stat.st_size
    assert_filled(loaded(model), saved(model))
    assert len(list(copies.glob("*.safetensors"))) == 2


def test_a_checkpoint_without_checksums_is_read_anew_every_time(model: Path, copies: Path) -> None:
    import torch

    set_crc32_options = getattr(torch.serialization, "set_crc32_options", None)
    if set_crc32_options is None:
        pytest.skip("this torch always writes checksums")
    checkpoint = torch.load(model / "model.pt", weights_only=True)
    set_crc32_options(False)
    try:
        torch.save(checkpoint, model / "model.pt")
    finally:
        set_crc32_options(True)
    assert_filled(loaded(model), saved(model))
    assert not list(copies.glob("*"))


def test_the_copies_can_be_turned_off(model: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2VSEARCH_WEIGHTS_CACHE", "off")
    assert_filled(loaded(model), saved(model))
    assert not copies.exists()
    assert cache.described().startswith("off")


def test_without_a_setting_they_are_in_the_users_cache(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded(model)
    only(tmp_path / "cache" / "e2vsearch" / "weights")
    assert "1 checkpoints" in cache.described()


def test_where_nothing_can_be_written_loading_goes_on(model: Path, copies: Path) -> None:
    copies.write_text("a file where the folder should be")
    assert_filled(loaded(model), saved(model))


def test_what_is_loaded_without_a_copy_does_not_change_with_the_checkpoint(
    model: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2VSEARCH_WEIGHTS_CACHE", "off")
    expected = saved(model)
    network = loaded(model)
    with (model / "model.pt").open("r+b") as file:  # in place, as cp does
        file.write(bytes((model / "model.pt").stat().st_size))
    assert_filled(network, expected)


def test_while_another_process_writes_the_copy_loading_goes_on(model: Path, copies: Path) -> None:
    from filelock import FileLock

    loaded(model)
    copy = only(copies)
    copy.unlink()
    copy.with_suffix(".part").write_text("of a process that was killed")
    with FileLock(copy.with_suffix(".lock")):
        assert_filled(loaded(model), saved(model))
        assert not copy.exists()
    assert_filled(loaded(model), saved(model))
    assert [path.suffix for path in copies.iterdir() if path.suffix != ".lock"] == [".safetensors"]


# ---------------------------------------------------------------------------------------------------- in a new process

_LOAD = """
import sys
from pathlib import Path
from e2vsearch.encoders.base import EncoderOptions
from e2vsearch.encoders.emotion2vec import checkpoint as weights, model_folder as folders
from e2vsearch.encoders.emotion2vec.loader import load

def loaded(folder):
    return load(folders.read(Path(folder)), EncoderOptions())[0]
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _LOAD + script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    with process:
        try:
            out, errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()  # or it and its pipes are left to tests that come later
            raise
    assert process.returncode == 0, errors
    return out


def test_processes_that_start_together_load_the_same(model: Path, copies: Path) -> None:
    script = "print(weights.fingerprint(weights.inference_tensors(loaded(sys.argv[1])), {}))"
    revisions = {said(process) for process in [started(script, model) for _ in range(2)]}
    assert revisions == {f"{weights.fingerprint(weights.inference_tensors(loaded(model)), {})}\n"}
    assert [path.suffix for path in copies.iterdir() if path.suffix != ".lock"] == [".safetensors"]


def test_funasr_is_left_for_others_to_import_as_a_whole(model: Path, copies: Path) -> None:
    script = textwrap.dedent("""
        before = weights.fingerprint(weights.inference_tensors(loaded(sys.argv[1])), {})
        assert not [name for name in sys.modules if name.partition(".")[0] == "funasr"]
        assert "transformers" not in sys.modules
        assert weights.fingerprint(weights.inference_tensors(loaded(sys.argv[1])), {}) == before
        import funasr, funasr.models.emotion2vec.model
        from funasr import AutoModel
        from funasr.register import tables
        assert {"Emotion2vec", "FsmnVADStreaming"} <= tables.model_classes.keys()
        assert tables.model_classes["Emotion2vec"] is funasr.models.emotion2vec.model.Emotion2vec
        assert type(loaded(sys.argv[1])) is tables.model_classes["Emotion2vec"]
        assert weights.fingerprint(weights.inference_tensors(loaded(sys.argv[1])), {}) == before
    """)
    said(started(script, model))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_loading_takes_little_more_memory_than_the_weights(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AutoModel takes more than 7 times the weights: the file's three copies twice over, and the network."""
    monkeypatch.setitem(random_emotion2vec.SHAPES, "small", Shape(512, 8, 2, 3, 128, 8, 256))
    write_model(tmp_path / "tiny")
    folder = write_model(tmp_path / "small", "small", optimizer=True)
    script = """
def memory(kind):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(kind)) * 1024

loaded(sys.argv[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = memory("VmHWM")
network = loaded(sys.argv[2])
print((memory("VmHWM") - before) / sum(tensor.nbytes for tensor in network.state_dict().values()))
"""
    first, second = (float(said(started(script, tmp_path / "tiny", folder))) for _ in range(2))
    assert first < 2.5
    assert 0.5 < second < 1.5
