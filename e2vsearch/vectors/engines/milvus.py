"""Milvus as an engine: a server by its address, or milvus-lite in a folder of this machine.

Each space is one collection of one shard, so that its writes are read in the order in which they were made. The entity
with id 0, which no segment has, keeps the watermark: whoever reads it reads everything that was written before it.
Everything is upserted, since Milvus inserts a key that is there a second time.

`IVF_RABITQ` needs Milvus 2.6; the newest server that the tests can start is 2.3.5, where no more was tried than that
it is not chosen, and that another kind is built where the server refuses it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from e2vsearch.errors import EngineError, GenerationBusy, first_line, missing_extra
from e2vsearch.feed import SqlFilter
from e2vsearch.files import private_folder
from e2vsearch.vectors.engine import Filled, Kind, Proposals
from e2vsearch.vectors.exact import Float32s, Ints, UnitVectors

TOKEN = "E2VSEARCH_ENGINE_TOKEN"
"""Variable of the environment with ``user:password`` or an API key; it is stored nowhere."""

_WATERMARK = 0  # the id of its entity
_FLAT_ROWS = 20_000  # as few are compared in some 10 ms
_HNSW_ROWS = 1_000_000  # 5 GB of memory at 1024 numbers; ivf-sq8 takes a quarter of it
_ROWS = 2000  # in one message: 8 MB of 1024-d, of the 64 that a server takes
_CONNECT_S, _WRITE_S, _READ_S = 10.0, 300.0, 30.0
_KINDS: dict[str, Kind] = {
    "FLAT": "flat",
    "HNSW": "hnsw",
    "IVF_FLAT": "ivf-flat",
    "IVF_SQ8": "ivf-sq8",
    "IVF_RABITQ": "ivf-rabitq",
}
logger = logging.getLogger(__name__)
_clients: dict[tuple[str, str], Any] = {}
_connecting = threading.Lock()


class MilvusEngine:
    """A `CandidateEngine` in Milvus."""

    name = "milvus"
    filters = 10_000  # which take 40 ms of each query, of 2.3.5 on two busy cores; 100,000 take 0.5 s, a million 4.7 s
    joins = False  # it has no column of the catalog's
    most = 16_000  # of its 16,384

    def __init__(self, url: str, collection: str, space: str) -> None:
        """Connect to nothing yet.

        Args:
            url: ``http://host:19530``, or a folder for milvus-lite.
            collection: letters and digits that tell it from all others.
            space: the same of the space.
        """
        self._url = url
        self._prefix = f"e2vsearch_{collection}_"
        self._space = space
        self._name = self._prefix + space
        self._is_lite = "://" not in url
        self.kinds: tuple[Kind, ...] = ("auto", "flat", "hnsw")
        if not self._is_lite:  # which leaves the number of lists out, 3.2.2 does
            self.kinds += ("ivf-flat", "ivf-sq8", "ivf-rabitq")

    # ------------------------------------------------------------------------------------------------------ writing

    def open(self, dim: int) -> None:
        """Make the collection, unless it is there.

        Raises:
            EngineError: it takes vectors of another length.
        """
        from pymilvus import DataType

        with self._client() as client:
            if client.has_collection(self._name, timeout=_READ_S):
                fields = client.describe_collection(self._name, timeout=_READ_S)["fields"]
                found = next(int(each["params"]["dim"]) for each in fields if each["name"] == "vector")
                if found != dim:
                    raise EngineError(
                        f"the Milvus collection {self._name} holds vectors of {found} numbers, not {dim} - make it "
                        "anew: e2vsearch index drop, then e2vsearch index build"
                    )
            else:
                schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("id", DataType.INT64, is_primary=True)
                schema.add_field("watermark", DataType.INT64)  # of the one entity that has any
                schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
                client.create_collection(self._name, schema=schema, num_shards=1, consistency_level="Strong")
            if not client.list_indexes(self._name, timeout=_READ_S):
                self._create_index(client, "flat", 0, wait=False)  # of nothing, for which the client sleeps 0.5 s
            client.load_collection(self._name, timeout=_WRITE_S)

    def apply(self, upserts: Iterable[UnitVectors], deletes: Ints, since: int | None, upto: int) -> None:
        """Upsert and delete vectors by id, and upsert the watermark after all of them."""
        with self._client() as client:
            if self._watermark(client, strong=True) != since:
                raise GenerationBusy(f"another process has written to {self._name} meanwhile: try again")
            for start in range(0, len(deletes), _ROWS):
                client.delete(self._name, ids=deletes[start : start + _ROWS].tolist(), timeout=_WRITE_S)
            for part in upserts:
                for start in range(0, len(part.ids), _ROWS):
                    rows = zip(part.ids[start : start + _ROWS].tolist(), part.vectors[start:], strict=False)
                    entities = [{"id": number, "watermark": 0, "vector": vector} for number, vector in rows]
                    client.upsert(self._name, entities, timeout=_WRITE_S)
            fields = client.describe_collection(self._name, timeout=_READ_S)["fields"]
            dim = next(int(each["params"]["dim"]) for each in fields if each["name"] == "vector")
            entity = {"id": _WATERMARK, "watermark": upto, "vector": np.zeros(dim, np.float32)}
            client.upsert(self._name, [entity], timeout=_WRITE_S)

    def choose(self, n: int) -> Kind:
        """Return ``ivf-rabitq`` where the server has it, else ``hnsw`` or, for very many, ``ivf-sq8``."""
        if n < _FLAT_ROWS:
            return "flat"
        if self._has_rabitq:
            return "ivf-rabitq"
        return "hnsw" if n <= _HNSW_ROWS or self._is_lite else "ivf-sq8"

    def index(self, kind: Kind, n: int) -> None:
        """Build an index in place of the one there is; meanwhile the collection is not loaded and proposes nothing."""
        if kind == "ivf-rabitq" and not self._has_rabitq:
            raise EngineError("ivf-rabitq needs Milvus 2.6 - upgrade the server, or choose --kind hnsw or ivf-sq8")
        from pymilvus import MilvusException

        with self._client() as client:
            client.flush(self._name, timeout=_WRITE_S)  # only what is sealed is indexed
            client.release_collection(self._name, timeout=_WRITE_S)
            for name in client.list_indexes(self._name, timeout=_READ_S):
                client.drop_index(self._name, name, timeout=_WRITE_S)
            try:
                self._create_index(client, kind, n)
            except MilvusException as error:
                if kind != "ivf-rabitq":
                    raise
                self._has_rabitq = False  # whatever its version says
                kind = self.choose(n)
                logger.warning("Milvus builds no ivf-rabitq, so %s is built: %s", kind, first_line(error))
                self._create_index(client, kind, n)
            client.load_collection(self._name, timeout=_WRITE_S)

    def _create_index(self, client: Any, kind: Kind, n: int, *, wait: bool = True) -> None:
        # as the embedded engine: 4 times the square root, of 39 vectors or more
        options: dict[str, Any] = {"nlist": max(1, min(1 << round(np.log2(4 * n**0.5 + 1)), n // 39, 65_536))}
        if kind == "flat":
            options = {}
        elif kind == "hnsw":
            options = {"M": 16, "efConstruction": 64}
        elif kind == "ivf-rabitq":
            options |= {"refine": True, "refine_type": "SQ8"}
        [name] = [name for name, known in _KINDS.items() if known == kind]
        index = client.prepare_index_params()
        index.add_index("vector", index_name="vector", index_type=name, metric_type="IP", params=options)
        # milvus-lite builds at once, and cannot be waited for
        client.create_index(self._name, index, sync=wait and not self._is_lite)

    def drop(self, space: str | None = None) -> bool:
        """Drop a collection; whether it was there."""
        name = self._prefix + (space or self._space)
        with self._client() as client:
            there = bool(client.has_collection(name, timeout=_READ_S))
            if there:
                client.drop_collection(name, timeout=_WRITE_S)
        return there

    # ------------------------------------------------------------------------------------------------------ reading

    def filled(self) -> Filled:
        """Return the watermark, and what the index is described as."""
        with self._client() as client:
            if not client.has_collection(self._name, timeout=_READ_S):
                return Filled(None, "flat", None)
            if not client.list_indexes(self._name, timeout=_READ_S):  # one was about to be built
                return Filled(None, "flat", None)
            described = client.describe_index(self._name, "vector", timeout=_READ_S)
            lists = described.get("nlist") or described.get("params", {}).get("nlist")
            kind = _KINDS.get(described["index_type"], "flat")
            return Filled(self._watermark(client, strong=True), kind, None if lists is None else int(lists))

    def candidates(
        self,
        queries: Float32s,
        k: int,
        *,
        where: Ints | SqlFilter | None,
        breadth: int,
        at_least: int | None,
        timeout_s: float,
    ) -> Proposals:
        """Return the nearest k of each query; only with `at_least` by a read that waits for all writes.

        Such a read waits for the server's next tick: 0.2 s each, where a bounded one takes 4 ms. Both reads go to the
        same shard, where the later one sees no less than the earlier.
        """
        filled = f"id in {where.tolist()}" if isinstance(where, np.ndarray) else ""
        wanted = max(breadth, k + 1)
        found = np.full((len(queries), k), -1, np.int64)
        with self._client() as client:
            watermark = self._watermark(client, strong=at_least is not None)
            if watermark is None:
                return Proposals(found[:, :0], None)
            answered = client.search(
                self._name,
                data=list(queries),
                anns_field="vector",
                filter=filled,
                limit=k + 1,  # the watermark's entity may be among them
                output_fields=["id"],
                search_params={"metric_type": "IP", "params": {"ef": wanted, "nprobe": breadth, "refine_k": 3}},
                consistency_level="Strong" if at_least is not None else "Bounded",
                timeout=timeout_s,
            )
        for at, hits in enumerate(answered):
            ids = [number for number in hits.ids if number != _WATERMARK][:k]
            found[at, : len(ids)] = ids
        return Proposals(found, watermark)

    def breadths(self, filled: Filled) -> Sequence[int]:
        """Return values of ``ef``, or of ``nprobe``."""
        if filled.kind == "hnsw":
            return (40, 64, 100, 160, 250, 400, 640, 1000, 2000)
        if filled.lists is None:
            return (1,)
        doubled = [1 << power for power in range(filled.lists.bit_length()) if 1 << power < filled.lists]
        return (*doubled, filled.lists)

    def count(self) -> int:
        """Return the number of entities, without the watermark's."""
        with self._client() as client:
            if self._watermark(client, strong=True) is None:
                return 0
            rows = client.query(
                self._name,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=_READ_S,
            )
        return int(rows[0]["count(*)"]) - 1

    def ids(self, after: int, limit: int) -> Ints:
        """Return the lowest ids above `after`."""
        found: list[int] = []
        with self._client() as client:
            if self._watermark(client, strong=True) is None:
                return np.empty(0, np.int64)
            # a query with a limit returns any of them, not the lowest: so a range of numbers at a time
            after = max(after, _WATERMARK)
            last = self._last(client)
            while len(found) < limit and after < last:
                upper = after + self.most
                rows = client.query(
                    self._name,
                    filter=f"id > {after} and id <= {upper}",
                    output_fields=["id"],
                    limit=self.most,
                    consistency_level="Strong",
                    timeout=_READ_S,
                )
                found += sorted(int(row["id"]) for row in rows)
                after = upper
        return np.array(found[:limit], np.int64)

    def _last(self, client: Any) -> int:
        """Return a number that no id is above: doubled until there is none."""
        last = 1
        while client.query(self._name, filter=f"id > {last}", output_fields=["id"], limit=1, timeout=_READ_S):
            last *= 2
        return last

    def holds(self, ids: Ints) -> Ints:
        """Return which of the ids there are."""
        found: list[int] = []
        with self._client() as client:
            if self._watermark(client, strong=True) is None:
                return np.empty(0, np.int64)
            for start in range(0, len(ids), _ROWS):
                rows = client.query(
                    self._name,
                    filter=f"id in {ids[start : start + _ROWS].tolist()}",
                    output_fields=["id"],
                    consistency_level="Strong",
                    timeout=_READ_S,
                )
                found += [int(row["id"]) for row in rows]
        return np.array(sorted(found), np.int64)

    def size(self) -> int | None:
        """Return the bytes of milvus-lite's folder; a server does not tell."""
        if not self._is_lite:
            return None
        files = (Path(self._url) / "collections" / self._name).rglob("*")
        return sum(each.stat().st_size for each in files if each.is_file())

    def spaces(self) -> tuple[str, ...]:
        """Return the names of all spaces of this collection that Milvus has a collection of."""
        with self._client() as client:
            names = [str(name) for name in client.list_collections(timeout=_READ_S)]
        return tuple(sorted(name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)))

    def _watermark(self, client: Any, *, strong: bool) -> int | None:
        """Return the watermark; None where there is no collection, or its index is being built."""
        from pymilvus import MilvusException

        try:
            return self._read_watermark(client, strong=strong)
        except MilvusException as error:
            if not _is_away(error):
                raise
        try:  # milvus-lite opens no collection by itself
            client.load_collection(self._name, timeout=_READ_S)
            return self._read_watermark(client, strong=strong)
        except MilvusException:
            return None

    def _read_watermark(self, client: Any, *, strong: bool) -> int | None:
        rows = client.query(
            self._name,
            filter=f"id == {_WATERMARK}",
            output_fields=["watermark"],
            consistency_level="Strong" if strong else "Bounded",
            timeout=_READ_S,
        )
        return int(rows[0]["watermark"]) if rows else None

    @cached_property
    def _has_rabitq(self) -> bool:
        with self._client() as client:
            version = str(client.get_server_version()).removeprefix("v")
        try:
            major, minor = (int(part) for part in version.split(".")[:2])
        except ValueError:
            return False
        return not self._is_lite and (major, minor) >= (2, 6)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Give the client of this address, and name what is wrong with it in one line with the cure."""
        try:
            import grpc
            from pymilvus import MilvusException
        except ImportError as error:
            raise missing_extra("the engine milvus", "milvus") from error
        try:
            yield self._connected()
        except (MilvusException, grpc.RpcError, OSError, RuntimeError) as error:
            why = first_line((getattr(error, "message", None) and Exception(error.message)) or error)  # type: ignore[union-attr]
            if self._is_lite:
                raise EngineError(
                    f"milvus-lite in {self._url}: {why} - one process at a time may use it: end the other, or run a "
                    "Milvus server"
                ) from error
            raise EngineError(
                f"Milvus at {self._url} does not answer: {why} - check --engine-url, that it runs, and the token in "
                f"{TOKEN}; or search with --exact"
            ) from error

    def _connected(self) -> Any:
        """Return the one client of this address and process; a fork has to have its own."""
        from pymilvus import MilvusClient

        token = os.environ.get(TOKEN, "")
        key = self._url, f"{os.getpid()} {token}"
        with _connecting:
            if key not in _clients:
                if self._is_lite:
                    private_folder(Path(self._url))
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises, with a traceback
                _clients[key] = MilvusClient(self._url, token=token, timeout=_CONNECT_S)
            return _clients[key]


def disconnect(url: str) -> None:
    """Close the client of an address: milvus-lite lets another process in then."""
    with _connecting:
        for key in [each for each in _clients if each[0] == url]:
            _clients.pop(key).close()


def _is_away(error: Any) -> bool:
    """Tell whether there is no such collection, or it is not loaded while its index is built."""
    message = str(error).lower()
    return any(part in message for part in ("not loaded", "released", "can't find", "not found", "not exist"))
