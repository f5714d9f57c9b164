"""Labels of one's own: name a feeling, give it examples, train a light classifier, let it judge the collection.

`examples` gives and takes labels, `sources` says what an example may be, `training` makes a classifier of them
(`fitting`) and an honest report (`judging`, over the splits of `groups`), `applying` uses it, `suggesting` says what to
label next, and `exchange` carries one to another collection. `model` is the classifier itself: two plain arrays.
"""

from e2vsearch.analysis.labels.applying import classify, classify_audio
from e2vsearch.analysis.labels.examples import (
    add_examples,
    add_examples_from,
    list_examples,
    list_labels,
    remove_examples,
)
from e2vsearch.analysis.labels.exchange import export_classifier, import_classifier
from e2vsearch.analysis.labels.results import (
    Classified,
    ClassifiedMoment,
    ClassifierReport,
    ClassReport,
    ExampleFailure,
    LabelCount,
    LabelledExample,
    LabelReport,
    Replaced,
    Suggestion,
)
from e2vsearch.analysis.labels.suggesting import suggest
from e2vsearch.analysis.labels.training import classifiers, remove_classifier, train

__all__ = [
    "ClassReport",
    "Classified",
    "ClassifiedMoment",
    "ClassifierReport",
    "ExampleFailure",
    "LabelCount",
    "LabelReport",
    "LabelledExample",
    "Replaced",
    "Suggestion",
    "add_examples",
    "add_examples_from",
    "classifiers",
    "classify",
    "classify_audio",
    "export_classifier",
    "import_classifier",
    "list_examples",
    "list_labels",
    "remove_classifier",
    "remove_examples",
    "suggest",
    "train",
]
