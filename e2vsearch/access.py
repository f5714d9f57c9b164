"""Who may ask a service: this machine's user, or whoever has the key, and no page but the service's own."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from e2vsearch.errors import PathForbidden, ServiceError, SettingsError
from e2vsearch.files import local_path, uri_scheme

KEY_VARIABLE = "E2VSEARCH_API_KEY"
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::[0-9]{1,5})?")
_log = logging.getLogger(__name__)


def read_key(file: Path | None) -> str | None:
    """Return the API key of a file, else of the environment; None where neither is named.

    Never from the command line itself, which every user of a machine can list.

    Raises:
        SettingsError: a file that cannot be read, or no key where one should be.
    """
    if file is None:
        key = os.environ.get(KEY_VARIABLE)
        where = KEY_VARIABLE
    else:
        where = str(file)
        try:
            key = file.read_text(encoding="utf-8").strip()
            mode = file.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SettingsError(f"{file} cannot be read ({why}) - write the key into it, in one line") from error
        if os.name == "posix" and mode & 0o004:
            _log.warning("%s can be read by every user of this machine: chmod 600 %s", file, file)
    if key is not None and (not key.strip() or "\n" in key or not key.isascii()):
        raise SettingsError(f"{where} holds no key, or an API key is empty - write one there, in one line of ASCII")
    return key


def check_address(host: str, key: str | None) -> None:
    """See that nobody but this machine's user can ask, unless there is a key.

    Raises:
        ServiceError: an address that others reach, without a key.
    """
    if key is None and not is_loopback(host):
        raise ServiceError(
            f"{host or 'an empty host'} can be reached by others: set {KEY_VARIABLE} or --api-key-file, "
            "or leave --host at 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own and nobody else's.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "127.0.0.1.example.org", "")]
    [True, True, True, False, False, False]
    """
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int  # of HTTP
    reason: str  # a short stable word
    message: str  # one line with its cure


def refusal(
    headers: Mapping[str, str], key: str | None, *, is_open: bool = False, is_public: bool = False
) -> Refusal | None:
    """Return why a request is not answered by its headers alone, None where it may be.

    Without a key a service is bound to loopback, and a page from elsewhere can point a name of its own there (DNS
    rebinding), but cannot change the Host and Origin that a browser sends. With a key any name will do: no page knows
    the key. Players, images and links send no Origin, but a browser says with each that it comes from elsewhere.

    Args:
        headers: by their names in lower case.
        key: of the service; None for none.
        is_open: for a path that needs no key, and that any page may link to.
        is_public: for a path that any page may embed.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if key is not None:
        if not is_open and not has_key(headers, key):
            message = "this service has a key - send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
            return Refusal(401, "key", message)
    elif not is_own_host(host):
        return Refusal(403, "host", "without a key this service answers only under localhost or 127.0.0.1")
    elif origin is not None and not is_own_page(origin, host):
        return Refusal(403, "origin", "without a key this service answers no page but its own")
    if not is_open and not is_public and is_from_other_site(headers):
        return Refusal(403, "origin", "a page from elsewhere asks for this - open the service's own page")
    return None


def is_own_host(host: str) -> bool:
    """Whether a Host header names this machine, by an address or name of loopback, and a port at most.

    >>> [is_own_host(host) for host in ("127.0.0.1:8080", "[::1]", "127.0.0.1:80.evil", "[::1]evil", "me@localhost")]
    [True, True, False, False, False]
    """
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback(found["name"].strip("[]"))


def is_own_page(origin: str, host: str) -> bool:
    """Whether an Origin header is that of the page which a service under this Host header serves.

    >>> is_own_page("http://localhost:8080", "localhost:8080"), is_own_page("http://localhost:3000", "localhost:8080")
    (True, False)
    """
    scheme, separator, own = origin.lower().partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    return bool(separator) and port is not None and own.removesuffix(port) == host.lower().removesuffix(port)


def is_from_other_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page from elsewhere asks, or embeds what it asks for.

    What is no browser sends no Sec-Fetch-Site; an address that is typed in has ``none``.
    """
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def has_key(headers: Mapping[str, str], key: str) -> bool:
    """Whether a request's headers, names in lower case, carry the key: ``Authorization: Bearer`` or ``X-API-Key``.

    Compared in a time that does not tell how much of it was right.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return hmac.compare_digest(given.strip().encode("latin-1", "replace"), key.strip().encode())


class AllowedFolders:
    """Folders that a service may read from, and prefixes of URLs; none by default, so that no path is allowed at all.

    Args:
        folders: folders, and prefixes such as ``s3://bucket/calls/``, below which stored recordings may be played. A
            client names files alone, never a URL.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        roots = [os.fspath(folder) for folder in folders]
        urls = [root for root in roots if uri_scheme(root) not in (None, "file")]
        self._prefixes = tuple(f"{url.rstrip('/')}/" for url in urls)
        self._folders = tuple(local_path(root) for root in roots if root not in urls)
        for folder in self._folders:
            if not folder.is_dir():
                raise SettingsError(f"{folder} is no folder to read clips from - name one that exists")
        self._folders = tuple(folder.resolve() for folder in self._folders)

    def allowed(self, path: str | os.PathLike[str]) -> Path:
        """Return the file that a path or ``file://`` URI names, links resolved; a relative one is sought in each root.

        Raises:
            PathForbidden: it is in none of the folders, or there is no such file. Both read alike, so that nobody
                learns what lies elsewhere.
            QueryError: a URI of another scheme.
        """
        local = local_path(path)
        for folder in self._folders:
            found = (folder / local).resolve()
            if found.is_relative_to(folder) and found.is_file():
                return found
        where = "the folders it was started with" if self._folders else "no folder: it was started without --root"
        raise PathForbidden(f"{os.fspath(path)} is no file that may be read here - this service reads from {where}")

    def stored(self, uri: str) -> str:
        """Return the URI of a stored recording, if it may be played: where there are roots, one that is in one of them.

        An import brings URIs that another machine wrote. So a recording on a web server needs a root in any case: its
        address may be one that this machine alone reaches.

        Raises:
            PathForbidden: it is outside the roots.
        """
        scheme = uri_scheme(uri)
        if scheme not in (None, "file"):
            under = uri.startswith(self._prefixes) and ".." not in unquote(uri).split("/")  # which a client resolves
            if not under and (self._folders or self._prefixes or scheme in ("http", "https")):
                raise PathForbidden(f"{uri} is below none of the URLs that this service reads from - add its --root")
        elif self._folders or self._prefixes:
            path = local_path(uri).resolve()
            if not any(path.is_relative_to(folder) for folder in self._folders):
                raise PathForbidden(f"{uri} lies outside the folders that this service reads from - add its --root")
        return uri
