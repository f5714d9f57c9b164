"""Labels of one's own: examples, classifiers trained on them, and active learning."""

from __future__ import annotations

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.labels import active_learning, classifier_file, examples, predict
from e2vsearch.analysis.labels import train as training


class Labels(AnalysisContext):
    """The facet `Collection.labels`."""

    add = examples.add_examples
    add_from = examples.add_examples_from
    remove = examples.remove_examples
    list = examples.list_labels
    examples = examples.list_examples
    suggest = active_learning.suggest
    train = training.train
    classifiers = training.classifiers
    remove_classifier = training.remove_classifier
    classify = predict.classify
    classify_audio = predict.classify_audio
    export_classifier = classifier_file.export_classifier
    import_classifier = classifier_file.import_classifier
