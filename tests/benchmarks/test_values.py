"""The table of values: geometric means by family, of what was measured."""

from __future__ import annotations

import json

from benchmarks.expected_loss.cells import Records
from benchmarks.values import table


def line(family, member, chosen):
    found = {"family": family, "member": member, "share": 0.5, "sum": 2.0, "chosen": chosen}
    return {**found, "best": 0.5, "correlation": 0.8, "of sum": 0.4}


def test_families_are_rows_and_damages_are_shares_of_the_sum(tmp_path):
    path = tmp_path / "values.jsonl"
    lines = [line("plain", "a", 1.0), line("plain", "b", 4.0), line("dense", "c", 1.0)]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    rows = table(Records(path)).splitlines()[2:]
    assert rows == [
        "| dense | 1 | 0.40 | 0.80 | 0.50 | 0.50 |",
        "| plain | 2 | 0.40 | 0.80 | 1.00 | 0.50 |",
    ]
