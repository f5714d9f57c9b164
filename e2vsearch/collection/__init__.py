"""One open collection: what is in it, and what in it feels like a reference. Adding to it is `e2vsearch.ingest`.

`opened` is the collection itself, `references` says what a query may be (with `targets` for emotions and labels),
`asked` is a question, `meaning` what its references stand for, `asking` the way to its answer. `ranking` orders calls,
`mixing` weighs several references, `courses` compares how calls run, `fusion` weighs side vectors in, `diversity`
limits hits of a kind, `explaining` and `percentiles` say why a hit is one. `hearing` turns audio into vectors,
`transfer` and `findings` export and import, `hits` and `results` are what comes back.
"""

from e2vsearch.collection.opened import Collection
from e2vsearch.collection.references import AudioQuery
from e2vsearch.collection.results import Comparison, Heard, Hit, Moment, QueryResult, Side, Status

__all__ = ["AudioQuery", "Collection", "Comparison", "Heard", "Hit", "Moment", "QueryResult", "Side", "Status"]
