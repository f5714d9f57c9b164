"""A backup taken while the collection is in use: whole, of one moment, and never over something else."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import stress
from command import Run
from small_collection import make_collection

import e2vsearch
from e2vsearch.catalog.backup import backup
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    opened = Catalog.open(f"sqlite:///{tmp_path}/catalog.db", create=True)
    opened.pin(stress.SPACE, "fake")
    for number in range(20):
        opened.store(stress.recording(number))
    return opened


def test_a_backup_is_a_collection(run: Run, tmp_path: Path) -> None:
    index = make_collection(tmp_path)
    done = run("backup", tmp_path / "copies" / "catalog.db", "--index", index)
    copy = tmp_path / "copies" / "catalog.db"
    assert (done.code, done.rows) == (0, [{"file": str(copy), "size_bytes": copy.stat().st_size}])
    assert [path.name for path in (tmp_path / "copies").iterdir() if path.is_file()] == ["catalog.db"]
    with e2vsearch.open(index, create=True) as one, e2vsearch.open(tmp_path / "copies", create=False) as two:
        asked = one.query("seg:1", k=3, by="segment")
        assert two.query("seg:1", k=3, by="segment").hits == asked.hits
        assert two.catalog.counts() == one.catalog.counts()


def test_nothing_is_written_over(run: Run, tmp_path: Path) -> None:
    index = make_collection(tmp_path)
    (tmp_path / "there").write_text("mine")
    done = run("backup", tmp_path / "there", "--index", index)
    assert done.code == 1
    assert "is there already - name a new file" in done.err
    assert (tmp_path / "there").read_text() == "mine"


def test_it_is_of_one_moment_while_others_write(catalog: Catalog, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 1000
        while not stop.is_set():
            catalog.store(stress.recording(number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for copy in range(4):
            assert backup(catalog.url, tmp_path / f"{copy}.db") > 0
    finally:
        stop.set()
        writer.join()
    counts = []
    for copy in range(4):
        found = Catalog.open(f"sqlite:///{tmp_path}/{copy}.db")
        n = found.counts()
        assert n.segments == n.recordings * stress.SEGMENTS  # whole transactions
        with found.feed().snapshot() as snapshot:
            assert snapshot.watermark == n.segments
        counts.append(n.recordings)
        found.close()
    assert counts == sorted(counts)
    assert counts[0] >= 20
    assert catalog.counts().recordings >= counts[-1]
    catalog.close()


def test_a_place_that_cannot_be_written_leaves_nothing(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="cannot be written") as caught:
        backup(catalog.url, tmp_path / "file" / "copy.db")
    assert "\n" not in str(caught.value)
    catalog.close()


def test_a_damaged_database_is_not_passed_on(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    path = tmp_path / "catalog.db"
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for page in range(4, len(content) // 4096, 2):
        content[page * 4096 : page * 4096 + 100] = rng.bytes(100)
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"copy\.db cannot be written"):
        backup(catalog.url, tmp_path / "copy.db")
    assert not [found for found in tmp_path.iterdir() if "copy" in found.name]


def test_postgres_has_its_own(tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    url = make_url("postgresql+psycopg://kim:secret@host/calls")
    with pytest.raises(CatalogError, match=r"pg_dump --format=custom --file=\S+copy.dump") as caught:
        backup(url, tmp_path / "copy.dump")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
