"""What `docs/howto/scale.md` shows runs: from one machine to Postgres, and from a bucket through the queue."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import Run
from shown import commands

URL, BUCKET = "postgresql://e2vsearch@db.example.org/calls", "s3://calls/2024/"


@pytest.mark.slow
def test_the_steps_run(
    s3: Any, postgres_database: Any, repository: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_database()
    shutil.copytree(repository / "samples", tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("E2VSEARCH_ENCODER", "light")  # where no encoder is named, and no weights are downloaded
    typed = [each.code for each in commands((repository / "docs" / "howto" / "scale.md").read_text(encoding="utf-8"))]
    assert len(typed) > 6
    assert sum(URL in code for code in typed) > 3
    for code in typed:
        ran = run(*shlex.split(code.replace(URL, url).replace(BUCKET, "s3://bucket/calls/"))[1:])
        assert ran.code == (3 if " worker " in code else 0), f"{code}: {ran.err}"  # one of the bucket is no audio
    (status,) = run("status", "--index", url).rows
    assert status["counts"]["recordings"] == 12 + 2  # of the samples, and of the bucket
