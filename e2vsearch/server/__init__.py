"""A collection is served over HTTP by FastAPI, which is imported only by who serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2vsearch.errors import missing_extra
from e2vsearch.server.options import ServiceOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from e2vsearch.collection import Collection


def create_app(collection: Collection, options: ServiceOptions | None = None) -> FastAPI:
    """Return the HTTP application over an open collection, for any ASGI server.

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
    """Check that the packages of the ``serve`` extra are installed.

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
