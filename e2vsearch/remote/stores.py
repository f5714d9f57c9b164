"""Recordings behind URLs are listed, checked for changes and fetched to temporary files by fsspec.

Only URLs that the user of ``ingest`` names are fetched, never one from a request to the service.

Credentials come from where the store's own tools look for them (``AWS_*``, ``~/.aws``,
``GOOGLE_APPLICATION_CREDENTIALS``) or from fsspec's configuration (``FSSPEC_S3_ENDPOINT_URL=…``,
``FSSPEC_S3_ANON=true``).

A change is detected by size, time and ETag, without fetching: the catalog's time of a remote recording has the store's
whole seconds and, below them, nine digits of the ETag's hash. A recording of a store that reports neither is fetched
again at each run, and recognised by its content.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.errors import (
    AudioEmpty,
    AudioError,
    AudioNotAFile,
    AudioNotFound,
    AudioTooLong,
    AudioTruncated,
    AudioUnreachable,
    AudioUnreadable,
    Cancelled,
    E2vsearchError,
    SettingsError,
    missing_extra,
)
from e2vsearch.files import uri_scheme
from e2vsearch.remote.errors import translated
from e2vsearch.remote.uris import WEB, Remote, State, remote

_PIECE_BYTES = 1 << 20
_AHEAD_BYTES = 5 << 20  # read of an object store in one request: what a thread holds of a recording at most
_DEEPEST = 8  # levels of a web server's listings, whose links may run in circles
_EXTRAS = {"s3": "remote", "http": "remote", "https": "remote", "gs": "gcs"}
T = TypeVar("T")

MAX_UNSTATED_BYTES = 4 << 30
"""Fetched of a recording whose store states no size: what a WAV file can hold."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A recording's bytes, for as long as the context lasts."""

    path: Path
    content_sha256: str
    size_bytes: int


class Stores:
    """The stores of remote recordings; safe to use from several threads.

    Args:
        stop: waiting and fetching are given up once it is set.
        tries: how often a store is asked that does not answer.
        wait: what waits so many seconds, for tests; by default until `stop` is set, at most.
    """

    def __init__(
        self, stop: threading.Event | None = None, tries: int = 6, wait: Callable[[float], None] | None = None
    ) -> None:
        self._stop = stop or threading.Event()
        self._tries = tries
        self._wait = wait
        self._lock = threading.Lock()
        self._opened: dict[str, Any] = {}

    def expand(self, url: str) -> Iterator[Remote]:
        """Yield the recordings that a URL names: one, all below a prefix that ends with ``/``, or those of a glob.

        What cannot be listed is yielded with its error, so that it is reported.

        Raises:
            SettingsError: see `remote`.
            MissingExtra: a package for this kind of store is not installed.
        """
        given = remote(url)
        try:
            yield from self._ask(given, lambda store: self._listed(store, given))
        except AudioError as error:
            yield Remote(given.uri, given.url, error=error)

    def state(self, source: Remote) -> State:
        """Return size and time of a recording.

        Raises:
            AudioNotFound, AudioForbidden, AudioNotAFile, AudioUnreachable: its store does not report them.
        """
        if source.error is not None:
            raise source.error
        if source.state is not None:
            return source.state
        info = self._ask(source, lambda store: store.info(_named(source), **_fresh(source)))
        if info.get("type") == "directory":
            raise AudioNotAFile(f"{source.uri}: is no recording but a prefix of some - end it with / to take them all")
        return _state(info)

    def gone(self, uri: str) -> bool:
        """Return whether a store reports for certain that there is nothing at a URI any more."""
        try:
            # asked once: many copies may ask for what a store that is down once gave
            Stores(self._stop, tries=1).state(remote(uri))
        except AudioNotFound:
            return True
        except E2vsearchError:
            return False
        return False

    @contextmanager
    def fetched(self, source: Remote) -> Iterator[Fetched]:
        """Fetch a recording to a temporary file, which is deleted at the end.

        Raises:
            AudioNotFound, AudioForbidden, AudioUnreachable: it cannot be fetched.
            AudioTruncated: more or fewer bytes came than its store reported.
            AudioTooLong: its store reports no size, and more than `MAX_UNSTATED_BYTES` came.
            e2vsearch.errors.Cancelled: `stop` was set.
        """
        state = self.state(source)
        with tempfile.TemporaryDirectory(prefix="e2vsearch-") as folder:
            path = Path(folder, "recording" + source.path.suffix.lower())
            most = MAX_UNSTATED_BYTES if state.size_bytes is None else state.size_bytes
            digest, size = self._ask(source, lambda store: self._copied(store, source, path, most))
            if state.size_bytes not in (None, size):
                raise AudioTruncated(
                    f"{source.uri}: {size:,} bytes came of {state.size_bytes:,} - ingest it again when it is complete"
                )
            if size > most:
                raise AudioTooLong(
                    f"{source.uri}: its server states no size, and over {most:,} bytes came - download it, and ingest "
                    "the file"
                )
            if not size:
                raise AudioEmpty(f"{source.uri} is empty (0 bytes): copy or export it again")
            yield Fetched(path, digest, size)

    def read(self, source: Remote, position: int, count: int) -> bytes:
        """Return so many bytes of a recording from a position on, by one request.

        Raises:
            AudioNotFound, AudioForbidden, AudioUnreachable: its store does not give them.
            AudioUnreadable: its store gives whole recordings only.
        """
        data: bytes = self._ask(
            source, lambda store: store.cat_file(_named(source), start=position, end=position + count)
        )
        if len(data) > count:
            raise AudioUnreadable(f"{source.uri}: its server sends no part of it - download it to listen to it")
        return data

    # -- inside ------------------------------------------------------------------------------------------------

    def _ask(self, source: Remote, question: Callable[[Any], T]) -> T:
        """Return what a request to a source's store returns, tried again while the failure may be transient.

        With "full jitter" many readers that failed together do not come back together (M. Brooker, "Exponential Backoff
        And Jitter", AWS, 2015).
        """
        scheme = uri_scheme(source.uri) or ""
        try:
            import tenacity

            store = self._store(scheme)
        except ImportError as error:
            raise missing_extra(f"reading {scheme}://", _EXTRAS[scheme]) from error

        def attempt() -> T:
            if self._stop.is_set():
                raise Cancelled
            try:
                return question(store)
            except (E2vsearchError, Cancelled):
                raise
            except Exception as error:  # each store has its own tree of them
                raise translated(source.uri, error) from error

        return tenacity.Retrying(
            sleep=self._wait or tenacity.sleep_using_event(self._stop),
            stop=tenacity.stop_after_attempt(self._tries),
            wait=tenacity.wait_random_exponential(),  # up to 1, 2, 4, 8, 16 s
            retry=tenacity.retry_if_exception_type(AudioUnreachable),
            reraise=True,
        )(attempt)

    def _store(self, scheme: str) -> Any:
        with self._lock:
            if scheme not in self._opened:
                self._opened[scheme] = _opened(scheme)
            return self._opened[scheme]

    def _listed(self, store: Any, given: Remote) -> list[Remote]:
        named, scheme = _named(given), uri_scheme(given.uri)
        web = scheme in WEB
        path = "/".join(given.path.parts[2:])  # without a host, which may be [::1]
        if any(wild in path for wild in ("*[" if web else "*?[")):  # in a web address ? begins the query
            found, base = store.glob(named, detail=True), ""
            if not found and not web:
                try:
                    return [Remote(given.uri, given.url, _state(store.info(named, **_fresh(given))))]  # call [2].wav
                except FileNotFoundError:
                    store.info(named.partition("/")[0], **_fresh(given))  # a missing bucket is no empty one
        elif PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES or (web and not named.endswith("/")):
            return [given]
        else:
            if not named.endswith("/") and "/" in named:
                info = store.info(named, **_fresh(given))
                if info.get("type") != "directory":
                    return [Remote(given.uri, given.url, _state(info))]
            found, base = store.find(named, detail=True, **({"maxdepth": _DEEPEST} if web else {})), named
            if not found.keys() - {named}:  # fsspec lists a web page without links as itself
                store.info(named, **_fresh(given))  # raises where there is nothing at all
                if web:
                    raise AudioNotFound(f"{given.uri}: lists no files - name them one by one")
        return [
            Remote(name, name) if web else Remote(f"{scheme}://{name}", f"{scheme}://{name}", _state(info))
            for name, info in sorted(found.items())
            if info.get("type") != "directory" and _looks_like_audio(name, base) and not (web and "?" in name)
        ]

    def _copied(self, store: Any, source: Remote, path: Path, most: int) -> tuple[str, int]:
        """Copy a recording until its end, or until there is more of it than `most` bytes."""
        if uri_scheme(source.uri) in WEB:
            options: dict[str, Any] = {"block_size": 0}  # streamed: not every server can give ranges
        else:
            options = {"block_size": _AHEAD_BYTES, "cache_type": "readahead"}
        digest, size = hashlib.sha256(), 0
        with store.open(_named(source), "rb", **options) as given, path.open("wb", buffering=0) as kept:
            while piece := given.read(_PIECE_BYTES):
                if self._stop.is_set():
                    raise Cancelled
                digest.update(piece)
                size += len(piece)
                if size > most:
                    break
                try:
                    kept.write(piece)
                except OSError as error:
                    raise SettingsError(
                        f"{source.uri}: {path.parent.parent} cannot hold it for a while: {error.strerror} - make room, "
                        "or set TMPDIR to another folder"
                    ) from error
        return digest.hexdigest(), size


def _opened(scheme: str) -> Any:
    """Return the filesystem of a scheme, without its own retries: they would multiply ours, and not end with `stop`."""
    import fsspec
    from fsspec.config import conf

    if scheme in WEB:
        import aiohttp

        configured = conf.get("http", {})
        # aiohttp gives up after 5 minutes in all, however well a long recording comes along
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        return fsspec.filesystem(
            "http",
            client_kwargs={"timeout": timeout, "trust_env": True, **configured.get("client_kwargs", {})},
            headers={"Accept-Encoding": "identity", **configured.get("headers", {})},
            use_listings_cache=False,
        )
    if scheme == "s3":
        configured = conf.get("s3", {}).get("config_kwargs", {})
        store = fsspec.filesystem(
            "s3", config_kwargs={"retries": {"total_max_attempts": 1}, **configured}, use_listings_cache=False
        )
        store.retries = 1
        return store
    return fsspec.filesystem(scheme, use_listings_cache=False)


def _named(source: Remote) -> str:
    """Return the name of a source in its filesystem."""
    return source.url if uri_scheme(source.uri) in WEB else source.url.partition("://")[2]


def _fresh(source: Remote) -> dict[str, Any]:
    return {"refresh": True} if uri_scheme(source.uri) == "s3" else {}


def _looks_like_audio(name: str, base: str) -> bool:
    """Return whether a name has an audio suffix and is not hidden, nor in a hidden folder below `base`."""
    path = unquote(name) if "://" in name else name
    hidden = "/." in f"/{path.removeprefix(base)}" if base else path.rpartition("/")[2].startswith(".")
    return not hidden and PurePosixPath(path).suffix.lower() in AUDIO_SUFFIXES


def _state(info: dict[str, Any]) -> State:
    modified = _time(next((info[key] for key in ("LastModified", "Last-Modified", "updated") if info.get(key)), None))
    etag = next((info[key] for key in ("ETag", "etag") if info.get(key)), "").strip('"')
    size = info.get("size")
    if modified is None and not etag:
        return State(size, None, None)
    seconds = int(modified.timestamp()) if modified is not None else 0
    below = int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8]) % 1_000_000_000 if etag else 0
    return State(size, seconds * 1_000_000_000 + below, modified)


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str):
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(value)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None
