"""A typed client of `e2vsearch serve`, for programs on other machines: sync, and async.

>>> from e2vsearch.client import Client
>>> with Client("http://127.0.0.1:8080") as client:  # doctest: +SKIP
...     for hit in client.query("angry.wav", k=5):
...         print(hit.score, hit.name, hit.start_s)

A query takes what `Collection.query` takes, and its result is the same object.
"""

from __future__ import annotations

from e2vsearch.errors import missing_extra

try:
    import httpx as _  # noqa: F401
except ImportError as error:
    raise missing_extra("the client", "client") from error

from e2vsearch.client.connection import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
