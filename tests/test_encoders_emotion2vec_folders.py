"""Model folders: whole ones, moved ones, damaged ones, downloaded ones and none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made
import numpy as np
import pytest
from opened_emotion2vec import NEEDED, change_config, change_weights, opened
from random_emotion2vec import LABELS, TOKENS, write_model

from e2vsearch.encoders.emotion2vec.encoder import Emotion2vecEncoder
from e2vsearch.encoders.emotion2vec.funasr import silenced
from e2vsearch.errors import BadWeights, EncoderUnavailable, MissingExtra

pytestmark = NEEDED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Emotion2vecEncoder:
    return opened(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A model folder to be tampered with."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def test_a_space_outlives_its_folders_move(encoder: Emotion2vecEncoder, folder: Path, tmp_path: Path) -> None:
    moved = opened(shutil.copytree(folder, tmp_path / "another name"))
    assert moved.space == encoder.space
    assert moved.space.encoder == "emotion2vec"
    assert moved.opened_by == str(tmp_path / "another name")


def test_a_folder_called_as_published_is_that_model(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(folder, tmp_path / "emotion2vec_plus_base")
    monkeypatch.chdir(tmp_path)
    encoder = opened("./emotion2vec_plus_base")
    assert encoder.space.encoder == "emotion2vec_plus_base"
    assert encoder.opened_by == str(tmp_path / "emotion2vec_plus_base")


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "copies of an optimizer": lambda f: write_model(f, optimizer=True),
    "a decoder": lambda f: write_model(f, decoder=True),
    "no decoder in config.yaml": lambda f: change_config(
        f, lambda c: c["model_conf"]["modalities"]["audio"].update(decoder=None)
    ),
    "other settings of training": lambda f: change_config(f, lambda c: c["model_conf"].update(encoder_dropout=0.3)),
    "no configuration.json": lambda f: (f / "configuration.json").unlink(),
    "another name of the checkpoint": lambda f: (
        (f / "model.pt").rename(f / "emotion2vec_base.pt"),
        (f / "configuration.json").write_text(
            (f / "configuration.json").read_text().replace("model.pt", "emotion2vec_base.pt")
        ),
    ),
    "another prefix": lambda f: (
        change_weights(f, lambda w: [w.update({n.replace("d2v_model", "x"): w.pop(n)}) for n in list(w)]),
        change_config(f, lambda c: c.update(scope_map=["x.", "none"])),
    ),
    "half as a text": lambda f: change_config(f, lambda c: c.update(scope_map="d2v_model.,none")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_files_does_not_change_the_space(encoder: Emotion2vecEncoder, copy: Path, name: str) -> None:
    LAYOUTS[name](copy)
    other, signal = opened(copy), made.speech(1.0)
    assert other.space == encoder.space
    np.testing.assert_array_equal(other.encode([signal]).vectors, encoder.encode([signal]).vectors)


@pytest.mark.parametrize(
    "change",
    [
        lambda f: write_model(f, seed=1),
        lambda f: change_weights(f, lambda w: w["d2v_model.blocks.0.norm2.bias"][:1].add_(1e-6)),
        lambda f: write_model(f, normalize=False),
        lambda f: write_model(f, norm_eps=1e-6),
        lambda f: change_config(
            f,
            lambda c: c["model_conf"]["modalities"]["audio"].update(
                feature_encoder_spec="[(32, 10, 4)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2"
            ),
        ),
    ],
    ids=["weights", "one weight", "normalize", "epsilon", "stride"],
)
def test_whatever_changes_vectors_changes_the_revision(
    encoder: Emotion2vecEncoder, copy: Path, change: Callable[[Path], object]
) -> None:
    change(copy)
    assert opened(copy).space.revision != encoder.space.revision


def _remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


def _saved(folder: Path, what: object) -> None:
    import torch

    torch.save(what, folder / "model.pt")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _tokens(folder: Path, *lines: str) -> None:
    (folder / "tokens.txt").write_text("\n".join(lines), encoding="utf-8")


def _code(folder: Path) -> None:
    run = f"__import__('pathlib').Path({str(folder / 'ran')!r}).touch() or [(32, 10, 5)]"
    change_config(folder, lambda c: c["model_conf"]["modalities"]["audio"].update(feature_encoder_spec=run))


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no checkpoint": ("has no model.pt", lambda f: (f / "model.pt").unlink()),
    "no checkpoint, no configuration": (
        "has no model.pt",
        lambda f: _remove(f, "model.pt", "configuration.json"),
    ),
    "no config": ("has no config.yaml", lambda f: (f / "config.yaml").unlink()),
    "no tokens": ("has no tokens.txt", lambda f: (f / "tokens.txt").unlink()),
    "no tokens, no configuration": (
        "has no tokens.txt",
        lambda f: _remove(f, "tokens.txt", "configuration.json"),
    ),
    "nothing": ("has no config.yaml", lambda f: _remove(f, *(path.name for path in f.iterdir()))),
    "tokens twice": ("duplicated", lambda f: _tokens(f, *TOKENS[:7], TOKENS[0], "<unk>")),
    "tokens alike": ("must name each class once", lambda f: _tokens(f, *TOKENS[:7], "ANGRY", "<unk>")),
    "token blank": ("must name each class once", lambda f: _tokens(f, *TOKENS[:7], "", "<unk>")),
    "tokens without <unk>": ("<unk>", lambda f: _tokens(f, *LABELS)),
    "tokens in Latin-1": (
        "codec can't decode",
        lambda f: (f / "tokens.txt").write_bytes("fâché\n<unk>".encode("cp1252")),
    ),
    "too many tokens": (
        r"2 of 65 tensors are missing, the first is proj\.bias \(\(10,\) by config.yaml, \(9,\) in the",
        lambda f: _tokens(f, *TOKENS[:8], "bored", "<unk>"),
    ),
    "no scope_map": (
        r"63 of 65 tensors are missing.*config\.yaml needs scope_map: \['d2v_model\.', none\]",
        lambda f: change_config(f, lambda c: c.pop("scope_map")),
    ),
    "another width": (
        r"tensors are missing, the first is .* by config.yaml",
        lambda f: change_config(f, lambda c: c["model_conf"].update(embed_dim=32)),
    ),
    "another depth": (
        r"12 of 77 tensors are missing, the first is blocks\.1\.attn\.proj\.bias \(config.yaml and checkpoint are of",
        lambda f: change_config(f, lambda c: c["model_conf"].update(depth=2)),
    ),
    "a tensor lost": (
        r"1 of 65 tensors are missing, the first is modality_encoders\.AUDIO\.alibi_scale",
        lambda f: change_weights(f, lambda w: w.pop("d2v_model.modality_encoders.AUDIO.alibi_scale")),
    ),
    "excluded by config.yaml": (
        r"2 of 65 tensors are missing, the first is proj\.bias",
        lambda f: change_config(f, lambda c: c.update(excludes=["proj"])),
    ),
    "NaN": (
        r"blocks\.0\.norm1\.bias has values that are not finite",
        lambda f: change_weights(f, lambda w: w["d2v_model.blocks.0.norm1.bias"].fill_(float("nan"))),
    ),
    "cut": ("not a whole PyTorch checkpoint", lambda f: _half(f / "model.pt")),
    "empty": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_bytes(b"")),
    "text": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_text("Not found\n" * 100)),
    "a page": ("not a whole PyTorch checkpoint", lambda f: (f / "model.pt").write_text("<!DOCTYPE html>")),
    "code": ("not a whole PyTorch checkpoint", lambda f: _saved(f, {"model": Path("objects are not loaded")})),
    "no names": ("holds no named tensors", lambda f: _saved(f, [1, 2])),
    "no tensors": ("holds no named tensors", lambda f: _saved(f, {"model": {"a": 1}})),
    "not YAML": ("is not valid YAML", lambda f: (f / "config.yaml").write_text("model: [")),
    "not a mapping": ("not of an emotion2vec model", lambda f: (f / "config.yaml").write_text("- model")),
    "another model": (r"\(model: Paraformer\)", lambda f: change_config(f, lambda c: c.update(model="Paraformer"))),
    "half a config": ("does not describe a whole network", lambda f: change_config(f, lambda c: c.pop("model_conf"))),
    "less of a config": ("FunASR cannot open", lambda f: change_config(f, lambda c: c["model_conf"].pop("num_heads"))),
    "code in a config": ("must be a list of layer sizes", _code),
    "not JSON": ("is not the JSON object", lambda f: (f / "configuration.json").write_text("{")),
    "a JSON list": ("is not the JSON object", lambda f: (f / "configuration.json").write_text("[]")),
    "odd JSON": (
        "must name the model's files",
        lambda f: (f / "configuration.json").write_text('{"file_path_metas": 1}'),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_model_that_is_not_whole_is_one_clear_error(copy: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    message, damage = DAMAGE[kind]
    damage(copy)
    with pytest.raises(BadWeights, match=message) as caught:
        opened(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not (copy / "ran").exists()


def test_a_config_may_not_bring_its_own_code(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "remote.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    change_config(copy, lambda c: c.update(trust_remote_code=True, remote_code=str(tmp_path / "remote.py")))
    opened(copy)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_the_format_before_zip_is_read(encoder: Emotion2vecEncoder, copy: Path) -> None:
    import torch

    checkpoint = torch.load(copy / "model.pt", weights_only=True)
    torch.save(checkpoint, copy / "model.pt", _use_new_zipfile_serialization=False)
    assert opened(copy).space == encoder.space


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match=r"gone is not a folder"):
        opened(tmp_path / "gone")


@pytest.mark.parametrize("package", ["torch", "funasr"])
def test_without_its_packages_the_cure_is_named(
    encoder: Emotion2vecEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[emotion2vec\]'"):
        opened(folder)


def test_a_device_that_is_not_there_is_not_replaced_in_silence(folder: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(EncoderUnavailable, match="no usable cuda device here; use --device cpu"):
            opened(folder, device="cuda")
    with pytest.raises(EncoderUnavailable, match="no device called 'gpu'"):
        opened(folder, device="gpu")


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both hubs where nobody answers, their caches empty: `<fixture>/ms` and `<fixture>/hf`."""
    with silenced():
        import huggingface_hub.constants

    for name in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "ms"))
    monkeypatch.setattr("modelscope_hub.config._default_config", None, raising=False)  # it remembers the cache's place
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def test_neither_network_nor_a_cached_copy(hubs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EncoderUnavailable) as caught:
        opened("emotion2vec_plus_large")
    text = str(caught.value)
    assert "ModelScope cannot be reached" in text
    assert "Hugging Face cannot be reached" in text
    assert "use --encoder light" in text
    assert "local copy" in text
    assert "\n" not in text
    assert capfd.readouterr() == ("", "")


CACHES = {
    "ModelScope": "ms/models/iic--emotion2vec_plus_base/snapshots/master",
    "ModelScope before 1.38": "ms/models/iic/emotion2vec_plus_base",
    "Hugging Face": "hf/models--emotion2vec--emotion2vec_plus_base/snapshots/0123456789abcdef0123456789abcdef01234567",
}


def _cached(hubs: Path, hub: str, folder: Path) -> Path:
    place = hubs / CACHES[hub]
    shutil.copytree(folder, place)
    if hub == "Hugging Face":
        (place.parent.parent / "refs").mkdir()
        (place.parent.parent / "refs" / "main").write_text(place.name)
    return place


@pytest.mark.parametrize("hub", CACHES)
def test_a_cached_copy_needs_no_network(
    encoder: Emotion2vecEncoder, folder: Path, hubs: Path, hub: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _cached(hubs, hub, folder)
    cached = opened("emotion2vec_plus_base")
    assert cached.space.encoder == cached.opened_by == "emotion2vec_plus_base"
    assert cached.space.revision == encoder.space.revision
    assert capfd.readouterr() == ("", "")


def test_half_a_cached_copy_is_not_taken_for_one(encoder: Emotion2vecEncoder, folder: Path, hubs: Path) -> None:
    (_cached(hubs, "ModelScope", folder) / "model.pt").unlink()
    with pytest.raises(EncoderUnavailable, match="not cached"):
        opened("emotion2vec_plus_base")
    _cached(hubs, "Hugging Face", folder)
    assert opened("emotion2vec_plus_base").space.revision == encoder.space.revision
