"""Errors of fsspec, and of aiohttp, botocore and gcsfs below it, become the package's own.

None of these packages is imported: any may be absent. Their messages may hold signed URLs, and are not repeated.
"""

from __future__ import annotations

from collections.abc import Iterator

from e2vsearch.errors import AudioError, AudioForbidden, AudioNotFound, AudioUnreachable

_TRANSIENT_STATUS = frozenset((408, 425, 429))  # and every one from 500


def translated(uri: str, error: BaseException) -> AudioError:
    """Return the package's own error for one of fsspec or of a package below it."""
    chain = list(_causes(error))
    names = [type(each).__name__ for each in chain]
    status = next(filter(None, map(_status, chain)), None)
    bucket = uri.partition("://")[2].partition("/")[0]
    if any("Credential" in name for name in names):
        return AudioForbidden(
            f"{uri}: no credentials for it - set them as the store's own tools take them (AWS_ACCESS_KEY_ID … or "
            "AWS_PROFILE for S3), or FSSPEC_S3_ANON=true for a public bucket"
        )
    if any("Payload" in name or "Incomplete" in name for name in names):  # before its status, which is a client's error
        return AudioUnreachable(f"{uri}: breaks off while it is fetched - try again later")
    if any(getattr(each, "response", None) and _code(each) == "NoSuchBucket" for each in chain) or (
        "NoSuchBucket" in " ".join(map(str, chain))
    ):
        return AudioNotFound(f"{uri}: there is no bucket {bucket} - check its name and the endpoint")
    if status in (404, 410):
        return AudioNotFound(f"{uri}: not found ({status}) - check the address")
    if status in (401, 403) or isinstance(error, PermissionError):
        return AudioForbidden(f"{uri}: may not be read ({status or 403}) - check the credentials and what they may do")
    if status is not None and status not in _TRANSIENT_STATUS and status < 500:
        return AudioNotFound(f"{uri}: refused with status {status} - check the address")
    if status is not None:
        return AudioUnreachable(f"{uri}: its server answers with status {status} - try again later")
    if any("Certificate" in name for name in names):
        return AudioForbidden(f"{uri}: its server's certificate is not trusted - renew it, or name its authority")
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in chain):
        return AudioUnreachable(f"{uri}: its server does not answer in time - check the address, or try again later")
    if isinstance(error, FileNotFoundError) and len(chain) == 1:
        return AudioNotFound(f"{uri}: not found - check the address")
    if isinstance(error, ValueError | TypeError | AttributeError | KeyError):
        return AudioError(f"{uri}: cannot be read: unexpected {names[0]} - please report it")
    return AudioUnreachable(
        f"{uri}: its server cannot be reached ({names[-1]}) - check the address, or try again later"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error of aiohttp, botocore or gcsfs."""
    found = getattr(error, "status", None) or getattr(error, "code", None)
    if found is None and isinstance(getattr(error, "response", None), dict):
        found = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")  # type: ignore[attr-defined]
    return int(str(found)) if str(found).isdigit() and int(str(found)) >= 400 else None


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
