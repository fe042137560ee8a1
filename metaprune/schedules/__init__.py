"""Schedules: how many prunings lead to a target, one file each (`one_shot`, `iterative`).

`base` says what a schedule is and finds one by name; `on_the_way` makes the targets of its steps,
`run` prunes as one says, and `steps` keeps on disk what is done, so that an interrupted schedule
continues.
"""

from metaprune.schedules.base import SCHEDULES, Schedule, parse, schedule
from metaprune.schedules.iterative import Iterative
from metaprune.schedules.on_the_way import on_the_way
from metaprune.schedules.one_shot import OneShot

__all__ = ["SCHEDULES", "Iterative", "OneShot", "Schedule", "on_the_way", "parse", "schedule"]
