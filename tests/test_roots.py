"""Which files a client that is not the user may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2vsearch.access import AllowedFolders
from e2vsearch.errors import PathForbidden, QueryError, SettingsError


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"a")
    (tmp_path / "secret.wav").write_bytes(b"s")
    return folder


def test_what_lies_inside_is_found(inside: Path) -> None:
    wanted = (inside / "a.wav").resolve()
    for named in ("a.wav", str(wanted), wanted.as_uri(), inside / "." / "a.wav"):
        assert AllowedFolders([inside]).allowed(named) == wanted


@pytest.mark.parametrize(
    "named", ["../secret.wav", "/etc/passwd", "missing.wav", ".", "link.wav", "a.wav/../../secret.wav"]
)
def test_nothing_else_is(inside: Path, named: str) -> None:
    (inside / "link.wav").symlink_to(inside.parent / "secret.wav")
    with pytest.raises(PathForbidden, match="no file that may be read here"):
        AllowedFolders([inside]).allowed(named)


def test_without_roots_no_path_is_allowed(inside: Path) -> None:
    with pytest.raises(PathForbidden, match="--root"):
        AllowedFolders().allowed(inside / "a.wav")


def test_other_schemes_and_missing_roots_are_refused(inside: Path) -> None:
    with pytest.raises(QueryError):
        AllowedFolders([inside]).allowed("http://example.org/a.wav")
    with pytest.raises(SettingsError, match="no folder"):
        AllowedFolders([inside / "missing"])


def test_stored_files_are_played_from_inside_alone_where_there_are_roots(inside: Path) -> None:
    roots, secret = AllowedFolders([inside]), inside.parent / "secret.wav"
    (inside / "link.wav").symlink_to(secret)
    for uri in (str(inside / "a.wav"), (inside / "gone.wav").as_uri()):
        assert roots.stored(uri) == uri
    for uri in (str(secret), secret.as_uri(), str(inside / "link.wav"), f"{inside}/../secret.wav", "/dev/zero"):
        with pytest.raises(PathForbidden, match="outside the folders"):
            roots.stored(uri)
        assert AllowedFolders().stored(uri) == uri


def test_recordings_in_stores_are_played_from_below_a_url(inside: Path) -> None:
    roots = AllowedFolders([inside, "s3://bucket/calls", "https://host/calls/"])
    for uri in ("s3://bucket/calls/a.wav", "https://host/calls/2026/a.wav"):
        assert roots.stored(uri) == uri
    for uri in (
        "s3://bucket/calls-of-others/a.wav",
        "s3://bucket2/calls/a.wav",
        "gs://bucket/calls/a.wav",
        "https://host/calls/../a.wav",
        "https://host/calls/%2e%2e/a.wav",
        "https://host.evil/calls/a.wav",
    ):
        with pytest.raises(PathForbidden, match="--root"):
            roots.stored(uri)
    with pytest.raises(PathForbidden, match="--root"):
        AllowedFolders([inside]).stored("s3://bucket/a.wav")
    with pytest.raises(QueryError, match="download it first"):
        roots.allowed("s3://bucket/calls/a.wav")  # a client names files alone


def test_without_roots_a_bucket_is_played_and_a_web_server_is_not() -> None:
    assert AllowedFolders().stored("s3://bucket/a.wav") == "s3://bucket/a.wav"
    with pytest.raises(PathForbidden, match="--root"):  # an import may name what this machine alone reaches
        AllowedFolders().stored("http://169.254.169.254/latest/meta-data")
