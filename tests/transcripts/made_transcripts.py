"""Transcripts as files, and calls for them to be joined to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from made import call, save, silence, speech

SRT = """1
00:00:01,000 --> 00:00:04,000
<font color="red">Hello</font> <b>you</b>

2
00:00:05,000 --> 00:00:06,000 X1:1
First line

after an empty one
3
0:07.5 --> 0:08.5
{\\an8}3 < 4

4
00:00:09,000 --> 00:00:10,000

5
00:00:11,000 --> 00:00:12,000
the end"""


def put(path: Path, content: str | bytes | object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, str | bytes) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def make_calls(folder: Path) -> Path:
    """A call of two turns, one of two channels, and silence."""
    turns = [speech(3.0, seed=1), silence(1.5), speech(3.0, seed=2)]
    save(folder / "mono.wav", np.concatenate(turns))
    save(folder / "pair.wav", call([(0, 0.5, 4.0), (1, 5.0, 9.0)], 10.0))
    save(folder / "quiet.wav", silence(3.0))
    return folder


def srt(*cues: tuple[float, float, str]) -> str:
    def clock(seconds: float) -> str:
        return f"00:00:{int(seconds):02d},{round(seconds % 1 * 1000):03d}"

    return "\n\n".join(f"{at}\n{clock(a)} --> {clock(b)}\n{text}" for at, (a, b, text) in enumerate(cues, start=1))
