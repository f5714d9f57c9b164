"""Plug-ins: found by their entry points, refused by their version, listed with their origin, and used."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import Run
from made import save, speech

import e2vsearch
from e2vsearch._version import __version__
from e2vsearch.encoders import registry
from e2vsearch.errors import AnalysisError, EncoderError, EngineError, PluginRefused, UnknownEncoder

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "hf-encoder"

ENCODER = """
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.types import Space

class Tiny(FakeEncoder):
    def __init__(self, options):
        super().__init__("tiny-1")
        self.space = Space("tiny", "tiny-1", 16, ("low", "high"))
"""
PROJECTION = """
import io
import numpy as np
from e2vsearch.errors import SpaceMismatch

class Weighted:
    kind, dim_emotion = "weighted", 0

    def __init__(self, name, weights):
        self.name, self.weights = name, weights
        self.revision = weights.tobytes().hex()[:64]
        self.dim_in = len(weights)

    def dim_out(self, dim):
        return self.dim_in

    def apply(self, vectors):
        return (np.asarray(vectors) * self.weights).astype(np.float32)

def fit(vectors, emotions, speakers):
    return np.linspace(1, 2, vectors.shape[1]).astype("<f4").tobytes()

def unpack(parameters, name, dim):
    return Weighted(name, np.frombuffer(parameters, "<f4"))
"""
ENGINE = """
def make(url, collection, space):
    from e2vsearch.vectors.engines.milvus import MilvusEngine

    return MilvusEngine(url, collection, space)
"""

Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Writes a distribution as pip would, onto the path."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(name: str, points: dict[str, dict[str, str]], source: str, version: str | None = "1") -> None:
        module = name.replace("-", "_")
        site, info = tmp_path / "site", tmp_path / "site" / f"{module}-2.5.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        says = "" if version is None else f"API_VERSION = {version}\n"
        (site / f"{module}.py").write_text(says + source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
        lines = [
            f"[e2vsearch.{kind}s]\n" + "".join(f"{point} = {module}{of}\n" for point, of in each.items())
            for kind, each in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()
        sys.modules.pop(module, None)

    return install


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "calls").mkdir()
    return save(tmp_path / "calls" / "one.wav", speech(3.0))


def test_an_encoder_is_listed_with_its_origin_and_used(installed: Installed, run: Run, clip: Path) -> None:
    installed("tiny-encoder", {"encoder": {"tiny": ":Tiny"}}, ENCODER)
    rows = {row["name"]: row for row in run("encoders").rows}
    assert (rows["light"]["origin"], rows["light"]["version"]) == ("e2vsearch", __version__)
    assert (rows["tiny"]["origin"], rows["tiny"]["version"], rows["tiny"]["refused"]) == ("tiny-encoder", "2.5", "")
    index = ("--index", clip.parent.parent / "index")
    done = run("ingest", clip, "--encoder", "tiny", *index)
    assert (done.code, done.rows[0]["stored"]) == (0, 1), done.err
    assert run("query", clip, *index).rows[0]["name"] == "one"  # the collection knows what opens it
    with pytest.raises(UnknownEncoder, match="tiny"):
        registry.open("nothing")


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("2", r"was written for version 2 .* has version 1 - upgrade e2vsearch, or take an older version of odd$"),
        ("0", r"was written for version 0 .* take another version of it: pip install -U odd$"),
        (None, r"does not say which plug-in interface"),
        ("1\nraise OSError('no disk')", r"cannot be imported \(OSError: no disk\) - .*pip uninstall odd$"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_why(
    installed: Installed, run: Run, clip: Path, version: str | None, says: str
) -> None:
    """Only where it is asked for by name: listed, it is marked, and whatever else works on."""
    installed("odd", {"encoder": {"odd": ":Tiny"}}, ENCODER, version)
    with pytest.raises(PluginRefused, match=rf"the encoder 'odd' of odd 2\.5 {says}"):
        registry.open("odd")
    refused = run("ingest", clip, "--encoder", "odd", "--index", clip.parent / "index")
    assert (refused.code, len(refused.err.strip().splitlines())) == (1, 1)
    listed = run("plugins", "--format", "json")
    assert listed.code == 0
    assert "the encoder 'odd'" in listed.out
    assert registry.open("fake").space.encoder == "fake"


def test_what_is_built_in_stays(installed: Installed, run: Run) -> None:
    installed("mimic", {"encoder": {"light": ":Tiny"}}, ENCODER)
    assert registry.open("light").space.encoder == "light"
    assert [row["refused"] for row in run("encoders").rows if row["origin"] == "mimic"] == [
        "light is built in: the plug-in needs another name"
    ]


def test_what_is_no_encoder_is_reported(installed: Installed) -> None:
    installed("wrong", {"encoder": {"wrong": ":make"}}, "def make(options):\n    return {}\n")
    with pytest.raises(EncoderError, match=r"encoder wrong of wrong 2\.5 gives a dict and no Encoder"):
        registry.open("wrong")


def test_a_projection_is_fitted_and_searched_through(
    installed: Installed, run: Run, clip: Path, tmp_path: Path
) -> None:
    installed("weighted", {"projection": {"weighted": ""}}, PROJECTION)
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(clip)
        collection.labels.add("mine", "seg:1")
        before = collection.catalog.feed().fetch(np.array([1])).vectors[0]
        made = run("projection", "fit", "--kind", "weighted", "--index", tmp_path / "index")
        assert (made.code, made.rows[0]["kind"]) == (0, "weighted"), made.err
        collection.projections.use("weighted")
        projected = collection.projections.view().source.fetch(np.array([1])).vectors[0]
        np.testing.assert_allclose(projected, before * np.linspace(1, 2, 16), rtol=1e-5)
        assert collection.query("seg:1", include_self=True)
    (tmp_path / "site" / "weighted-2.5.dist-info" / "entry_points.txt").write_text("")
    importlib.invalidate_caches()
    with (
        e2vsearch.open(tmp_path / "index") as collection,
        pytest.raises(AnalysisError, match="plug-in 'weighted', which is not installed"),
    ):
        collection.query("seg:1")


def test_an_engine_is_chosen_by_name(installed: Installed, run: Run, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite", reason="the 'milvus' extra is not installed")
    from e2vsearch.vectors.engines.milvus import disconnect

    url, index = str(tmp_path / "milvus.db"), ("--index", tmp_path / "index")
    assert run("ingest", clip, "--encoder", "fake", "--engine", "mine", *index).code == 2  # there is none yet
    installed("mine", {"engine": {"mine": ":make"}}, ENGINE)
    try:
        done = run("ingest", clip, "--encoder", "fake", "--engine", "mine", "--engine-url", url, *index)
        assert done.code == 0, done.err
        assert run("index", "build", *index).code == 0
        assert run("query", "seg:1", *index).code == 0
        (tmp_path / "site" / "mine-2.5.dist-info" / "entry_points.txt").write_text("")
        importlib.invalidate_caches()
        with e2vsearch.open(tmp_path / "index") as collection, pytest.raises(EngineError, match="not installed here"):
            collection.query("seg:1")
    finally:
        disconnect(url)


def test_nothing_is_looked_up_without_need() -> None:
    code = (
        "import sys, e2vsearch.plugins\nfrom e2vsearch.encoders import registry\nregistry.open('fake')\n"
        "sys.exit('importlib.metadata' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_example_is_installed_and_used(
    run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WavLM of random weights, made here."""
    pytest.importorskip("torch", reason="the 'emotion2vec' extra is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("hatchling", reason="hatchling, which builds the example, is not installed")
    site = tmp_path / "site"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*pip, "--target", str(site), str(EXAMPLE)], check=True)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    config = transformers.WavLMConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        conv_dim=(16,) * 7,
    )
    transformers.WavLMModel(config).save_pretrained(tmp_path / "model")
    monkeypatch.setenv("E2VSEARCH_HF_MODEL", str(tmp_path / "model"))
    rows = {row["name"]: row for row in run("encoders").rows}
    assert (rows["hf"]["origin"], rows["hf"]["version"]) == ("e2vsearch-hf-encoder", "0.1.0")
    index = ("--index", tmp_path / "index")
    done = run("ingest", clip, "--encoder", "hf", *index)
    assert (done.code, done.rows[0]["stored"]) == (0, 1), done.err
    found = run("query", clip, "--include-self", *index)
    assert (found.code, found.rows[0]["name"]) == (0, "one"), found.err
    assert found.rows[0]["score"] == pytest.approx(1.0, abs=1e-5)
