"""``export segments.parquet``: what opens it, and that everything in it is what the collection holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch.catalog import projections
from e2vsearch.collection import Collection
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import BadFilter, ExportError, MissingExtra, NoCollection, SettingsError
from e2vsearch.projections.linear import LinearProjection

pytest.importorskip("pyarrow", reason="the 'notebook' extra is not installed")

from pyarrow import parquet


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with e2vsearch.open(make_collection(tmp_path_factory.mktemp("parquet")), encoder="fake") as collection:
        collection.labels.add("hesitant", "seg:2")
        rng = np.random.default_rng(0)
        parts = rng.random(16, np.float32), rng.standard_normal((16, 3)).astype("f4"), np.empty((16, 0), np.float32)
        turned = LinearProjection("fitted", "turned", *parts, 0.0)
        at = datetime.now(UTC)
        stored = projections.StoredProjection("turned", "fitted", turned.revision, turned.pack(), {}, at)
        projections.put(collection.catalog, stored)
        projections.use(collection.catalog, "turned")
        yield collection


@pytest.fixture(scope="module")
def file(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("out") / "segments.parquet"
    done = collection.export(file, audio_url="http://127.0.0.1:8080/")
    assert (done.recordings, done.segments) == (4, 12)
    return file


@pytest.fixture(scope="module")
def vectors(collection: Collection) -> Any:
    """The projected vectors, in order of the segments."""
    view = collection.projections.view()
    assert view.projection.name != "raw"
    return view.source.fetch(np.arange(1, 13)).vectors


def test_rows_are_the_segments(collection: Collection, file: Path, vectors: Any) -> None:
    table = parquet.read_table(file)
    rows = table.to_pylist()
    recordings = {each.id: each for each in collection.recordings()}
    for row, segment in zip(rows, collection.segments(), strict=True):
        recording = recordings[segment.recording]
        shown = asdict(segment) | {"name": recording.name, "uri": recording.uri, "recorded_at": recording.recorded_at}
        shown |= {"role": None, "audio": row["audio"]}
        scores = {f"score.{name}": pytest.approx(value) for name, value in shown.pop("scores").items()}
        shown |= scores | {f"meta.{key}": recording.metadata.get(key) for key in ("product", "queue", "wait")}
        assert {name: value for name, value in row.items() if name != "vector"} == shown
        address = f"http://127.0.0.1:8080/segments/{segment.id}/audio?sha256={recording.content_sha256[:16]}"
        assert row["audio"] == address
    assert {row["text"] for row in rows} == {None, SAID}
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), vectors)


def test_columns_have_types(file: Path, vectors: Any) -> None:
    import pyarrow

    schema = parquet.read_schema(file)
    assert schema.field("vector").type == pyarrow.list_(pyarrow.float32(), vectors.shape[1])
    assert schema.field("recorded_at").type == pyarrow.timestamp("us", "UTC")
    assert schema.field("uri").type == schema.field("audio").type == pyarrow.string()
    assert schema.field("channel").type == pyarrow.int32()
    assert not any(pyarrow.types.is_null(field.type) for field in schema)


def test_the_file_says_what_it_is_of(collection: Collection, file: Path) -> None:
    about = json.loads(parquet.read_schema(file).metadata[b"e2vsearch"])
    space = collection.status().space
    assert space is not None
    assert about["space"] == json.loads(json.dumps(asdict(space)))
    assert about["space"]["projection"] != "raw"
    assert about["collection"] == collection.catalog.collection_id
    assert about["policy"] == collection.policy.plain()


# --- programs that open it


def test_pandas_and_embedding_atlas(file: Path, vectors: Any) -> None:
    """Embedding Atlas reads a file by pandas, and stacks the column that `--vector` names."""
    pandas = pytest.importorskip("pandas", reason="the 'notebook' extra is not installed")
    frame = pandas.read_parquet(file)
    stacked = np.stack(list(frame["vector"]))
    assert stacked.dtype == np.float32
    assert np.array_equal(stacked, vectors)
    assert str(frame["recorded_at"].dtype).endswith("UTC]")
    assert frame["audio"].str.startswith("http").all()


def test_polars(file: Path, vectors: Any) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.read_parquet(file)
    assert frame.schema["vector"] == polars.Array(polars.Float32, vectors.shape[1])
    assert frame.schema["recorded_at"] == polars.Datetime("us", "UTC")
    assert np.array_equal(frame["vector"].to_numpy(), vectors)
    assert frame.filter(polars.col("meta.queue") == "billing").height == 9


def test_duckdb_ranks_as_a_query_does(collection: Collection, file: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    ranked = duckdb.sql(f"""
        select b.id, list_cosine_similarity(a.vector, b.vector) as score
        from '{file}' a, '{file}' b where a.id = 'seg:1' and b.id != 'seg:1' order by score desc limit 5
    """).fetchall()
    hits = collection.query("seg:1", by="segment", k=5)
    assert [segment for segment, _ in ranked] == [hit.segment for hit in hits]
    assert [score for _, score in ranked] == pytest.approx([hit.score for hit in hits], abs=1e-6)


def test_datasets(file: Path, vectors: Any, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    found = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert found.features["vector"] == datasets.List(datasets.Value("float32"), length=vectors.shape[1])
    assert found.features["recorded_at"] == datasets.Value("timestamp[us, tz=UTC]")
    assert np.array_equal(np.array(found["vector"][:], np.float32), vectors)
    heard = found.cast_column("uri", datasets.Audio(decode=False))[0]["uri"]
    assert heard["path"] == found[0]["uri"]


def test_arrow_s_capsules_carry_hits_to_polars_and_duckdb(collection: Collection) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    hits = collection.query("seg:1", k=3)
    frame = polars.DataFrame(hits)
    assert frame["score"].to_list() == [hit.score for hit in hits]


# --- options, and what is refused


def test_only_what_is_asked_for(collection: Collection, tmp_path: Path) -> None:
    file = tmp_path / "made" / "some.parquet"
    done = collection.export(file, where="product = bela", vectors="raw")
    table = parquet.read_table(file)
    assert (done.recordings, done.segments, table.num_rows) == (1, 3, 3)
    assert "audio" not in table.column_names
    raw = np.array(table["vector"].to_pylist(), np.float32)
    assert np.array_equal(raw, collection.catalog.feed().fetch(np.arange(4, 7)).vectors)
    assert json.loads(table.schema.metadata[b"e2vsearch"])["space"]["projection"] == "raw"
    assert collection.export(file, where="product = nobody").segments == 0  # in place of the one that was there
    assert parquet.read_table(file).column_names == table.column_names
    assert (file.stat().st_mode & 0o077) == 0


def test_metadata_that_name_employees_are_left_out(collection: Collection, tmp_path: Path) -> None:
    before = collection.policy.employee_fields
    collection.set_policy(employee_fields=("product",))
    try:
        collection.export(tmp_path / "some.parquet")
    finally:
        collection.set_policy(employee_fields=before)
    names = parquet.read_schema(tmp_path / "some.parquet").names
    assert "meta.product" not in names
    assert "meta.queue" in names


def test_what_makes_no_sense_is_refused(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "some.parquet"
    with pytest.raises(BadFilter):
        collection.export(file, where="nothing = 1")
    with pytest.raises(SettingsError, match="projected or raw"):
        collection.export(file, vectors="all")
    with pytest.raises(SettingsError, match="of Parquet alone"):
        collection.export(tmp_path / "folder", where="channel = 0")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(ExportError, match=r"folder\.parquet"):
        collection.export(tmp_path / "folder.parquet")
    with e2vsearch.open(tmp_path / "new", encoder=FakeEncoder(), create=True) as empty, pytest.raises(NoCollection):
        empty.export(file)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="notebook"):
        collection.export(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.parquet", "new"]


def test_the_command(collection: Collection, run: Run, tmp_path: Path) -> None:
    place = collection.location.folder
    ran = run("export", tmp_path / "some.parquet", "--where", "queue = billing", "--index", place)
    assert ran.code == 0, ran.err
    assert parquet.read_table(tmp_path / "some.parquet").num_rows == 9
    assert run("export", tmp_path / "folder", "--vectors", "raw", "--index", place).code == 2
