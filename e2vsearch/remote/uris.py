"""URLs of recordings: the schemes that are read, and the part of a URL that may be stored.

A recording's URI is its URL without anything secret. A user and password in an address are refused, and so is a query,
which may be a token, save that of an address signed by S3, Google, CloudFront or Azure: it is used, and left out of
what is stored, logged and printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from e2vsearch.errors import AudioError, SettingsError
from e2vsearch.files import uri_scheme

WEB = ("http", "https")
SCHEMES = ("s3", "gs", *WEB)

# parameters that only a signed address has: AWS (and what speaks its protocol), Google, CloudFront, Azure
_SIGNED = frozenset(("x-amz-signature", "x-goog-signature", "signature", "sig"))


@dataclass(frozen=True, slots=True)
class State:
    """Size and time of a recording, as its store reports them."""

    size_bytes: int | None
    mtime_ns: int | None  # seconds of its time, nanoseconds of its ETag's hash; None where it reports neither
    modified: datetime | None

    def is_as(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether a recording stored with that size and time is taken to be this one, unread."""
        return self.mtime_ns is not None and self.mtime_ns == mtime_ns and self.size_bytes in (None, size_bytes)


@dataclass(frozen=True, slots=True)
class Remote:
    """A recording, or what should be one, behind a URL."""

    uri: str  # without secrets: what is stored and printed
    url: str = field(repr=False)  # what is fetched
    state: State | None = None  # as listed; None: not requested yet
    error: AudioError | None = None  # why it could not even be listed

    @property
    def path(self) -> Path:
        """The path by which a recording is matched to metadata and transcripts: ``/bucket/calls/a.wav``."""
        parts = urlsplit(self.uri) if self._web else None
        return Path("/", unquote(f"{parts.netloc}{parts.path}") if parts else self.uri.partition("://")[2])

    @property
    def _web(self) -> bool:
        return uri_scheme(self.uri) in WEB


def remote(url: str) -> Remote:
    """Return the recording that a URL names; its store is not contacted.

    Raises:
        SettingsError: another scheme, or a URL that holds, or may hold, a secret; it is not repeated.
    """
    scheme = uri_scheme(url)
    if scheme is None or scheme not in SCHEMES:
        raise SettingsError(
            f"{scheme or url[:20]}:// is nothing to ingest from - there are {', '.join(SCHEMES)} and file"
        )
    rest = url.partition("://")[2]
    host, slash, path = rest.partition("/")
    if "@" in host:
        raise SettingsError(
            f"{scheme}://…@{host.rpartition('@')[2]}: a user or password in an address ends up in histories and logs - "
            "leave it out, and give it in the environment or in fsspec's configuration"
        )
    if not host:
        raise SettingsError(f"{scheme}:// names no {'host' if scheme in WEB else 'bucket'} - write {scheme}://NAME/…")
    if scheme not in WEB:
        uri = f"{scheme}://{host}{slash}{path}"
        return Remote(uri, uri)
    url = f"{scheme}://{host}{slash}{path}".partition("#")[0]
    uri, mark, query = url.partition("?")
    if mark and not _SIGNED & {name.lower() for name in parse_qs(query, keep_blank_values=True)}:
        raise SettingsError(
            f"{uri}?…: what follows the ? may be a secret, and is part of the name if it is none - "
            "use an address without it, or download the file"
        )
    return Remote(uri, url)
