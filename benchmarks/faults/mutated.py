"""Files with damages of chance: flipped bits, cuts, insertions, holes, and other values."""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.faults.killed import Tally
from benchmarks.faults.samples import Sample, same
from graphs.tools.documents import FileError
from training.config import SettingError

SLOW = 2.0
"""Seconds that reading a small file may take of a processor."""
HANGING = 30.0
"""Seconds after which it was waiting for something."""
OWN = (FileError, SettingError, FileNotFoundError)
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect",
    "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen",
)  # fmt: skip
WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf"), "", "nan",
    "../../etc/passwd", "\0", "os:system", "\ud800", [], {}, [[]], {"a": 1}, [None],
    "a" * 5000, 0.5,
)  # fmt: skip

ran: list[str] = []
"""What was run, of what no file may run."""


def watch() -> None:
    """Note from now on what runs programs, connects, unpickles or loads libraries."""
    sys.addaudithook(lambda event, _: ran.append(event) if event in FORBIDDEN else None)


def mutated(kind: str, sample: Sample, count: int, work: Path, seed: int) -> Tally:
    """Damage one file of a kind again and again, and read it."""
    tally = Tally("files with damages of chance", kind)
    expected = sample.read(sample.folder)
    for number in range(count):
        rng = random.Random(f"{seed} {kind} {number}")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(sample.folder, work)
        files = [p for p in sorted(work.iterdir()) if p.name not in ("README.md", "report.json")]
        path = rng.choice(files)
        before = path.read_bytes()
        values = path.suffix == ".json" and rng.random() < 0.5
        after = _other_values(before, rng) if values else damaged(before, rng)
        path.write_bytes(after)
        ran.clear()
        started, worked = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome, said = _read(sample, work, expected, after == before)
        # Other processes may have the processor for a while.
        took, waited = time.process_time() - worked, time.perf_counter() - started
        if ran:
            outcome, said = "code executed", str(ran[:3])
        elif took > SLOW or waited > HANGING:
            outcome, said = "slow", f"{took:.1f} s of work in {waited:.1f} s"
        good = outcome in ("refused", "read as it was", "read as it was edited")
        tally.add(outcome, "" if good else f"{path.name}, number {number}: {said}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    tally.examples.append(f"peak of the process {peak:.2f} GB") if peak > 1 else None
    return tally


def _read(sample: Sample, work: Path, expected: Any, untouched: bool) -> tuple[str, str]:
    try:
        found = sample.read(work)
    except OWN as error:
        return "refused", str(error)
    except ValueError as error:
        # Settings are refused by the classes that hold them, with their name.
        return ("refused" if sample.edited else "raw traceback"), f"{type(error).__name__}: {error}"
    except Exception as error:
        return "raw traceback", f"{type(error).__name__}: {error}"[:300]
    if untouched or same(found, expected):
        return "read as it was", ""
    return ("read as it was edited" if sample.edited else "silently different"), ""


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one damage of chance."""
    data, way = bytearray(content), rng.randrange(6)
    place = rng.randrange(len(data))
    if way == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[place:]
    elif way == 2:
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif way == 3:
        data[place:place] = rng.randbytes(rng.randrange(1, 30))
    elif way == 4:
        del data[place : place + rng.randrange(1, 200)]
    else:
        end = min(len(data), place + rng.randrange(1, 4096))
        data[place:end] = bytes(end - place)
    return bytes(data)


def _other_values(content: bytes, rng: random.Random) -> bytes:
    """A JSON text with another value, or without one."""
    whole = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(inner, dict | list):
                walk(inner)

    walk(whole)
    holder, key = rng.choice(places)
    if rng.random() < 0.75:
        holder[key] = rng.choice(WEIRD)
    else:
        del holder[key]
    return json.dumps(whole).encode()
