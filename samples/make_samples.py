"""Make the sample calls: eSpeak NG speaks the lines, numpy gives them their temper and the telephone its band.

Nobody's voice is in them: eSpeak NG is a formant synthesiser, its voices are tables of numbers. What separates a calm
line from a shouted one here is what separates them in people (Scherer 2003, Speech Communication 40): pitch and its
range, rate, loudness, and how much of the energy lies above 1 kHz.

    apt-get install espeak-ng          # 1.51 made the committed files
    python samples/make_samples.py     # writes samples/calls/, transcripts/, the CSVs and angry.ogg
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
RATE_HZ = 16_000
LINE_HZ = 8_000  # a telephone line's sampling rate
BAND_HZ = (300.0, 3_400.0)  # and its band
LEAD_S = 0.4  # before the first word and after the last
SEED = 7

Signal = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Temper:
    """How a line is said."""

    pitch: int  # added to the voice's own, on eSpeak's scale of 0 to 99
    range_percent: int  # of the pitch contour, 100 is the voice's own
    rate_wpm: int
    level_db: float  # of the loudest tenth of a second, below full scale
    tilt_db: float  # added per octave above 500 Hz: a pressed voice is brighter, a sad one darker
    pause_s: float  # after a line
    strain: float = 0.0  # 0 to 1: soft clipping and roughness, as of a shout
    fade_db: float = 0.0  # lost from the first word of a line to the last


CALM = Temper(pitch=-4, range_percent=70, rate_wpm=140, level_db=-28, tilt_db=-7.0, pause_s=0.7)
CHEERFUL = Temper(pitch=16, range_percent=220, rate_wpm=165, level_db=-20, tilt_db=-6.0, pause_s=0.5)
SAD = Temper(pitch=-14, range_percent=30, rate_wpm=105, level_db=-32, tilt_db=-8.0, pause_s=1.0, fade_db=8)
TENSE = Temper(pitch=14, range_percent=120, rate_wpm=200, level_db=-16, tilt_db=-1.0, pause_s=0.5, strain=0.2)
ANGRY = Temper(pitch=24, range_percent=260, rate_wpm=205, level_db=-5, tilt_db=3.5, pause_s=0.45, strain=0.7)
SHOUTING = Temper(pitch=30, range_percent=300, rate_wpm=190, level_db=-2, tilt_db=4.5, pause_s=0.45, strain=1.0)


@dataclass(frozen=True, slots=True)
class Voice:
    """An eSpeak voice with a variant, and its own pitch."""

    name: str
    pitch: int = 40


MARA = Voice("en-us+f2", 40)
TOM = Voice("en-us+m5", 42)
IDA = Voice("en-us+f1", 40)
OLE = Voice("en-us+m6", 48)
RUTH = Voice("en-gb-x-rp+f2", 38)
GLEN = Voice("en-us+m4", 40)
KIT = Voice("en-us+f4", 30)
NED = Voice("en-us+m7", 50)
ANN = Voice("en-us-nyc+f2", 45)


@dataclass(frozen=True, slots=True)
class Call:
    """What is said, line by line: who speaks, how, and which words."""

    file: str
    reason: str
    queue: str
    date: str
    lines: tuple[tuple[Voice, Temper, str], ...]
    agent: Voice | None = None  # on channel 0, the customer on channel 1; None: the customer alone, in mono
    telephone: bool = True

    @property
    def roles(self) -> tuple[str, str]:
        """Whose voice channel 0 has, and channel 1, as ``--meta`` has it."""
        return ("agent", "customer") if self.agent else ("customer", "")


CALLS = (
    Call(
        "billing-calm.ogg",
        "invoice",
        "billing",
        "2024-03-01",
        (
            (MARA, CALM, "Thank you for calling. How may I help you today?"),
            (TOM, CALM, "Hello. I would like to know when my next invoice is due."),
            (MARA, CALM, "Of course. It is due on the fifteenth of this month."),
            (TOM, CALM, "That is good to know. Nothing else, thank you."),
        ),
        agent=MARA,
    ),
    Call(
        "refund-shouting.ogg",
        "refund",
        "billing",
        "2024-03-02",
        (
            (MARA, CALM, "Thank you for calling. How may I help you today?"),
            (RUTH, ANGRY, "You have charged me twice, and nobody answers my letters!"),
            (MARA, CALM, "I am sorry to hear that. May I have your number?"),
            (RUTH, SHOUTING, "I gave you my number three times! I want my money back, now!"),
            (RUTH, SHOUTING, "This is an outrage! Get me your manager!"),
        ),
        agent=MARA,
    ),
    Call(
        "outage-angry.flac",
        "outage",
        "network",
        "2024-03-02",
        (
            (GLEN, ANGRY, "My line has been dead for four days, and you do nothing!"),
            (GLEN, ANGRY, "I took a day off for your engineer, and he never came!"),
            (GLEN, SHOUTING, "Do not tell me to wait again! I am sick of waiting!"),
        ),
    ),
    Call(
        "upgrade-cheerful.ogg",
        "upgrade",
        "sales",
        "2024-03-03",
        (
            (OLE, CHEERFUL, "Good morning! What a lovely day! What can I do for you?"),
            (KIT, CHEERFUL, "Hi! I just love the new phone! Can I get one for my sister too?"),
            (OLE, CHEERFUL, "Oh, wonderful! Yes, you can, and the second one is half the price!"),
            (KIT, CHEERFUL, "Really? That is fantastic! Thank you so much!"),
        ),
        agent=OLE,
        telephone=False,
    ),
    Call(
        "bereavement-sad.ogg",
        "cancellation",
        "accounts",
        "2024-03-04",
        (
            (TOM, SAD, "I am calling about my mother's account."),
            (TOM, SAD, "She died last week. I do not know what to do."),
            (TOM, SAD, "It all feels so empty without her."),
        ),
        telephone=False,
    ),
    Call(
        "parcel-tense.ogg",
        "delivery",
        "delivery",
        "2024-03-04",
        (
            (IDA, CALM, "Delivery desk. What is your parcel number?"),
            (NED, TENSE, "Four four one nine. It was due on Monday, and I need it today."),
            (IDA, CALM, "I can see it in the depot. It should be with you this evening."),
            (NED, TENSE, "Should be? I have heard that twice. Please check again."),
        ),
        agent=IDA,
    ),
    Call(
        "password-calm.flac",
        "password",
        "support",
        "2024-03-05",
        (
            (ANN, CALM, "I cannot sign in. I think I have forgotten my password."),
            (MARA, CALM, "No problem. I have sent you a link to set a new one."),
            (ANN, CALM, "It works now. Thank you for your help."),
        ),
        agent=MARA,
    ),
    Call(
        "cancel-angry.ogg",
        "cancellation",
        "sales",
        "2024-03-06",
        (
            (KIT, ANGRY, "No, I do not want another offer! Cancel the contract!"),
            (KIT, ANGRY, "How often do I have to say it? I said no!"),
            (KIT, SHOUTING, "Stop reading from your script and listen to me!"),
        ),
        telephone=False,
    ),
    Call(
        "booking-cheerful.ogg",
        "booking",
        "travel",
        "2024-03-07",
        (
            (ANN, CHEERFUL, "We are getting married! We need forty rooms in June!"),
            (IDA, CHEERFUL, "Congratulations! How exciting! Let us find you the very best!"),
            (ANN, CHEERFUL, "Oh, you are a star! My mother will be so happy!"),
        ),
        agent=IDA,
    ),
    Call(
        "hardship-sad.ogg",
        "payment",
        "accounts",
        "2024-03-08",
        (
            (MARA, CALM, "Thank you for calling. How may I help you today?"),
            (RUTH, SAD, "I have to give up the flat. I lost my job, and then I fell ill."),
            (MARA, CALM, "I am very sorry. We can end the contract this week."),
            (RUTH, SAD, "Thank you. I did not think it would come to this."),
        ),
        agent=MARA,
    ),
    Call(
        "repair-escalating.ogg",
        "repair",
        "support",
        "2024-03-09",
        (
            (IDA, CALM, "Home repairs. What can I do for you?"),
            (GLEN, CALM, "My boiler was repaired last week, and it is cold again."),
            (IDA, CALM, "I see. The next free visit would be in two weeks."),
            (GLEN, TENSE, "Two weeks? There are small children in this house."),
            (IDA, CALM, "I understand. There is nothing sooner, I am afraid."),
            (GLEN, SHOUTING, "Then find something sooner! It is freezing in here! Do your job!"),
        ),
        agent=IDA,
    ),
    Call(
        "address-calm.ogg",
        "address",
        "accounts",
        "2024-03-10",
        (
            (TOM, CALM, "Good afternoon. I have moved, and would like to give you my new address."),
            (TOM, CALM, "It is number twelve, Mill Lane. The postcode stays the same."),
            (TOM, CALM, "There is no hurry at all. Have a good day."),
        ),
        telephone=False,
    ),
)

REFERENCE = (
    (Voice("en-us+m1", 45), ANGRY, "I have been on hold for an hour! Do you think that I have nothing else to do?"),
    (Voice("en-us+m1", 45), SHOUTING, "I will not accept this! Fix it, right now!"),
)


LABELS = {CALM: "at ease", CHEERFUL: "delighted", ANGRY: "fed up", SHOUTING: "fed up"}
UNLABELLED = ("repair-escalating.ogg", "hardship-sad.ogg")  # left for a classifier to say


def main() -> None:
    """Write every sample below the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where to write (default: %(default)s)")
    folder = parser.parse_args().folder
    for part in ("calls", "transcripts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    labelled: list[tuple[str, ...]] = []
    for call in CALLS:
        channels, times = _channels(call, _random(call.file))
        cues = [
            f"{number}\n{_clock(start_s)} --> {_clock(end_s)}\n{words}\n"
            for number, ((_, _, words), (start_s, end_s)) in enumerate(zip(call.lines, times, strict=True), start=1)
        ]
        (folder / "transcripts" / call.file).with_suffix(".srt").write_text("\n".join(cues), encoding="utf-8")
        labelled += [
            (LABELS[temper], f"calls/{call.file}", f"{start_s:.2f}", f"{end_s:.2f}", voice.name)
            for (voice, temper, _), (start_s, end_s) in zip(call.lines, times, strict=True)
            if temper in LABELS and call.file not in UNLABELLED and voice != call.agent
        ]
        rate_hz = RATE_HZ
        if call.telephone:
            channels = _telephone(channels)
            rate_hz = LINE_HZ
        _write(folder / "calls" / call.file, channels, rate_hz)
    _write(folder / "angry.ogg", _lines(REFERENCE, _random("angry.ogg"))[None], RATE_HZ)
    _table(
        folder / "calls.csv",
        ("file", "queue", "reason", "date", "role_0", "role_1"),
        [(call.file, call.queue, call.reason, call.date, *call.roles) for call in CALLS],
    )
    _table(folder / "labels.csv", ("label", "path", "start_s", "end_s", "speaker"), labelled)


def _random(file: str) -> np.random.Generator:
    """Return what room noise and roughness are drawn from: a file's own, so that a change of one changes no other."""
    return np.random.default_rng([SEED, *file.encode()])


def _table(path: Path, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def _channels(call: Call, random: np.random.Generator) -> tuple[Signal, list[tuple[float, float]]]:
    """Return the call, and where each line starts and ends in it, in seconds.

    ``(channels, samples)``, its lines one after the other, room noise 60 dB below full scale.
    """
    spoken = [_line(voice, temper, words, random) for voice, temper, words in call.lines]
    channels = np.zeros((2 if call.agent else 1, round(2 * LEAD_S * RATE_HZ) + sum(line.size for line in spoken)))
    position = round(LEAD_S * RATE_HZ)
    times = []
    for (voice, temper, _), line in zip(call.lines, spoken, strict=True):
        channels[int(call.agent not in (None, voice)), position : position + line.size] = line
        times.append((position / RATE_HZ, (position + line.size) / RATE_HZ - temper.pause_s))
        position += line.size
    return channels + 1e-3 * random.standard_normal(channels.shape), times


def _clock(seconds: float) -> str:
    """As SRT writes a time: ``00:01:02,345``."""
    milliseconds = round(seconds * 1000)
    return f"00:{milliseconds // 60_000:02d}:{milliseconds // 1000 % 60:02d},{milliseconds % 1000:03d}"


def _lines(lines: tuple[tuple[Voice, Temper, str], ...], random: np.random.Generator) -> Signal:
    return np.concatenate([_line(voice, temper, words, random) for voice, temper, words in lines])


def _line(voice: Voice, temper: Temper, words: str, random: np.random.Generator) -> Signal:
    """One line with the pause that follows it, ``(samples,)`` at `RATE_HZ`."""
    signal = _tilted(_spoken(voice, temper, words), temper.tilt_db)
    signal /= np.abs(signal).max()
    if temper.strain:
        # a hoarse voice's cycles differ from one to the next: noise below 80 Hz on the amplitude, then soft clipping
        slow = np.convolve(random.standard_normal(signal.size), np.hanning(RATE_HZ // 80), "same")
        signal = signal * (1.0 + 0.25 * temper.strain * slow / np.abs(slow).max())
        signal = np.tanh(signal * (1.0 + 3.0 * temper.strain))
    signal = signal * 10.0 ** (np.linspace(0.0, -temper.fade_db, signal.size) / 20.0)
    tenth = RATE_HZ // 10
    power = np.convolve(signal**2, np.full(tenth, 1.0 / tenth), "valid").max()
    gain = 10.0 ** (temper.level_db / 20.0) * np.sqrt(0.5 / power)  # a full-scale sine has a power of 0.5
    return np.pad(np.clip(gain * signal, -0.98, 0.98), (0, round(temper.pause_s * RATE_HZ)))


def _spoken(voice: Voice, temper: Temper, words: str) -> Signal:
    """Return the words as eSpeak says them, silence around them cut off."""
    text = f'<speak><prosody range="{temper.range_percent}%">{words}</prosody></speak>'
    pitch = min(99, max(0, voice.pitch + temper.pitch))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "line.wav"
        manner = ("-v", voice.name, "-p", str(pitch), "-s", str(temper.rate_wpm))
        command = ("espeak-ng", "-m", *manner, "-w", str(path), text)
        subprocess.run(command, check=True)
        signal, rate_hz = soundfile.read(path)
    heard = np.flatnonzero(np.abs(signal) > 0.005)
    return np.asarray(soxr.resample(signal[heard[0] : heard[-1] + 1], rate_hz, RATE_HZ))


def _tilted(signal: Signal, db_an_octave: float) -> Signal:
    """Return the signal with its spectrum turned about 500 Hz, below which it stays as it is."""
    hz = np.fft.rfftfreq(signal.size, 1.0 / RATE_HZ)
    octaves = np.log2(np.maximum(hz, 500.0) / 500.0)
    return np.fft.irfft(np.fft.rfft(signal) * 10.0 ** (db_an_octave * octaves / 20.0), signal.size)


def _telephone(channels: Signal) -> Signal:
    """Return the channels as a telephone line hands them on: `BAND_HZ` alone, at `LINE_HZ`."""
    hz = np.fft.rfftfreq(channels.shape[1], 1.0 / RATE_HZ)
    low, high = BAND_HZ
    # Butterworth slopes of order 4 and 12
    gain = 1.0 / np.sqrt((1.0 + (low / np.maximum(hz, 1.0)) ** 8) * (1.0 + (hz / high) ** 24))
    narrow = np.fft.irfft(np.fft.rfft(channels) * gain, channels.shape[1])
    return np.asarray(soxr.resample(narrow.T, RATE_HZ, LINE_HZ)).T


def _write(path: Path, channels: Signal, rate_hz: int) -> None:
    codec = {".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "OPUS")}[path.suffix]
    soundfile.write(path, np.clip(channels.T, -1.0, 1.0), rate_hz, format=codec[0], subtype=codec[1])


if __name__ == "__main__":
    main()
