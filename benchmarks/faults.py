"""Fault injection: commands that are killed, torn or starved of disk at any write, and files with a bit flipped.

    python benchmarks/faults.py --quick

Every command begins with a made-up collection, is disturbed at its N-th call that writes, and is then run again. After
each, the database is whole, its feed and its segments agree, no recording is lost, doubled or made up, every answer is
the best by stored vectors, and the second run ends where an undisturbed one does. Flips are of one bit, in each file of
a collection, an export and a classifier: an answer is as before, or is refused or warned of. Random, by --seed. The
full run takes about an hour of one core; `map` is left out, which takes 25 s a run.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from _fault_disks import full_disks, restarts
from _fault_flips import flips
from _fault_scenarios import Campaign, Scenario, prepare
from _fault_states import answers, compared, state_of
from _injector import CANNOT, Ended, Fault, apart, clear, command, preload, ready
from _table import parser

WRONG = ("LOST", "DOUBLED", "SILENT WRONG", "SIGNAL", "UNCLEAR LINE")
"""Outcomes that must not be; `fine`, `refused` and `told` may."""

_UNCLEAR = ("unexpected", "Traceback", "please report", "the database:", "the database said", "Warning:")
_FULL = {"kill": 600, "torn": 400, "ENOSPC": 250, "EIO": 250, "flip": 1000, "disk": 40, "restart": 4}
_QUICK = {"kill": 12, "torn": 8, "ENOSPC": 8, "EIO": 8, "flip": 16, "disk": 2, "restart": 0}


@dataclass
class Counts:
    """Outcomes by campaign and scenario."""

    outcomes: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)

    def add(self, campaign: str, scenario: str, outcome: str, detail: str = "") -> None:
        """Count one trial."""
        self.outcomes.setdefault((campaign, scenario), Counter())[outcome] += 1
        if outcome in WRONG:
            self.found.append(f"{outcome}: {campaign}, {scenario}: {detail}")
            print(f"  {self.found[-1]}", file=sys.stderr, flush=True)


def trial(campaign: Campaign, scenario: Scenario, fault: Fault) -> tuple[str, str, list[str]]:
    """Disturb one command, look, and run it again; returns the outcome, its detail, and files that are left over."""
    work = campaign.copied(scenario.template)
    ended = command(scenario.words, work, fault)
    problem = _of_end(ended, fault)
    if problem is not None:
        return problem, f"{fault}: {ended.err.strip()[-300:]}", []
    index = work / scenario.made
    problems = compared(state_of(index / "catalog.db"), scenario.before, scenario.after)
    if scenario.template != "old" or ended.code == 0:
        problems += _called(lambda: answers(index), work)
    again = command(scenario.words, work)
    # what was done is not done twice: a target is there, and what was removed is not
    there = again.code in (1, 2) and ("already" in again.err or "is not in index" in again.err)
    if again.code and not there:
        problems.append(f"UNCLEAR LINE: run again it ends with {again.code}: {again.err.strip()[-300:]}")
    after = state_of(index / "catalog.db")
    problems += compared(after, scenario.after, scenario.after)
    if not problems and (after.segments != scenario.after.segments or after.lists != scenario.after.lists):
        problems.append("LOST: run again it ends elsewhere than undisturbed")
    problems += _called(lambda: answers(index), work)
    left = [
        str(path.relative_to(work)) for path in work.rglob("*") if ".tmp" in path.name or path.name.endswith(".part")
    ]
    if problems:
        outcome, _, detail = problems[0].partition(": ")
        return outcome if outcome in WRONG else "SILENT WRONG", f"{fault}: {detail}", left
    return "fine" if ended.code <= 0 else "refused", "", left


def _of_end(ended: Ended, fault: Fault) -> str | None:
    """Return what is wrong with how a disturbed command ended."""
    killed = fault.mode in ("kill", "torn")
    if ended.code < 0 and not (killed and ended.code == -9 and not ended.limit):
        return "SIGNAL"
    unclear = any(each in ended.err for each in _UNCLEAR) or ended.code not in (-9, 0, 1, 2, 3)
    return "UNCLEAR LINE" if unclear or (ended.code in (1, 2) and len(ended.err.strip().splitlines()) > 3) else None


def _called(function: Callable[[], list[str]], work: Path) -> list[str]:
    try:
        return apart(function, work)
    except RuntimeError as error:
        return [f"SILENT WRONG: what is there cannot be searched: {error}"]


def _faults(campaign: Campaign, mode: str, count: int, rng: random.Random) -> Iterator[tuple[Scenario, Fault]]:
    """Yield so many faults, spread over all commands, at calls that are as far apart as can be."""
    share = -(-count // len(campaign.scenarios))
    chosen = [(scenario, share) for scenario in campaign.scenarios][:count]
    for scenario, trials in chosen:
        calls = range(1, max(scenario.calls, 1) + 1)
        some = calls if len(calls) <= trials else sorted(rng.sample(calls, trials))
        for call in [some[at % len(some)] for at in range(trials)]:
            yield scenario, Fault(mode, call, mode in ("ENOSPC", "EIO") and rng.random() < 0.5)


def main() -> None:
    """Disturb, and print what was tried and what failed."""
    arguments = parser(__doc__)
    arguments.add_argument("--seed", type=int, default=0, help="of what is disturbed where")
    arguments.add_argument("--only", help="one kind of fault: kill, torn, ENOSPC, EIO, flip, disk or restart")
    arguments.add_argument("--share", type=float, default=1.0, help="of the full run")
    options = arguments.parse_args()
    ready()
    sizes = _QUICK if options.quick else {name: max(1, int(n * options.share)) for name, n in _FULL.items()}
    sizes = {name: count for name, count in sizes.items() if options.only in (None, name)}
    rng, counts, started = random.Random(options.seed), Counts(), time.monotonic()
    memory = Path("/dev/shm")  # copies and commits in memory: a trial is 3 times as fast
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None, prefix="e2vsearch-faults-"))
    try:
        preload()
        campaign = prepare(folder, quick=options.quick)
        for mode in ("kill", "torn", "ENOSPC", "EIO"):
            for scenario, fault in _faults(campaign, mode, sizes.get(mode, 0), rng):
                outcome, detail, left = trial(campaign, scenario, fault)
                counts.add(mode, scenario.name, outcome, detail)
                counts.left.update(left)
        for name, outcome, detail in flips(campaign, sizes.get("flip", 0), rng):
            counts.add("flip", name, outcome, detail)
        for name, outcome, detail in full_disks(campaign, sizes.get("disk", 0)):
            counts.add("disk", name, outcome, detail)
        for name, outcome, detail in restarts(sizes.get("restart", 0)):
            counts.add("restart", name, outcome, detail)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        clear()
    show(counts, time.monotonic() - started, options.json)
    sys.exit(1 if counts.found else 0)


def show(counts: Counts, seconds: float, json_path: Path | None) -> None:
    """Print a table of what was tried, and what failed."""
    kinds = ("fine", "refused", "told", *WRONG)
    print(f"Tried and failed, in {seconds:.0f} s")
    print("  " + f"{'':<34}" + "".join(f"{kind:>14}" for kind in ("tried", *kinds)))
    total: dict[str, Counter[str]] = {}
    for (campaign, scenario), outcomes in counts.outcomes.items():
        total.setdefault(campaign, Counter()).update(outcomes)
        cells = (outcomes.total(), *(outcomes[kind] for kind in kinds))
        print(f"  {campaign + ', ' + scenario:<34}" + "".join(f"{cell or '.':>14}" for cell in cells))
    for campaign, outcomes in total.items():
        cells = (outcomes.total(), *(outcomes[kind] for kind in kinds))
        print(f"  {'all of ' + campaign:<34}" + "".join(f"{cell or '.':>14}" for cell in cells))
    for line in counts.found:
        print(f"  {line}")
    if counts.left:
        print(
            f"  left over after the second run: {', '.join(f'{name} {n}x' for name, n in counts.left.most_common(8))}"
        )
    if json_path is not None:
        rows = [
            {"name": f"{campaign}, {scenario}", "outcomes": dict(outcomes)}
            for (campaign, scenario), outcomes in counts.outcomes.items()
        ]
        whole = {"seconds": seconds, "rows": rows, "found": counts.found}
        json_path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
    sys.exit(CANNOT)
