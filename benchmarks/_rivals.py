"""Other indexes and embedded databases, each built and asked its own way.

Each is set up as its documentation has it for cosine, on the same rows under the same numbers. HNSW graphs have M = 16
and ef_construction = 100 where that can be said, faiss M = 32 as its own examples have; what is tuned afterwards is the
parameter of the search. Nothing is imported before it is used: none of these belongs to the project.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from _pgvector import Pgvector
from _sides import EF_CONSTRUCTION, PROBES, M, Side, rows_of
from _synthetic import Float32s, Ints, K, Made

os.environ.setdefault("LANCEDB_LOG", "error")  # read when it is imported; its builder warns by the thousand


class FaissHnsw(Side):
    """FAISS's graph over float32 in memory."""

    name, family, needs = "faiss HNSW M=32", "faiss", ("faiss",)

    def build(self, made: Made, folder: Path) -> None:
        """Add a chunk at a time, and write a file."""
        import faiss

        index = faiss.IndexHNSWFlat(made.dim, 32, faiss.METRIC_INNER_PRODUCT)
        for _, part in made.chunks():
            index.add(part)
        faiss.write_index(index, str(folder / "hnsw"))

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Read the file."""
        import faiss

        self._faiss: Any = faiss
        self._index = faiss.read_index(str(folder / "hnsw"))

    def search(self, queries: Float32s, setting: int) -> Ints:
        """On all cores for a batch."""
        params = self._faiss.SearchParametersHNSW(efSearch=setting)
        return np.asarray(self._index.search(queries, K, params=params)[1], np.int64)


class Hnswlib(Side):
    """hnswlib, the graph that Chroma is built on as well."""

    name, family, needs = "hnswlib", "hnswlib", ("hnswlib",)

    def build(self, made: Made, folder: Path) -> None:
        """Add a chunk at a time, and write a file."""
        import hnswlib

        index = hnswlib.Index("ip", made.dim)
        index.init_index(made.n, ef_construction=EF_CONSTRUCTION, M=M)
        for start, part in made.chunks():
            index.add_items(part, np.arange(start, start + len(part)))
        index.save_index(str(folder / "hnsw"))

    def open(self, made: Made, folder: Path) -> None:
        """Read the file."""
        import hnswlib

        self._index = hnswlib.Index("ip", made.dim)
        self._index.load_index(str(folder / "hnsw"))

    def search(self, queries: Float32s, setting: int) -> Ints:
        """On all cores for a batch."""
        self._index.set_ef(setting)
        return np.asarray(self._index.knn_query(queries, K)[0], np.int64)


class LanceFlat(Side):
    """LanceDB with lists of float32."""

    name, family, needs, parameter = "LanceDB IVF_FLAT", "lancedb", ("lancedb", "pyarrow"), "nprobes"
    settings, batch, refine = PROBES, 1, 0

    def build(self, made: Made, folder: Path) -> None:
        """Write a table, then train the index."""
        import lancedb
        import pyarrow as pa

        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), made.dim))])

        def batches() -> Any:
            for start, part in made.chunks():
                flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), made.dim)
                yield pa.record_batch([pa.array(np.arange(start, start + len(part))), flat], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        table = lancedb.connect(str(folder)).create_table("made", reader, schema=schema)
        table.create_index("vector", config=self._config(1 << round(np.log2(4 * np.sqrt(made.n)))))

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Open the table."""
        import lancedb

        self._table = lancedb.connect(str(folder)).open_table("made")

    def search(self, queries: Float32s, setting: int) -> Ints:
        """One by one: it takes one query at a time."""
        found = []
        for query in queries:
            asked = self._table.search(query, vector_column_name="vector").distance_type("dot").nprobes(setting)
            if self.refine:
                asked = asked.refine_factor(self.refine)
            found.append(asked.select(["id", "_distance"]).limit(K).to_arrow()["id"].to_numpy())
        return rows_of(found)

    def _config(self, lists: int) -> Any:
        from lancedb.index import IvfFlat

        return IvfFlat(distance_type="dot", num_partitions=lists, max_iterations=10, sample_rate=64)


class LanceRabitq(LanceFlat):
    """LanceDB with the codes that ours has, and vectors read again for five times as many candidates."""

    name, refine = "LanceDB IVF_RQ, refined x5", 5

    def _config(self, lists: int) -> Any:
        from lancedb.index import IvfRq

        return IvfRq(distance_type="dot", num_partitions=lists, max_iterations=10, sample_rate=64)


class Chroma(Side):
    """Chroma in this process, with its files."""

    name, family, needs = "Chroma", "chroma", ("chromadb",)

    def build(self, made: Made, folder: Path) -> None:
        """Add as many at a time as it takes."""
        client = self._client(folder)
        graph = {"space": "cosine", "max_neighbors": M, "ef_construction": EF_CONSTRUCTION}
        collection = client.create_collection("made", configuration={"hnsw": graph}, embedding_function=None)
        for start, part in made.chunks(min(4096, client.get_max_batch_size())):
            collection.add([str(start + at) for at in range(len(part))], embeddings=part)

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Open the collection."""
        self._folder = folder
        self._collection = self._client(folder).get_collection("made", embedding_function=None)
        self._ef = 0

    def search(self, queries: Float32s, setting: int) -> Ints:
        """All at once; ef is the collection's own."""
        if self._ef != setting:
            import chromadb

            self._collection.modify(configuration={"hnsw": {"ef_search": setting}})
            chromadb.api.client.SharedSystemClient.clear_system_cache()  # it is read when a collection is opened
            self._collection = self._client(self._folder).get_collection("made", embedding_function=None)
            self._ef = setting
        found = self._collection.query(query_embeddings=queries, n_results=K, include=[])
        return rows_of([[int(each) for each in some] for some in found["ids"]])

    @staticmethod
    def _client(folder: Path) -> Any:
        import chromadb

        return chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))


class QdrantEdge(Side):
    """Qdrant's engine in this process."""

    name, family, needs = "qdrant-edge", "qdrant-edge-py", ("qdrant_edge",)

    def build(self, made: Made, folder: Path) -> None:
        """Insert, then let it optimise until it has nothing left to do."""
        import qdrant_edge as qd

        graph = qd.HnswIndexConfig(M, EF_CONSTRUCTION, 10_000)
        vectors = qd.EdgeVectorParams(size=made.dim, distance=qd.Distance.Cosine, hnsw_config=graph)
        shard = qd.EdgeShard.create(str(folder), qd.EdgeConfig(vectors=vectors))
        for start, part in made.chunks(1024):
            points = [qd.Point(start + at, row) for at, row in enumerate(part.tolist())]
            shard.update(qd.UpdateOperation.upsert_points(points))
        while shard.optimize():
            pass
        shard.flush()
        shard.close()

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Load the shard."""
        import qdrant_edge as qd

        self._qd, self._shard = qd, qd.EdgeShard.load(str(folder))

    def search(self, queries: Float32s, setting: int) -> Ints:
        """All in one request."""
        params = self._qd.SearchParams(hnsw_ef=setting)
        asked = [
            self._qd.QueryRequest(limit=K, query=self._qd.Query.Nearest(query), params=params, with_payload=False)
            for query in queries.tolist()
        ]
        if len(asked) == 1:
            return rows_of([[point.id for point in self._shard.query(asked[0])]])
        found = self._shard.query_batch(self._qd.QueryBatchRequest(asked))
        return rows_of([[point.id for point in some] for some in found])


class Zvec(Side):
    """Zvec with a graph."""

    name, family, needs, batch = "zvec HNSW", "zvec", ("zvec",), 1

    def build(self, made: Made, folder: Path) -> None:
        """Insert, then let it merge and build."""
        import zvec

        zvec.init(log_level=zvec.LogLevel.ERROR, log_type=zvec.LogType.CONSOLE)
        vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, made.dim, self._index(zvec, made))
        collection = zvec.create_and_open(str(folder / "made"), zvec.CollectionSchema("made", vectors=vector))
        for start, part in made.chunks(1024):
            docs = [zvec.Doc(id=str(start + at), vectors={"vector": row}) for at, row in enumerate(part)]
            if not all(status.ok() for status in collection.insert(docs)):
                raise RuntimeError("zvec did not take all rows")
        collection.flush()
        collection.optimize()
        collection.flush()
        collection.close()

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Open it to read."""
        import zvec

        zvec.init(log_level=zvec.LogLevel.ERROR, log_type=zvec.LogType.CONSOLE)
        self._zvec = zvec
        self._collection = zvec.open(str(folder / "made"), zvec.CollectionOption(read_only=True))

    def search(self, queries: Float32s, setting: int) -> Ints:
        """One by one: several in one call are merged into one answer."""
        found = []
        for query in queries:
            asked = self._zvec.Query(field_name="vector", vector=query, param=self._param(setting))
            found.append([int(doc.id) for doc in self._collection.query(asked, topk=K)])
        return rows_of(found)

    def _index(self, zvec: Any, made: Made) -> Any:  # noqa: ARG002
        return zvec.HnswIndexParam(zvec.MetricType.COSINE, m=M, ef_construction=EF_CONSTRUCTION)

    def _param(self, setting: int) -> Any:
        return self._zvec.HnswQueryParam(ef=setting)


class MilvusLite(Side):
    """Milvus Lite, lists of float32: the quicker of its kinds."""

    name, family, needs, parameter = "Milvus Lite IVF_FLAT", "milvus-lite", ("pymilvus", "milvus_lite"), "nprobe"
    settings = PROBES

    def build(self, made: Made, folder: Path) -> None:
        """Insert, then train the index."""
        from pymilvus import DataType, MilvusClient

        client = MilvusClient(str(folder / "made.db"))
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=made.dim)
        lists = client.prepare_index_params()
        nlist = 1 << round(np.log2(4 * np.sqrt(made.n)))
        lists.add_index("vector", index_type="IVF_FLAT", metric_type="COSINE", params={"nlist": nlist})
        client.create_collection("made", schema=schema)
        for start, part in made.chunks(2048):
            client.insert("made", [{"id": start + at, "vector": row} for at, row in enumerate(part)])
        client.flush("made")
        client.create_index("made", lists)
        client.load_collection("made")
        client.close()

    def open(self, made: Made, folder: Path) -> None:  # noqa: ARG002
        """Open the file and load."""
        from pymilvus import MilvusClient

        self._client = MilvusClient(str(folder / "made.db"))
        self._client.load_collection("made")

    def search(self, queries: Float32s, setting: int) -> Ints:
        """All in one request."""
        params = {"metric_type": "COSINE", "params": {"nprobe": setting}}
        found = self._client.search("made", list(queries), limit=K, search_params=params, output_fields=["id"])
        return rows_of([[hit["id"] for hit in some] for some in found])


RIVALS: tuple[Side, ...] = (
    FaissHnsw(), Hnswlib(), LanceFlat(), LanceRabitq(), Chroma(), QdrantEdge(), Zvec(), Pgvector(), MilvusLite(),
)  # fmt: skip
