"""Processes that are forked off this one, in which everything is imported already."""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60.0
"""Seconds of sleep after which a process hangs; one that waits for a processor does not."""
MOST = 600.0
"""Seconds of a processor after which it counts as hanging, too."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: of the exit; negative for a signal.
        said: what it wrote to its terminal.
        seconds: that it took.
        hung: whether it was ended here, because it took too long.
    """

    code: int
    said: str
    seconds: float
    hung: bool

    @property
    def raw(self) -> bool:
        """Whether it ended with a traceback."""
        return "Traceback (most recent call last)" in self.said


def forked(
    work: Callable[[], object],
    place: Path,
    stop: tuple[float, int] | None = None,
) -> Ended:
    """Run a function in a process of its own.

    Args:
        work: what is done there.
        place: folder in which it works, and whose `terminal.txt` gets what it says.
        stop: seconds after which it gets a signal, and which; None for none.
    """
    terminal = place.parent / f"{place.name}.terminal"
    sys.stdout.flush()
    started = time.perf_counter()
    child = os.fork()
    if not child:
        _in_child(work, place, terminal)
    due = None if stop is None else started + stop[0]
    hung, status, worked, awake = False, None, 0.0, started
    while status is None:
        found, held = os.waitpid(child, os.WNOHANG)
        if found:
            status = held
            continue
        now = time.perf_counter()
        if due is not None and now >= due:
            os.kill(child, stop[1] if stop is not None else signal.SIGKILL)
            due = None
        if now - awake > 1:
            work_done, running = _work_of(child)
            if running or work_done > worked:
                worked, awake = work_done, now
        if now - awake > LIMIT or worked > MOST:
            hung = True
            os.kill(child, signal.SIGUSR1)
            time.sleep(1)
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    seconds = time.perf_counter() - started
    said = terminal.read_text(errors="replace") if terminal.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), said, seconds, hung)


def _work_of(child: int) -> tuple[float, bool]:
    """Seconds of a processor that a process has had, and whether it wants one."""
    try:
        held = Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2].split()
    except OSError:  # it has just ended
        return 0.0, True
    return (int(held[11]) + int(held[12])) / os.sysconf("SC_CLK_TCK"), held[0] == "R"


def _in_child(work: Callable[[], object], place: Path, terminal: Path) -> None:
    code = 70
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(terminal, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), write_through=True)
        os.chdir(place)
        faulthandler.register(signal.SIGUSR1, file=2)  # says where it is, if it hangs
        work()
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
