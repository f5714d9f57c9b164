"""The collection over HTTP. Knows requests and answers; everything else is the collection's.

`app` puts the rooms together: `guard` says who may ask, `work` how many at a time and for how long, `uploads` takes
files in, `listening` and `batching` hear them, the `routes_…` answer, `answers` turns errors into statuses, `metrics`
counts, and `running` starts and ends it all. It is imported by nobody who does not serve: FastAPI comes with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2vsearch.errors import missing_extra
from e2vsearch.server.options import ServiceOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from e2vsearch.collection import Collection


def create_app(collection: Collection, options: ServiceOptions | None = None) -> FastAPI:
    """The HTTP application over an open collection, for any ASGI server.

    Without a key it answers only requests to a loopback name (``localhost``, ``127.0.0.1``, ``[::1]``), however it
    is bound. Its lifespan opens encoder and index and ends its threads; the collection stays the caller's to close.

    Raises:
        MissingExtra: FastAPI and its companions are not installed.
        SettingsError: an option out of range, or a root that is no folder.
    """
    require_packages()
    from e2vsearch.server.app import build

    return build(collection, options or ServiceOptions())


def require_packages() -> None:
    """See that the packages of the ``serve`` extra are there.

    Raises:
        MissingExtra: one of them is not.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise missing_extra("serve", "serve") from error
