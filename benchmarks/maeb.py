"""What an encoder's vectors are worth on MAEB's emotion tasks, beside a plain baseline, as outsiders measure it (mteb).

    pip install 'e2vsearch[mteb]'
    python benchmarks/maeb.py --encoder light                                   # fetches data from huggingface.co
    python benchmarks/maeb.py --encoder emotion2vec_plus_large --projection raw --tasks CREMA_D IEMOCAPEmotion
    python benchmarks/maeb.py --audio ../shared/audio/emodb                     # the rules of CREMA_D on your own clips

MAEB (arXiv 2602.16008) fits a logistic regression to 8 clips of each class (CAMEO: 16), with its accuracy on others as
the score (classification), groups clips by k-means (clustering, V-measure), or tells pairs of one emotion from others
by cosine (pair classification, average precision). CREMA_D and IEMOCAPEmotion are split at random, speakers on both
sides: figures are higher than for new voices, and keeping the voice in a vector costs nothing. Only CAMEO states
that it is split by speaker; `retrieval.py` leaves speakers out. RAVDESS is a zero-shot task there, for encoders that
take text as well, and is not run.

The baseline is that of `retrieval.py`, log-mel statistics, not z-scored. `light` as it ships was trained on CREMA-D
and EMO-DB: its figures there are no proof, and those of such tasks are marked. Results are shown and not filed: to add
to mteb's own table, call `mteb.evaluate` from Python (see `e2vsearch.integrations.mteb`).

Where a task's data cannot be had, it is left out and named, and the exit status is 1; 77 without mteb. `--quick` makes
clips: that shows that mteb runs from end to end, and nothing about people. `HF_HUB_OFFLINE=1` saves asking in vain.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _table import Row, parser, show
from retrieval import LogMelStatistics, make

from e2vsearch.analysis.evaluation import labels_table
from e2vsearch.encoders import registry
from e2vsearch.encoders.base import Encoder, EncoderOptions
from e2vsearch.errors import E2vsearchError, MissingExtra, SettingsError, missing_extra
from e2vsearch.integrations.mteb import E2vsearchEncoder, leave_encoded

TASKS = (
    "CREMA_D",
    "CREMA_DClustering",
    "CREMADPairClassification",
    "IEMOCAPEmotion",
    "AESDD",  # Greek
    "ExpressoConv",
    "ExpressoRead",
    "CAMEOEmotionClassification",  # Bengali, English, French, Italian, Polish; in beta
)
"""Of mteb 2.26, those that take audio alone. Three more are filed under emotion, but are of accents and of coughs."""

LEARNED = TASKS[:3]
"""What `light` as it ships was trained on."""

OWN = ("CREMA_D", "CREMA_DClustering")
"""Tasks whose rules are applied to the clips of `--audio`."""

SKIPPED = 77
"""The exit status of a test that cannot be run here, as Automake has it."""


def known(names: Sequence[str]) -> list[Any]:
    """Look up mteb's tasks of these names.

    Raises:
        MissingExtra: mteb is not installed.
        SettingsError: it has no such task, or one that takes other things than audio.
    """
    try:
        import mteb
    except ModuleNotFoundError as error:
        raise missing_extra("benchmarks/maeb.py", "mteb") from error
    found = []
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that a task is in beta
                task = mteb.get_task(name)
        except KeyError as error:
            raise SettingsError(f"mteb {mteb.__version__} has no task {name!r} - upgrade it, or see --help") from error
        if task.metadata.modalities != ["audio"]:
            raise SettingsError(f"task {name} takes {', '.join(task.metadata.modalities)} - name tasks of audio alone")
        found.append(task)
    return found


def fetch(tasks: Sequence[Any]) -> tuple[list[Any], str]:
    """Those whose data is here now, and a line on the others, empty where there are none."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of each of six tries
    loaded, absent, why = [], [], ""
    for task in tasks:
        try:
            task.load_data()
        except (OSError, ValueError) as error:  # the hub's and the cache's errors
            absent.append(task.metadata.name)
            why = str(error).strip().partition("\n")[0]
            continue
        leave_encoded(task)
        loaded.append(task)
    cure = "connect to huggingface.co, copy a filled cache to HF_HOME, or name labels.csv files by --audio"
    return loaded, f"the data of {', '.join(absent)} cannot be had ({why}) - {cure}" if absent else ""


def fill(tasks: Sequence[Any], labels: Path) -> None:
    """Put the clips that `labels` names in the place of the tasks' own.

    Raises:
        SettingsError: columns are missing.
    """
    from datasets import Dataset, DatasetDict

    table = labels_table.read(labels)
    clips = [{"bytes": None, "path": str(table.file(row))} for row in table.rows]
    classes = sorted({row.emotion for row in table.rows})
    labels_of = [classes.index(row.emotion) for row in table.rows]  # mteb wants numbers where a fold has two classes
    for task in tasks:
        data = Dataset.from_dict({"audio": clips, "label": labels_of})
        task.dataset = DatasetDict(train=data)
        task.dataset_transform()
        task.data_loaded = True


def rows_of(
    tasks: Sequence[Any], encoder: Encoder, projection: Any, corpus: str, learned: Sequence[str]
) -> Iterator[Row]:
    """Return the main score of each task beside the baseline's."""
    import mteb

    ours = E2vsearchEncoder(encoder, projection=projection, training_datasets=learned or None)
    plain = E2vsearchEncoder(LogMelStatistics(), projection="raw")
    for task in tasks:
        name = f"{corpus}{task.metadata.name}: {task.metadata.main_score}"
        with warnings.catch_warnings():  # scikit-learn's, on 100 steps and folds without a class: they are MAEB's rules
            warnings.simplefilter("ignore", UserWarning)
            scores = [
                float(mteb.evaluate(side, task, cache=None, show_progress_bar=False).task_results[0].get_score())
                for side in (ours, plain)
            ]
        base, mark = f"{name}, log-mel", "(trained on it)" if task.metadata.name in learned else ""
        ratio = scores[0] / scores[1] if scores[1] else None
        yield Row(f"{name}, {encoder.space.encoder}", scores[0], mark, ratio, base)
        yield Row(base, scores[1])


def main() -> int:
    """Measure, print, and write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("--encoder", default="light", help="any name that `e2vsearch.encoders.registry.open` knows")
    arguments.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    arguments.add_argument("--projection", choices=("default", "raw"), default="default",
                           help="the one that ships with the encoder, at rest, or its own vectors")  # fmt: skip
    arguments.add_argument("--tasks", nargs="+", metavar="NAME", help=f"of {', '.join(TASKS)}; all by default")
    arguments.add_argument("--audio", type=Path, nargs="+", help="labels.csv files or their folders, in place of tasks")
    chosen = arguments.parse_args()
    rows: list[Row] = []
    status, absent = 0, ""
    with ExitStack() as stack:
        try:
            corpora = chosen.audio or []
            if chosen.quick and not corpora:
                corpora = [make(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="made-"))))]
            tasks = known(OWN if corpora else chosen.tasks or TASKS)
            encoder = registry.open(chosen.encoder, EncoderOptions(device=chosen.device))
            shipped = encoder.space.encoder == "light" and not encoder.opened_by
            for path in corpora:
                labels = path / "labels.csv" if path.is_dir() else path
                tasks = known(OWN)  # anew: a task draws from random numbers of its own
                fill(tasks, labels)
                name = "made audio" if path.name.startswith("made-") else labels.absolute().parent.name
                rows += rows_of(tasks, encoder, chosen.projection, f"{name} as ", ())
            if not corpora:
                tasks, absent = fetch(tasks)
                rows += rows_of(tasks, encoder, chosen.projection, "", LEARNED if shipped else ())
        except E2vsearchError as error:  # what was measured before it is shown all the same
            print(error, file=sys.stderr)
            status = SKIPPED if isinstance(error, MissingExtra) else 1
    if rows:
        space = encoder.space
        title = f"{space.encoder}@{space.revision[:12]}, projection {chosen.projection}, by the rules of MAEB"
        show(title, rows, chosen.json)
    if absent:
        print(absent, file=sys.stderr)
    return status or int(bool(absent))


if __name__ == "__main__":
    sys.exit(main())
