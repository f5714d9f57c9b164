"""Two calls, and what is none; and an S3 server of this machine that has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made import save, speech


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.wav", "sub/b c.wav")):
        save(folder / name, speech(2.5, seed=number, pitch_hz=110 + 10 * number))
    (folder / "sub" / "bad.wav").write_text("no audio " * 100)
    (folder / "notes.txt").write_text("no audio")
    (folder / ".hidden.wav").write_bytes((folder / "a.wav").read_bytes())
    return folder


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3_filled(
    s3_server: str, calls: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, bytes]]]:
    """A filesystem with a bucket of calls, and these by name; what the environment says is all that anybody knows."""
    import s3fs

    none = str(tmp_path_factory.mktemp("aws") / "none")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in {
            "AWS_ENDPOINT_URL": s3_server,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "5ecret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": none,
            "AWS_SHARED_CREDENTIALS_FILE": none,
        }.items():
            patched.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # made with another environment
        store = s3fs.S3FileSystem(use_listings_cache=False)
        store.mkdir("bucket")
        names = ("a.wav", "sub/b c.wav", "sub/bad.wav", "notes.txt", ".hidden.wav")
        content = {f"bucket/calls/{name}": (calls / name).read_bytes() for name in names}
        content["bucket/calls/.trash/c [2].wav"] = b"RIFF"
        for name, data in content.items():
            store.pipe(name, data)
        yield store, content
        store.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(s3_filled: tuple[Any, dict[str, bytes]]) -> Iterator[Any]:
    """An S3 filesystem with a bucket of calls, which a test may change."""
    store, content = s3_filled
    before = tags(store)
    yield store
    after = tags(store)
    for name in after.keys() - before.keys():
        store.rm(name)
    for name, data in content.items():
        if after.get(name) != before[name]:
            store.pipe(name, data)


def tags(store: Any) -> dict[str, str]:
    """The ETag of each object, which is a digest of what is in it."""
    return {name: about["ETag"] for name, about in store.find("bucket", detail=True).items()}
