"""What fixtures give that make databases: for the signatures of tests."""

from __future__ import annotations

from collections.abc import Callable

NewDatabase = Callable[..., str]
"""Makes a database, empty or a copy of the template of that name; gives its URL."""

Copied = Callable[[Callable[[str], object]], str]
"""Fills the test's database as a function does that is given a URL; gives the URL of the test's own."""
