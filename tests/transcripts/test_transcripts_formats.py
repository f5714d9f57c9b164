"""Every format of transcripts to cues, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_transcripts import SRT, put

from e2vsearch.errors import TranscriptError
from e2vsearch.ingest.transcripts.formats import Cue, read

VTT = """WEBVTT - a call

STYLE
::cue { color: red }

NOTE of the
person who typed it

intro
00:01.000 --> 00:04.000 align:start position:10%
<v Agent>Hello <i>there</i> &amp; welcome</v>
<v.loud Customer Kim>I want a refund

NOTE in between

00:00:05.000 --> 01:00:06.500
- plain <00:00:05.500><c.x>karaoke</c>
"""


def words(*timed: tuple[float, float, str]) -> list[dict[str, Any]]:
    return [{"start": start_s, "end": end_s, "word": word} for start_s, end_s, word in timed]


SHAPES: dict[str, tuple[Any, list[Cue]]] = {
    "whisper": (
        {"text": " Hi you", "segments": [{"id": 0, "start": 0.5, "end": 2.0, "text": " Hi you", "tokens": [1]}]},
        [Cue(0.5, 2.0, " Hi you")],
    ),
    "whisper with words": (
        {"segments": [{"start": 0, "end": 2, "text": " Hi", "words": words((0.1, 0.4, " Hi"))}]},
        [Cue(0, 2, " Hi", ((0.1, 0.4, " Hi"),))],
    ),
    "a bare list": ([{"start": 1, "end": 2, "text": "Hi", "channel": 1}], [Cue(1, 2, "Hi", channel=1)]),
    "whisperx": (
        {
            "segments": [
                {
                    "start": 1.0,
                    "end": 3.0,
                    "text": "It costs 5",
                    "speaker": "SPEAKER_01",
                    "words": [*words((1.0, 1.5, "It"), (1.6, 2.0, "costs")), {"word": "5"}],
                }
            ],
            "word_segments": [],
        },
        [
            Cue(
                1.0,
                3.0,
                "It costs 5",
                ((1.0, 1.5, "It"), (1.6, 2.0, "costs"), (2.0, 2.0, "5")),
                speaker="SPEAKER_01",
            )
        ],
    ),
    "openai words alone": (
        {"text": "Hi you", "words": words((0.0, 0.5, "Hi"), (0.6, 1.0, "you"))},
        [Cue(0.0, 0.5, "Hi", ((0.0, 0.5, "Hi"),)), Cue(0.6, 1.0, "you", ((0.6, 1.0, "you"),))],
    ),
    "whisper.cpp": (
        {"transcription": [{"offsets": {"from": 500, "to": 1500}, "text": " Hi", "timestamps": {}}]},
        [Cue(0.5, 1.5, " Hi")],
    ),
    "funasr": (
        [{"key": "a", "text": "你好", "sentence_info": [{"text": "你好", "start": 500, "end": 1500, "spk": 1}]}],
        [Cue(0.5, 1.5, "你好", speaker="1")],
    ),
    "deepgram": (
        {
            "results": {
                "channels": [
                    {"alternatives": [{"words": [{"start": 0.1, "end": 0.5, "word": "hi", "punctuated_word": "Hi."}]}]},
                    {"alternatives": [{"words": words((1.0, 1.5, "bye"))}]},
                ]
            }
        },
        [Cue(0.1, 0.5, "Hi.", ((0.1, 0.5, "Hi."),), 0), Cue(1.0, 1.5, "bye", ((1.0, 1.5, "bye"),), 1)],
    ),
    "aws": (
        {
            "results": {
                "items": [
                    {
                        "type": "pronunciation",
                        "start_time": "0.1",
                        "end_time": "0.5",
                        "alternatives": [{"content": "Hi"}],
                        "channel_label": "ch_1",
                    },
                    {"type": "punctuation", "alternatives": [{"content": "!"}], "channel_label": "ch_1"},
                    {
                        "start_time": "1",
                        "end_time": "2",
                        "alternatives": [{"content": "you"}],
                        "speaker_label": "spk_0",
                    },
                ]
            }
        },
        [Cue(0.1, 0.5, "Hi!", ((0.1, 0.5, "Hi!"),), 1), Cue(1.0, 2.0, "you", ((1.0, 2.0, "you"),), speaker="spk_0")],
    ),
    "nothing said": ({"text": "", "segments": []}, []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_json(shape: str, tmp_path: Path) -> None:
    content, cues = SHAPES[shape]
    assert list(read(put(tmp_path / "a.json", content)).cues) == cues


def test_webvtt(tmp_path: Path) -> None:
    agent, customer, plain = read(put(tmp_path / "a.vtt", VTT)).cues
    assert (agent.speaker, agent.text.strip()) == ("Agent", "Hello there & welcome")
    assert (customer.speaker, customer.text.strip()) == ("Customer Kim", "I want a refund")
    assert (agent.start_s, customer.end_s) == (1.0, 4.0)
    assert agent.end_s == customer.start_s
    assert (plain.start_s, plain.end_s, plain.text.strip()) == (5.0, 3606.5, "- plain karaoke")


@pytest.mark.parametrize(
    "content",
    [
        SRT,
        SRT.replace("\n", "\r\n"),
        SRT.replace("\n", "\r"),
        "\ufeff" + SRT,
        SRT.encode("utf-16"),
        SRT.removeprefix("1\n"),
    ],
    ids=["plain", "crlf", "cr", "bom", "utf-16", "no first number"],
)
def test_subrip(content: str | bytes, tmp_path: Path) -> None:
    cues = read(put(tmp_path / "a.srt", content)).cues
    assert [(cue.start_s, cue.end_s, " ".join(cue.text.split())) for cue in cues] == [
        (1.0, 4.0, "Hello you"),
        (5.0, 6.0, "First line after an empty one"),
        (7.5, 8.5, "3 < 4"),
        (11.0, 12.0, "the end"),
    ]


BROKEN: dict[str, tuple[str, str | bytes | object, str]] = {
    "gbk": (".srt", "1\n00:00:01,000 --> 00:00:02,000\n退款".encode("gb18030"), "iconv"),
    "no times": (".srt", "hello", "00:00:01,000"),
    "backwards": (".srt", "1\n00:00:05,000 --> 00:00:02,000\nhello", "correct its times"),
    "cut json": (".json", '{"segments": [', "no JSON"),
    "deep json": (".json", "[" * 100_000, "no JSON"),
    "a word": (".json", '"hello"', "no shape"),
    "other json": (".json", {"agent": "Kim"}, "no shape"),
    "no start": (".json", [{"text": "hello"}], "no shape"),
    "times that are none": (".json", '[{"text": "hello", "start": NaN, "end": 2}]', "correct its times"),
    "negative": (".json", [{"text": "hello", "start": -1, "end": 2}], "correct its times"),
    "numbers": (".json", [1, 2], "no shape"),
    "text that is none": (".json", {"text": {"a": 1}}, "no shape"),
    "words that are none": (".json", {"segments": [{"start": 0, "end": 1, "text": "a", "words": 3}]}, "no shape"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_transcripts_say_so_in_one_line(name: str, tmp_path: Path) -> None:
    suffix, content, says = BROKEN[name]
    path = put(tmp_path / f"a{suffix}", content)
    with pytest.raises(TranscriptError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(TranscriptError, match="cannot be read"):
        read(tmp_path / "none.srt")
