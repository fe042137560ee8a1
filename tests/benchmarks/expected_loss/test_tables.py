"""Tables give means and deviations over seeds, and geometric means by family."""

import json
from pathlib import Path
from typing import Any

from benchmarks.expected_loss import tables


def _line(
    rule: str, value: float, seed: int = 0, sparsity: float = 0.5, **more: Any
) -> dict[str, Any]:
    return {
        "benchmark": "masks",
        "model": "llama",
        "pattern": "unstructured",
        "target": {"sparsity": sparsity},
        "examples": 48,
        "rule": rule,
        "seed": seed,
        "figures": {"perplexity": value},
        "seconds": {"plan": 1.0, "apply": 2.0},
        **more,
    }


def test_seeds_are_summed_up_and_the_last_measurement_counts() -> None:
    lines = [_line("erk", 99.0), _line("erk", 10.0), _line("erk", 12.0, seed=1)]
    lines += [_line("lamp", 11.0, sparsity=0.7), {**_line("owl", 1.0), "refused": "no"}]
    del lines[-1]["figures"]
    whole = _line("dense", 4.5, target={}, pattern="dense")
    text = tables.of("masks", [whole, *lines])
    assert "| erk | 11.00 ± 1.41 |  | 1.0 | 2.0 |" in text
    assert "| lamp |  | 11.00 | 1.0 | 2.0 |" in text
    assert "llama (dense 4.50), unstructured, 48 examples" in text
    assert "owl" not in text


def test_families_are_summed_up_by_geometric_means_beside_recorded_rows(tmp_path: Path) -> None:
    lines = [
        {**_line("uniform", 0), "model": f"train/{name}", "target": {"macs": macs},
         "figures": {"kl": kl}}
        for name, macs, kl in (
            ("plain-1", "50%", 0.1), ("plain-1", "30%", 0.4), ("dense-2", "50%", 0.3)
        )
    ]  # fmt: skip
    recorded = tmp_path / "rules.jsonl"
    row = {"member": "train/plain-1", "share": 0.3, "rule": "uniform", "kl": 0.41}
    recorded.write_text(json.dumps(row) + "\n", encoding="utf-8")
    text = tables.of("zoo", lines, recorded)
    assert "| uniform | 0.300 (1) | 0.200 (2) |" in text
    assert "| uniform (recorded) |  | 0.410 (1) |" in text
    assert text.count("| rule | dense | plain |") == 3


def test_nothing_measured_is_said() -> None:
    assert "Nothing is measured" in tables.of("ranks", [])
