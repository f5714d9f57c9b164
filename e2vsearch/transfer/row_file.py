"""``.npy`` files of float32 rows, written a part at a time.

By plain writes, since a full disk refuses these with an error: whoever writes through a memory map there is killed by a
signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from e2vsearch.errors import ExportError


@contextmanager
def row_file(path: Path, rows: int, width: int) -> Iterator[Callable[[NDArray[np.floating]], None]]:
    """Yield what writes the next rows ``(n, width)`` of a file of so many.

    Raises:
        ExportError: there were more or fewer of them: the collection changed meanwhile.
        OSError: the disk is full, or fails.
    """
    written = 0
    with path.open("wb") as file:
        write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})

        def write(part: NDArray[np.floating]) -> None:
            nonlocal written
            file.write(np.ascontiguousarray(part, "<f4").data)
            written += len(part)

        yield write
    if written != rows:
        raise collection_changed()


def collection_changed() -> ExportError:
    """Return the error for reads that do not fit one another."""
    return ExportError("the collection changed while it was exported - export again")
