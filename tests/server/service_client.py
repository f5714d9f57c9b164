"""A small collection behind the service's test client, and what an answer must look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from e2vsearch.collection import Collection
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions

LOCAL = "http://127.0.0.1:8080"


def client_over(collection: Collection, place: Path) -> TestClient:
    """The test client of a service that may read the calls beside the collection's folder."""
    app = create_app(collection, ServiceOptions(roots=(place.parent / "calls",)))
    return TestClient(app, base_url=LOCAL)


def post(client: TestClient, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def error_of(response: Any, status: int, reason: str) -> str:
    """The message of an error, which must be one line under that status and reason."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"reason", "message"}
    assert error["reason"] == reason
    assert error["message"]
    assert "\n" not in error["message"]
    return str(error["message"])
