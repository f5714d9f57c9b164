"""The yardstick: how well a space finds the same emotion, in other voices and other words.

`evaluate` (`measuring`) reads labels (`labels_table`), gets vectors for them (`material`, in the `conditions` asked
for, as `calls` if asked), and measures. `figures` is its core, for arrays: a `ranking` of everything by cosine,
`triplets`, and intervals (`chance`). `recalls` looks at the encoder's own classes. Nothing is stored.

`yardstick.rows` measures arrays where acted corpora hide what a projection costs: `splits` of one mood per voice,
skewed mixes and composed calls, through a projection adapted to them (`adaptation`), beside the encoder's own vectors.
`probes` read voice and sentence from vectors. `evaluate_layers` measures every block of an encoder through every
projection that its head makes.
"""

from e2vsearch.analysis.evaluation.adaptation import Adapt
from e2vsearch.analysis.evaluation.conditions import TelephoneOptions, telephone
from e2vsearch.analysis.evaluation.figures import figures, gain
from e2vsearch.analysis.evaluation.labels_table import Labelled, LabelTable
from e2vsearch.analysis.evaluation.labels_table import read as read_labels
from e2vsearch.analysis.evaluation.layers import evaluate_layers
from e2vsearch.analysis.evaluation.material import Material, Show, listen, recall
from e2vsearch.analysis.evaluation.measuring import Project, evaluate
from e2vsearch.analysis.evaluation.probes import probe
from e2vsearch.analysis.evaluation.results import (
    By,
    Carried,
    Condition,
    EmotionRanking,
    Evaluation,
    Figures,
    Gain,
    LabelFailure,
    LayerEvaluation,
    LayerRow,
    Leak,
    Probe,
    Progress,
    Ranking,
    Recall,
    TripletKind,
    Triplets,
    YardstickRow,
    YardstickSummary,
)
from e2vsearch.analysis.evaluation.yardstick import EmbeddedClips, Yardstick

__all__ = [
    "Adapt",
    "By",
    "Carried",
    "Condition",
    "EmbeddedClips",
    "EmotionRanking",
    "Evaluation",
    "Figures",
    "Gain",
    "LabelFailure",
    "LabelTable",
    "Labelled",
    "LayerEvaluation",
    "LayerRow",
    "Leak",
    "Material",
    "Probe",
    "Progress",
    "Project",
    "Ranking",
    "Recall",
    "Show",
    "TelephoneOptions",
    "TripletKind",
    "Triplets",
    "Yardstick",
    "YardstickRow",
    "YardstickSummary",
    "evaluate",
    "evaluate_layers",
    "figures",
    "gain",
    "listen",
    "probe",
    "read_labels",
    "recall",
    "telephone",
]
