"""Who may ask a service."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e2vsearch.access import check_address, has_key, is_loopback, read_key
from e2vsearch.errors import ServiceError, SettingsError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.9", "::1", "localhost", "LOCALHOST."])
def test_this_machine_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_address(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "calls.example.org", "127.0.0.1.example.org", ""])
def test_any_other_address_does(host: str) -> None:
    with pytest.raises(ServiceError, match="can be reached by others"):
        check_address(host, None)
    check_address(host, "a key")


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_key(None) is None
    monkeypatch.setenv("E2VSEARCH_API_KEY", "of the environment")
    assert read_key(None) == "of the environment"
    (tmp_path / "key").write_text(" of the file\n")
    assert read_key(tmp_path / "key") == "of the file"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"two\nlines", "schl\u00fcssel".encode()])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError, match="key"):
        read_key(tmp_path / "key")


def test_a_missing_file_and_an_empty_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_key(tmp_path / "gone")
    monkeypatch.setenv("E2VSEARCH_API_KEY", "")
    with pytest.raises(SettingsError, match="empty"):
        read_key(None)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_file_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = tmp_path / "key"
    key.write_text("a long secret")
    key.chmod(0o600)
    read_key(key)
    assert not caplog.messages
    key.chmod(0o644)
    read_key(key)
    assert "chmod 600" in caplog.text
    assert "secret" not in caplog.text


def test_where_a_request_carries_its_key() -> None:
    assert has_key({"authorization": "Bearer s3cret"}, "s3cret")
    assert has_key({"authorization": "bearer  s3cret "}, "s3cret")
    assert has_key({"x-api-key": "s3cret"}, "s3cret")
    assert not has_key({}, "s3cret")
    assert not has_key({"authorization": "Basic s3cret"}, "s3cret")
    assert not has_key({"x-api-key": "s3cre\u20ac"}, "s3cret")
