"""pgvector as an engine: half-precision vectors in a table of the catalog's own Postgres database.

Each space has a table, ``e2vsearch_<collection>_<revision>``, and one row in ``e2vsearch_engine`` with its watermark,
which is set in the transaction that changes the table. A filter is joined as it is, from the catalog's own tables, or
is a list of ids in the statement: Postgres looks them up by the primary key where they are few, and scans the index
until enough of them are found where they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from e2vsearch.errors import EngineError, GenerationBusy, first_line
from e2vsearch.feed import SqlFilter
from e2vsearch.vectors.engine import Filled, Kind, Proposals
from e2vsearch.vectors.exact import Float32s, Ints, UnitVectors

if TYPE_CHECKING:
    import psycopg

Connect = Callable[[], AbstractContextManager["psycopg.Connection[Any]"]]
"""Opens a connection in a transaction, which is rolled back at the end unless it was committed."""

_STATE = "e2vsearch_engine"
_SCHEMA = "pgvector"  # for the extension, where it has none yet
_LOCK = 0x6532_7665  # "e2ve": with a hash of the table's name, the advisory lock of who applies changes
_FLAT_ROWS = 5000  # 5,000 x 1024 halfvec are compared in some 15 ms; a graph over them takes 3 s to build
_HNSW_ROWS = 1_000_000  # 3 GB of graph: one that outgrows maintenance_work_mem builds many times more slowly
_HNSW = {"m": 16, "ef_construction": 64}  # pgvector's defaults
_MOST_BREADTH = 1000  # of hnsw.ef_search
_MOST_MEMORY_MB = 4096  # for one build
_MOST_LISTS = 32_768  # pgvector's

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


class PgvectorEngine:
    """A `CandidateEngine` in Postgres."""

    name = "pgvector"
    kinds: tuple[Kind, ...] = ("auto", "flat", "hnsw", "ivf-flat")
    filters = 1_000_000  # 12 MB in a statement
    joins = True
    most = 10_000

    def __init__(self, connect: Connect, collection: str, space: str) -> None:
        """Connect to nothing yet.

        Args:
            connect: opens a connection to the catalog's database.
            collection: letters and digits that tell it from all others.
            space: the same of the space.
        """
        self._connect = connect
        self._prefix = f"e2vsearch_{collection}_"
        self._space = space
        self._table = self._prefix + space
        self._schema, self._halfvec = "", 0  # of the extension, and its type's number in this database

    # ------------------------------------------------------------------------------------------------------ writing

    def open(self, dim: int) -> None:
        """Make the table, unless it is there.

        Raises:
            EngineError: it takes vectors of another length, or the database has no pgvector.
        """
        with self._transaction(write=True) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, self._table))
            if not self._find_type(connection):  # nor what an earlier call found, where the database was restored since
                # not in the schema of the tables: one of these is called "vector" too, and so is the type of its rows
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
                connection.execute(f"CREATE EXTENSION IF NOT EXISTS vector SCHEMA {_SCHEMA}")
                self._find_type(connection)
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_STATE} (name text PRIMARY KEY, dim integer NOT NULL, watermark bigint, "
                "kind text NOT NULL, lists integer)"
            )
            row = connection.execute(f"SELECT dim FROM {_STATE} WHERE name = %s", (self._table,)).fetchone()
            if row is None:
                connection.execute(
                    f"CREATE TABLE {self._table} "
                    f"(id bigint PRIMARY KEY, embedding {self._schema}.halfvec({dim:d}) NOT NULL)"
                )
                # 2 kB of 1024 numbers would go to a table aside, and be fetched from there for each comparison
                connection.execute(f"ALTER TABLE {self._table} ALTER COLUMN embedding SET STORAGE PLAIN")
                new = f"INSERT INTO {_STATE} (name, dim, kind) VALUES (%s, %s, 'flat')"
                connection.execute(new, (self._table, dim))
            elif row[0] != dim:
                raise EngineError(
                    f"the table {self._table} holds vectors of {row[0]} numbers, not {dim} - make it anew: "
                    "e2vsearch index drop, then e2vsearch index build"
                )

    def apply(self, upserts: Iterable[UnitVectors], deletes: Ints, since: int | None, upto: int) -> None:
        """Insert or overwrite vectors by id, delete others, and set the watermark, all in one transaction."""
        with self._transaction(write=True) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, self._table))
            state = f"SELECT watermark FROM {_STATE} WHERE name = %s"
            row = connection.execute(state, (self._table,)).fetchone()
            if row is None or row[0] != since:
                raise GenerationBusy(f"another process has written to {self._table} meanwhile: try again")
            if deletes.size:
                self._delete(connection, deletes)
            empty = since is None
            for part in upserts:
                if not empty:
                    self._delete(connection, part.ids)
                with connection.cursor().copy(f"COPY {self._table} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(_COPY_HEADER + _copied(part) + b"\xff\xff")
            connection.execute(f"UPDATE {_STATE} SET watermark = %s WHERE name = %s", (upto, self._table))

    def _delete(self, connection: psycopg.Connection[Any], ids: Ints) -> None:
        connection.execute(f"DELETE FROM {self._table} WHERE id = ANY(%b)", (_IdArray(ids),))

    def choose(self, n: int) -> Kind:
        """Return ``flat`` for few vectors, ``hnsw`` for as many as a graph in memory takes, ``ivf-flat`` above."""
        return "flat" if n < _FLAT_ROWS else "hnsw" if n <= _HNSW_ROWS else "ivf-flat"

    def index(self, kind: Kind, n: int) -> None:
        """Build an index in place of the one there is: the table can be read meanwhile, and not be written."""
        with self._transaction(write=True) as connection:
            row = connection.execute(f"SELECT dim FROM {_STATE} WHERE name = %s", (self._table,)).fetchone()
            if row is None:
                raise EngineError(f"there is no table {self._table} to index - make it: e2vsearch index build")
            lists = None
            name = f"{self._table}_{kind.replace('-', '_')}"
            if kind != "flat":
                # the graph's vectors and links, some 1.3 times the halves; only for this build
                megabytes = min(_MOST_MEMORY_MB, 64 + n * row[0] * 3 // 2**20)
                connection.execute(
                    "SELECT set_config('maintenance_work_mem', greatest(pg_size_bytes(current_setting("
                    "'maintenance_work_mem')), %s::bigint * 1024 * 1024) / 1024 || 'kB', true)",
                    (megabytes,),
                )
                method, options = "hnsw", f"m = {_HNSW['m']}, ef_construction = {_HNSW['ef_construction']}"
                if kind != "hnsw":
                    # of pgvector's documentation: a list for a thousand rows up to a million, then their square root
                    lists = min(_MOST_LISTS, max(1, n // 1000 if n <= 1_000_000 else int(n**0.5)))
                    method, options = "ivfflat", f"lists = {lists}"
                columns = f"(embedding {self._schema}.halfvec_ip_ops) WITH ({options})"
                self._build(connection, f"CREATE INDEX {name}_new ON {self._table} USING {method} {columns}")
            for (old,) in self._indexes(connection):
                if old != f"{name}_new":
                    connection.execute(f"DROP INDEX {old}")
            if kind != "flat":
                connection.execute(f"ALTER INDEX {name}_new RENAME TO {name}")
            connection.execute(f"UPDATE {_STATE} SET kind = %s, lists = %s WHERE name = %s", (kind, lists, self._table))

    def _build(self, connection: psycopg.Connection[Any], statement: str) -> None:
        import psycopg

        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.errors.DiskFull:  # /dev/shm of a container is too small for the workers of a parallel build
            connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            connection.execute(statement)

    def _indexes(self, connection: psycopg.Connection[Any]) -> list[tuple[str]]:
        return connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass(%s) AND NOT i.indisprimary",
            (self._table,),
        ).fetchall()

    def drop(self, space: str | None = None) -> bool:
        """Drop a table, and its row of the state; whether it was there."""
        table = self._prefix + (space or self._space)
        with self._transaction(write=True) as connection:
            connection.execute(f'DROP TABLE IF EXISTS "{table}"')
            if not self._has_state(connection):
                return False
            done = connection.execute(f"DELETE FROM {_STATE} WHERE name = %s", (table,))
            return done.rowcount > 0

    # ------------------------------------------------------------------------------------------------------ reading

    def filled(self) -> Filled:
        """Return the row of the state."""
        with self._transaction() as connection:
            if not self._has_state(connection):
                return Filled(None, "flat", None)
            query = f"SELECT watermark, kind, lists FROM {_STATE} WHERE name = %s"
            row = connection.execute(query, (self._table,)).fetchone()
        return Filled(None, "flat", None) if row is None else Filled(*row)

    def candidates(
        self,
        queries: Float32s,
        k: int,
        *,
        where: Ints | SqlFilter | None,
        breadth: int,
        at_least: int | None,  # noqa: ARG002 - what was committed is searched in any case
        timeout_s: float,
    ) -> Proposals:
        """Return the nearest k of each query."""
        from psycopg import errors

        found = np.full((len(queries), k), -1, np.int64)
        settings = {
            "hnsw.ef_search": min(_MOST_BREADTH, max(breadth, k)),
            "hnsw.iterative_scan": "relaxed_order",  # goes on where the filter left too few of ef_search
            "ivfflat.probes": min(_MOST_LISTS, breadth),
            "ivfflat.iterative_scan": "relaxed_order",
            "statement_timeout": int(timeout_s * 1000),
            "jit": "off",  # it compiles for 100 ms what runs in one
        }
        chosen, values = "", {}
        if isinstance(where, SqlFilter):
            # OFFSET 0 keeps it a condition of each step along the index: as a join it was planned by estimates, 43 rows
            # for 15,000 on tables that were just filled, and compared them all
            kept = f"SELECT FROM ({where.statement}) AS kept(id) WHERE kept.id = {self._table}.id OFFSET 0"
            chosen, values = f"WHERE EXISTS ({kept}) ", dict(where.values)
        elif where is not None:
            chosen, values = "WHERE id = ANY(%(_chosen)b) ", {"_chosen": _IdArray(where)}
        with self._transaction(timeout_s=timeout_s) as connection:
            nearest = f"ORDER BY embedding OPERATOR({self._schema}.<#>) %(_query)b LIMIT {k:d}"
            statement = f"SELECT id FROM {self._table} {chosen}{nearest}"
            try:
                with connection.pipeline():
                    names = ", ".join(["set_config(%s, %s, true)"] * len(settings))
                    flat = [part for name, value in settings.items() for part in (name, str(value))]
                    connection.execute(f"SELECT {names}", flat)
                    # before the rows, so that these are of no earlier state
                    state = connection.execute(f"SELECT watermark FROM {_STATE} WHERE name = %s", (self._table,))
                    half = queries.astype(">f2")
                    rows = [
                        connection.execute(
                            statement, values | {"_query": _Half(query.tobytes())}, prepare=where is None
                        )
                        for query in half
                    ]
                    row = state.fetchone()
                    for at, cursor in enumerate(rows):
                        ids = [each[0] for each in cursor.fetchall()]
                        found[at, : len(ids)] = ids
            except errors.UndefinedTable:
                return Proposals(found[:, :0], None)
        return Proposals(found, None if row is None else row[0])

    def breadths(self, filled: Filled) -> Sequence[int]:
        """Return values of ``hnsw.ef_search``, or of ``ivfflat.probes``."""
        if filled.kind == "hnsw":
            return (40, 64, 100, 160, 250, 400, 640, 1000)
        if filled.lists is None:
            return (1,)
        doubled = [1 << power for power in range(filled.lists.bit_length()) if 1 << power < filled.lists]
        return (*doubled, filled.lists)

    def count(self) -> int:
        """Return the number of rows."""
        rows = self._ask(f"SELECT count(*) FROM {self._table}")
        return int(rows[0][0]) if rows else 0

    def ids(self, after: int, limit: int) -> Ints:
        """Return the lowest ids above `after`."""
        rows = self._ask(f"SELECT id FROM {self._table} WHERE id > %s ORDER BY id LIMIT %s", after, limit)
        return np.array([row[0] for row in rows], np.int64)

    def holds(self, ids: Ints) -> Ints:
        """Return which of the ids there are."""
        rows = self._ask(f"SELECT id FROM {self._table} WHERE id = ANY(%b) ORDER BY id", _IdArray(ids))
        return np.array([row[0] for row in rows], np.int64)

    def size(self) -> int | None:
        """Return the bytes of table and indexes."""
        rows = self._ask("SELECT pg_total_relation_size(to_regclass(%s))", self._table)
        return None if rows[0][0] is None else int(rows[0][0])

    def spaces(self) -> tuple[str, ...]:
        """Return the names of all spaces of this collection that have a table."""
        with self._transaction() as connection:
            if not self._has_state(connection):
                return ()
            rows = connection.execute(
                f"SELECT name FROM {_STATE} WHERE starts_with(name, %s) ORDER BY name", (self._prefix,)
            ).fetchall()
        return tuple(row[0].removeprefix(self._prefix) for row in rows)

    def _ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; none where there is no such table."""
        from psycopg import errors

        with self._transaction() as connection:
            try:
                return connection.execute(statement, values).fetchall()
            except errors.UndefinedTable:
                return []

    def _has_state(self, connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (_STATE,)).fetchone()
        return row is not None and bool(row[0])

    @contextmanager
    def _transaction(self, *, write: bool = False, timeout_s: float = 0.0) -> Iterator[psycopg.Connection[Any]]:
        """Open a transaction, and name what is wrong with the database in one line with the cure."""
        import psycopg
        from sqlalchemy.exc import DBAPIError

        try:
            with self._connect() as connection:
                self._adapt(connection)
                yield connection
                if write:
                    connection.commit()
        except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
            raise EngineError(
                f"this Postgres has no pgvector ({first_line(error)}) - install it, or use another engine: "
                "e2vsearch index build --engine faiss"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise EngineError(
                f"the database does not allow it: {first_line(error)} - have its owner run CREATE EXTENSION vector, "
                "and let this user create tables"
            ) from error
        except psycopg.errors.QueryCanceled as error:
            raise EngineError(
                f"pgvector did not answer within {timeout_s:g} s - run e2vsearch index tune, or search with --exact"
            ) from error
        except (psycopg.Error, DBAPIError) as error:
            raise EngineError(
                f"pgvector does not answer: {first_line(error)} - check that the database runs, or search with --exact"
            ) from error

    def _adapt(self, connection: psycopg.Connection[Any]) -> None:
        """Teach a connection to send ids and halves as they lie in memory: as text, 1024 numbers take 0.4 ms."""
        from psycopg.adapt import Dumper
        from psycopg.pq import Format

        if not self._halfvec:
            self._find_type(connection)

        class HalfDumper(Dumper):
            format = Format.BINARY
            oid = self._halfvec

            def dump(self, obj: _Half) -> bytes:
                return (len(obj.content) // 2).to_bytes(2, "big") + bytes(2) + obj.content

        class IdsDumper(Dumper):
            format = Format.BINARY
            oid = 1016  # bigint[]

            def dump(self, obj: _IdArray) -> bytes:
                return obj.content()

        connection.adapters.register_dumper(_Half, HalfDumper)
        connection.adapters.register_dumper(_IdArray, IdsDumper)

    def _find_type(self, connection: psycopg.Connection[Any]) -> bool:
        """Find the extension's schema and type in this database; whether it is there."""
        row = connection.execute(
            "SELECT quote_ident(n.nspname), t.oid FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "JOIN pg_type t ON t.typnamespace = n.oid AND t.typname = 'halfvec' WHERE e.extname = 'vector'"
        ).fetchone()
        self._schema, self._halfvec = ("", 0) if row is None else (str(row[0]), int(row[1]))
        return row is not None


class _Half:
    """A halfvec's numbers, big-endian."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class _IdArray:
    """Ids as a ``bigint[]``."""

    def __init__(self, ids: Ints) -> None:
        self.ids = ids

    def content(self) -> bytes:
        """Return them in Postgres's binary form: dimensions, NULLs, type of an element, length, first index."""
        if not self.ids.size:
            return np.array([0, 0, 20], ">i4").tobytes()
        cells = np.empty(len(self.ids), [("size", ">i4"), ("id", ">i8")])
        cells["size"], cells["id"] = 8, self.ids
        return np.array([1, 0, 20, len(self.ids), 1], ">i4").tobytes() + cells.tobytes()


def _copied(part: UnitVectors) -> bytes:
    """Return rows of ``id, embedding`` in the binary form of COPY."""
    n, dim = part.vectors.shape
    row = [("columns", ">i2"), ("id_size", ">i4"), ("id", ">i8"), ("size", ">i4"), ("dim", ">i2"), ("unused", ">i2")]
    rows = np.zeros(n, [*row, ("vector", ">f2", (dim,))])
    rows["columns"], rows["id_size"], rows["id"] = 2, 8, part.ids
    rows["size"], rows["dim"], rows["vector"] = 4 + 2 * dim, dim, part.vectors
    return rows.tobytes()
