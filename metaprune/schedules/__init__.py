"""Schedules: how many prunings lead to a target, one file each (`one_shot`, `iterative`).

`base` says what a schedule is and finds one by name; `run` prunes as one says, and `steps` keeps on
disk what is done, so that an interrupted schedule continues.
"""

from metaprune.schedules.base import SCHEDULES, Schedule, parse, schedule
from metaprune.schedules.iterative import Iterative
from metaprune.schedules.one_shot import OneShot

__all__ = ["SCHEDULES", "Iterative", "OneShot", "Schedule", "parse", "schedule"]
