"""Searches files for many byte strings at once: what shows that nothing of an erased recording is left in them.

The files are read in another process. SQLite's locks are POSIX's, and a process loses all of its locks on a file when
it closes any descriptor of that file (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import E2vsearchError

LEAST_BYTES = 8
"""Length of the shortest string that can be searched for: its first eight bytes are compared at every position."""

_CODE = (
    "import json, sys; task = json.load(sys.stdin); sys.path[:] = task['modules']; "
    "from e2vsearch.byte_search import main; main(task)"
)
_CHUNK_BYTES = 1 << 18  # with the eight bytes from each position on, 2 MB: more would not stay in the cache
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # of Fibonacci hashing


def search(paths: Sequence[Path], wanted: Sequence[bytes]) -> dict[Path, set[int]]:
    """Return which of the byte strings each file holds, by their positions in `wanted`; files without any are left out.

    50 to 150 MB a second, whatever the number of strings.

    Args:
        paths: files; those that are gone or cannot be read are skipped.
        wanted: each of `LEAST_BYTES` or more.

    Raises:
        E2vsearchError: the system starts no process, or ended it.
    """
    if not paths or not wanted:
        return {}
    task = {
        "modules": [str(Path(each).absolute()) for each in sys.path],
        "paths": [str(path.absolute()) for path in paths],
        "wanted": [each.hex() for each in wanted],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CODE], input=json.dumps(task), capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise E2vsearchError(
            f"no process could search the files ({error}) - end other programs, and try again"
        ) from error
    found = json.loads(done.stdout)
    return {path: set(found[str(path.absolute())]) for path in paths if str(path.absolute()) in found}


def main(task: dict[str, Any]) -> None:
    """Do a task of `search`, and write what was found to stdout."""
    needles = Needles([bytes.fromhex(each) for each in task["wanted"]])
    found = {path: sorted(needles.found(_chunks(Path(path), needles.longest - 1))) for path in task["paths"]}
    json.dump({path: each for path, each in found.items() if each}, sys.stdout)


class Needles:
    """Byte strings, and a table that tells for nearly every position of a file that none of them begins there."""

    def __init__(self, wanted: Sequence[bytes]) -> None:
        """Make the table of one or more strings, each of `LEAST_BYTES` or more."""
        self.longest = max(map(len, wanted))
        self._by_key: dict[int, list[tuple[int, bytes]]] = {}
        for number, each in enumerate(wanted):
            key = int.from_bytes(each[:LEAST_BYTES], "little")
            self._by_key.setdefault(key, []).append((number, each))
        self._keys = np.array(sorted(self._by_key), np.uint64)
        self._shift = np.uint64(64 - max(16, len(self._keys).bit_length() + 5))
        self._table = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._table[self._hashed(self._keys)] = True

    def found(self, contents: Iterable[bytes]) -> set[int]:
        """Return which of the strings are in any of some byte strings."""
        found: set[int] = set()
        for content in contents:
            for at in self._candidates(content).tolist():
                key = int.from_bytes(content[at : at + LEAST_BYTES], "little")
                found.update(number for number, each in self._by_key[key] if content.startswith(each, at))
        return found

    def _candidates(self, content: bytes) -> NDArray[np.int64]:
        """Return the positions at which the first eight bytes are those of a string."""
        if len(content) < LEAST_BYTES:
            return np.empty(0, np.int64)
        words = np.ndarray((len(content) - LEAST_BYTES + 1,), "<u8", content, strides=(1,))
        at = np.flatnonzero(self._table[self._hashed(words)])
        near = np.searchsorted(self._keys, words[at])  # a tenth of the time that isin takes
        found: NDArray[np.int64] = at[self._keys[np.minimum(near, len(self._keys) - 1)] == words[at]]
        return found

    def _hashed(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((words * _FACTOR) >> self._shift).astype(np.int64)


def _chunks(path: Path, overlap: int) -> Iterator[bytes]:
    """Yield a file in pieces that each begin with the last bytes of the one before."""
    try:
        with path.open("rb") as file:
            before = b""
            while piece := file.read(_CHUNK_BYTES):
                yield (content := before + piece)
                before = content[-overlap:]
    except OSError:
        return
