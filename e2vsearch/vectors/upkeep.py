"""Building, tuning and dropping an index. Knows a folder, a source and what is wanted, nothing of searching or when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from e2vsearch import __version__
from e2vsearch.errors import SettingsError
from e2vsearch.feed import VectorSource
from e2vsearch.vectors import DEFAULT_RECALL, KINDS, IndexOptions, Kind, ivf, manifest, training, writing
from e2vsearch.vectors.exact import Floats
from e2vsearch.vectors.generation import Generation
from e2vsearch.vectors.ivf import Progress
from e2vsearch.vectors.manifest import FileSum, Manifest
from e2vsearch.vectors.training import Before, Fitted
from e2vsearch.vectors.tuning import Tuned

_GPU_KIND = "ivf-flat"  # what is cloned: FAISS's GPU code has no RaBitQ codes, and its memory holds 4 KiB a vector


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a build is for."""

    kind: Kind
    target: float

    @classmethod
    def of(cls, root: Path, options: IndexOptions, kind: Kind | None, target: float | None) -> Wanted:
        """What is asked for, else what the options say, else what the last build was for.

        Raises:
            SettingsError: no such kind, or a recall that is none.
        """
        before = manifest.wanted_before(root)
        kind = kind or (options.kind if options.kind != "auto" or before is None else cast(Kind, before[0]))
        if target is None:
            target = options.target_recall
        if target is None:
            target = before[1] if before is not None else DEFAULT_RECALL
        if kind not in KINDS:
            raise SettingsError(f"there is no index kind {kind!r}: use one of {', '.join(KINDS)}")
        if not 0 < target <= 1:
            raise SettingsError(f"a recall is a share of the true nearest, above 0 and up to 1, not {target:g}")
        return cls(kind, target)


def build(
    folder: Path,
    source: VectorSource,
    options: IndexOptions,
    wanted: Wanted,
    asked: Floats,
    before: Before | None,
    progress: Progress,
    wait_s: float,
) -> Manifest:
    """A new generation of all there is, pointed to.

    Args:
        folder: of the index.
        source: the truth.
        options: seed and how many to keep.
        wanted: kind and recall.
        asked: ``(q, dim)`` the last queries.
        before: lists of an earlier generation, used again if they still do.
        progress: told ``(stage, done, total)``.
        wait_s: how long to wait for another builder.

    Raises:
        GenerationBusy: another process is building.
        GenerationError: the folder cannot be written, or a GPU is wanted and there is none.
    """
    if wanted.kind == "gpu":
        ivf.require_gpu()
    with writing.building(folder, wait_s) as aside:
        with source.snapshot() as snapshot:
            n = writing.copy(snapshot, aside, source.dim, lambda done, of: progress("read", done, of))
            watermark = snapshot.watermark
        fitted = _fitted(wanted, n, source.dim, aside, options, asked, before, progress)

        def describe(files: dict[str, FileSum], built_at: str) -> Manifest:
            return Manifest(
                format=manifest.FORMAT,
                e2vsearch=__version__,
                faiss=None if fitted.nlist is None else str(ivf.faiss_module().__version__),
                kind=fitted.kind,
                asked_kind=wanted.kind,
                dim=source.dim,
                n=n,
                watermark=watermark,
                collection_id=source.collection_id,
                space_id=source.space_id,
                nlist=fitted.nlist,
                trained=fitted.trained,
                tuned=fitted.tuned,
                seed=options.seed,
                built_at=built_at,
                note=fitted.note,
                files=files,
            )

        progress("write", 0, 1)
        published = writing.publish(aside, options.keep, describe)
        progress("write", 1, 1)
    return published


def _fitted(
    wanted: Wanted,
    n: int,
    dim: int,
    aside: Path,
    options: IndexOptions,
    asked: Floats,
    before: Before | None,
    progress: Progress,
) -> Fitted:
    kind: str = wanted.kind
    if kind == "auto":
        kind = "flat" if n <= options.exact_below else "ivf-rabitq"
    elif kind == "gpu":
        kind = _GPU_KIND
    if kind == "flat":
        return Fitted.flat(wanted.target)
    vectors, ids = writing.copied(aside, n, dim)
    path = aside / manifest.IVF
    return training.fit(kind, vectors, ids, path, wanted.target, options.seed, progress, asked, before)


def lists_of(base: Generation | None) -> Before | None:
    """A generation's lists, for the next one."""
    if base is None or base.ivf is None or base.manifest.trained is None:
        return None
    return Before(base.ivf.centroids(), base.manifest.trained)


def tune(root: Path, base: Generation, target: float, asked: Floats, progress: Progress) -> Tuned:
    """Other settings for a generation as it is, and pointed to; call it under the builder's lock.

    Raises:
        GenerationError: it does not reach the target at any setting.
    """
    kind, seed = base.manifest.kind, base.manifest.seed
    if base.ivf is None:
        tuned = Tuned.exact(target)
    else:
        tuned = training.retuned(base.ivf, kind, base.vectors, base.ids, target, seed, asked, progress)
    writing.retune(root, base.pointer, tuned)
    return tuned
