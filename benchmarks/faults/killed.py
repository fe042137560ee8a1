"""Processes that are killed, stopped, or find the disk full; and the same command afterwards."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import commands
from benchmarks.faults.processes import Ended, forked
from graphs.tools import files

STOPPED = {signal.SIGTERM: 143, signal.SIGINT: 130}


@dataclass
class Tally:
    """Outcomes of one kind of fault.

    Args:
        fault: in words.
        subject: the command or the kind of file.
        outcomes: what became of it → how often.
        examples: of what is wrong.
    """

    fault: str
    subject: str
    outcomes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, outcome: str, example: str = "") -> None:
        """Count an outcome; what is wrong is shown with its example."""
        self.outcomes[outcome] += 1
        if example and len(self.examples) < 5:
            self.examples.append(f"{outcome}: {example}")

    def row(self) -> dict[str, Any]:
        """As a row of the record."""
        return {
            "fault": self.fault,
            "subject": self.subject,
            "runs": sum(self.outcomes.values()),
            "outcomes": dict(self.outcomes),
            "examples": self.examples,
        }


def _warm(name: str, place: Path) -> None:
    """Run a command in this very process, so that those forked off need not import anything."""
    before = Path.cwd()
    os.chdir(place)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            commands.run(name)()
    finally:
        os.chdir(before)


class Ground:
    """A folder for runs of one command, what an undisturbed one leaves, and how long it takes."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        self.zoo = folder / "zoo-made"
        if name == "train" and not self.zoo.exists():
            forked(commands.run("zoo"), folder / "zoo-first")
            (folder / "zoo-first" / "zoo").rename(self.zoo)
        _warm(name, self.fresh())
        place = self.fresh()
        ended = forked(commands.run(name), place)
        if ended.code:
            raise RuntimeError(f"{name} does not run undisturbed: {ended.said}")
        self.seconds, self.expected = ended.seconds, commands.contents(place)

    def fresh(self) -> Path:
        """The folder, empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if self.name == "train":
            shutil.copytree(self.zoo, self.folder / "zoo")
        return self.folder

    def judge(self, tally: Tally, ended: Ended, codes: tuple[int, ...], what: str) -> None:
        """Count what became of a disturbed run, and of the same command after it."""
        place = self.folder
        if ended.hung:
            tally.add("hung", what)
            return
        if ended.raw:
            tally.add("raw traceback", f"{what}: {ended.said[-600:]}")
            return
        if ended.code not in codes:
            tally.add("other exit", f"{what}: {ended.code} {ended.said[-300:]}")
            return
        if (half := commands.half_written(place)) is not None:
            tally.add("half-written", f"{what}: {half}")
            return
        again = forked(commands.run(self.name), place)
        if again.hung:
            place_of = again.said.find("most recent call first")
            tally.add("rerun hangs", f"{what}: {again.said[place_of : place_of + 1500]}")
            return
        if again.code:
            refused = "exists and is not empty" in again.said
            done = refused and commands.contents(place) == self.expected
            if not done:
                tally.add("rerun fails", f"{what}: {again.said[-400:]}")
                return
        found = commands.contents(place)
        if found != self.expected:
            names = sorted({k for k in found.keys() | self.expected.keys()
                            if found.get(k) != self.expected.get(k)})  # fmt: skip
            tally.add("rerun differs", f"{what}: {names[:3]}")
            return
        left = commands.left_over(place)
        if left is not None:
            tally.add("left over", f"{what}: {left}")
            return
        tally.add("rerun equal")


def at_random(ground: Ground, number: signal.Signals, count: int, seed: int) -> Tally:
    """End a command at random moments by a signal."""
    word = {signal.SIGKILL: "kill -9", signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
    tally = Tally(f"{word} at random moments", ground.name)
    rng = random.Random(f"{seed} {ground.name} {word}")
    for _ in range(count):
        after = rng.uniform(0, ground.seconds)
        place = ground.fresh()
        ended = forked(commands.run(ground.name), place, (after, number))
        codes = (0, -9) if number is signal.SIGKILL else (0, STOPPED[number], -int(number))
        ground.judge(tally, ended, codes, f"{word} after {after:.2f} s")
    return tally


def disturbed(name: str, at: int, act: Callable[[], None]) -> Callable[[], None]:
    """A command in which something happens at the n-th time that a file is about to get its name.

    At twice the number of renames and one more, nothing happens any more.
    """

    def work() -> None:
        seen, rename = [0], os.replace

        def replace(source: Any, target: Any) -> None:
            if seen[0] == at:
                act()
            seen[0] += 1
            rename(source, target)
            if seen[0] == at:
                act()
            seen[0] += 1

        files.os.replace = replace  # type: ignore[assignment]
        commands.run(name)()

    return work


def places(ground: Ground) -> Iterator[int]:
    """The numbers of all moments before and after a rename."""
    count = ground.folder.with_name("count")

    def work() -> None:
        seen, rename = [0], os.replace

        def replace(source: Any, target: Any) -> None:
            rename(source, target)
            seen[0] += 2
            count.write_text(str(seen[0]))

        files.os.replace = replace  # type: ignore[assignment]
        commands.run(ground.name)()

    forked(work, ground.fresh())
    yield from range(int(count.read_text()))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def at_renames(ground: Ground, most: int | None, seed: int) -> Tally:
    """Kill a command before and after every rename, or some of them."""
    tally = Tally("kill -9 at renames", ground.name)
    for at in _some(list(places(ground)), most, seed):
        ended = forked(disturbed(ground.name, at, _die), ground.fresh())
        ground.judge(tally, ended, (-9,), f"rename {at // 2}, {'after' if at % 2 else 'before'}")
    return tally


def full_disk(ground: Ground, most: int | None, seed: int) -> Tally:
    """Let every write, or some of them, find no room."""
    tally = Tally("disk full at a write", ground.name)
    for at in _some([at for at in places(ground) if at % 2 == 0], most, seed):
        ended = forked(disturbed(ground.name, at, _full), ground.fresh())
        ground.judge(tally, ended, (0, 1), f"write {at // 2}")
    return tally


def _some(places: list[int], most: int | None, seed: int) -> list[int]:
    if most is None or len(places) <= most:
        return places
    return sorted(random.Random(seed).sample(places, most))
