"""The yardstick: how well a space finds the same emotion, in other voices and other words.

`evaluate` (`measuring`) reads labels (`labels_table`), gets vectors for them (`material`, in the `conditions` asked
for, as `calls` if asked), and measures. `figures` is its core, for arrays: a `ranking` of everything by cosine,
`triplets`, and intervals (`chance`). `recalls` looks at the encoder's own classes. Nothing is stored or learned.
"""

from e2vsearch.analysis.evaluation.conditions import TelephoneOptions, telephone
from e2vsearch.analysis.evaluation.figures import figures, gain
from e2vsearch.analysis.evaluation.labels_table import Labelled, LabelTable
from e2vsearch.analysis.evaluation.labels_table import read as read_labels
from e2vsearch.analysis.evaluation.material import Material, Show, listen, recall
from e2vsearch.analysis.evaluation.measuring import Project, evaluate
from e2vsearch.analysis.evaluation.results import (
    By,
    Condition,
    EmotionRanking,
    Evaluation,
    Figures,
    Gain,
    LabelFailure,
    Leak,
    Progress,
    Ranking,
    Recall,
    TripletKind,
    Triplets,
)

__all__ = [
    "By",
    "Condition",
    "EmotionRanking",
    "Evaluation",
    "Figures",
    "Gain",
    "LabelFailure",
    "LabelTable",
    "Labelled",
    "Leak",
    "Material",
    "Progress",
    "Project",
    "Ranking",
    "Recall",
    "Show",
    "TelephoneOptions",
    "TripletKind",
    "Triplets",
    "evaluate",
    "figures",
    "gain",
    "listen",
    "read_labels",
    "recall",
    "telephone",
]
