"""The web page's files are a route each, so that no path that a client sends is looked for on a disk; and ``/docs``.

The page's views have addresses of their own, beside those of the API: each answers with the same index.html.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Set
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from starlette.responses import FileResponse, HTMLResponse

from e2vsearch.files import responsible_use

FOLDER = Path(__file__).parent / "static"

VIEWS = ("/calls", "/calls/{id}", "/view/map", "/view/trends", "/view/labels")
"""Addresses of the page's views; that of a query is ``/``."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_PERMISSIONS = "microphone=(self), camera=(), geolocation=()"
_FOREVER = "public, max-age=31536000, immutable"  # Vite puts a hash of the content into names below assets/

_HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY, "Permissions-Policy": _PERMISSIONS}

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;padding:.5rem;border:1px solid #8888}"
    "summary{cursor:pointer}"
)

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_DOCS_POLICY = f"default-src 'none'; img-src 'self'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"


def add(app: FastAPI, folder: Path = FOLDER) -> frozenset[str]:
    """Add the page's files and ``/docs`` to an application, and return their paths, which need no key.

    A path that ends in a slash stands for every path one below it.
    """
    paths = {"/docs"}
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    for name, path in files.items():
        if name != "index.html":
            paths.add(_add_file(app, f"/{name}", path))
    for view in ("/", *VIEWS):
        index = _index(files["index.html"], view) if "index.html" in files else _not_built
        app.add_api_route(view, index, methods=["GET", "HEAD"], include_in_schema=False)
        paths.add(view.partition("{")[0])

    async def docs() -> Response:
        return _html("e2vsearch: HTTP API", _describe(app.openapi()))

    app.add_api_route("/docs", docs, methods=["GET", "HEAD"], include_in_schema=False)
    document = responsible_use()
    if document is not None:  # the page's foot links to it
        paths.add(_add_file(app, "/responsible-use", document, "text/plain"))
    return frozenset(paths)


def _add_file(app: FastAPI, at: str, path: Path, kind: str | None = None) -> str:
    headers = _HEADERS | {"Cache-Control": _FOREVER} if at.startswith("/assets/") else _HEADERS
    kind = kind or {".js": "text/javascript", ".md": "text/markdown"}.get(
        path.suffix
    )  # not left to the system's registry

    async def file() -> Response:
        return FileResponse(path, headers=headers, media_type=kind)

    app.add_api_route(at, file, methods=["GET", "HEAD"], include_in_schema=False)
    return at


def _index(path: Path, view: str) -> Callable[[], Awaitable[Response]]:
    """Return what answers with the page, whose links are relative: it may be served below a path by a proxy."""
    up = "../" * (view.count("/") - 1)

    async def index() -> Response:
        text = path.read_text(encoding="utf-8")
        return HTMLResponse(text.replace('"./', f'"{up}') if up else text, headers=_HEADERS)

    return index


def is_open(path: str, open_paths: Set[str]) -> bool:
    """Return whether a path is one of those that `add` returned.

    >>> [is_open(path, {"/calls/"}) for path in ("/calls/call:1", "/calls/1/2", "/recordings/1")]
    [True, False, False]
    """
    return path in open_paths or f"{path.rpartition('/')[0]}/" in open_paths - {"/"}


async def _not_built() -> Response:
    return _html(
        "e2vsearch",
        "<p>The page is not built in this copy of e2vsearch: run <code>make page</code> (with Node.js), "
        'or use the HTTP API, which is described at <a href="/docs">/docs</a>.</p>',
    )


def _html(title: str, body: str) -> Response:
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": _DOCS_POLICY})


def _describe(document: Mapping[str, Any]) -> str:
    """Return the OpenAPI document as HTML that needs no script, and nothing from elsewhere."""
    parts = [
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['description'])}</p>",
        '<p>For machines: <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
            parts.append(f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>")
            parts.extend(_field(f"{each['name']} ({each['in']})", each) for each in operation.get("parameters", ()))
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"][name] if name else content["schema"]
                required = schema.get("required", ())
                for name, each in schema.get("properties", {}).items():
                    parts.append(_field(f"{name} (required)" if name in required else name, each))
                parts.extend(f"<pre>{escape(json.dumps(each))}</pre>" for each in schema.get("examples", ()))
            parts.append("<details><summary>Responses</summary>")
            for status, response in operation["responses"].items():
                parts.append(_field(status, response))
                example = response.get("content", {}).get("application/json", {}).get("example")
                if example is not None:
                    parts.append(f"<pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>")
            parts.append("</details>")
    return "".join(parts)


def _field(name: str, described: Mapping[str, Any]) -> str:
    return f"<p><code>{escape(name)}</code> {escape(described.get('description', ''))}</p>"
