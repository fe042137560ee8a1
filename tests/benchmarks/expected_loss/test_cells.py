"""A cell is measured once, written as one line, and refusals are lines as well."""

from pathlib import Path

import torch
from torch import nn

from benchmarks.expected_loss.cells import Cell, Records, Subject, dense, measured
from benchmarks.expected_loss.rules import RULES, Rule
from metaprune import Calibration

CELL = Cell("toy", "mlp", "unstructured", {"sparsity": 0.5}, 32, "uniform")


def _subject(planned: nn.Module | None = None) -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    batches = [(torch.randn(16, 6),), (torch.randn(16, 6),)]

    def judge(pruned: nn.Module) -> dict[str, float]:
        return {name: float((p != 0).sum()) for name, p in pruned.named_parameters() if p.ndim > 1}

    return Subject(model, (torch.randn(2, 6),), Calibration(batches), judge, planned)


def test_a_line_holds_its_key_settings_figures_seconds_and_calibration() -> None:
    at = _subject()
    line = measured(CELL, RULES["uniform"], at)
    assert line["rule"] == "uniform"
    assert line["settings"] == {"budget": "uniform"}
    assert line["figures"] == {"0.weight": 24.0, "2.weight": 16.0}
    assert line["calibration"] == at.calibration.digest
    assert abs(line["achieved"]["sparsity"] - 0.5) < 1e-9
    assert set(line["seconds"]) == {"plan", "apply"}
    assert dense(CELL, at)["figures"] == {"0.weight": 48.0, "2.weight": 32.0}


def test_candidates_of_a_search_may_be_pruned_by_the_solver() -> None:
    budget = {"rule": "search", "evaluations": 3}
    line = measured(CELL, Rule({"budget": budget}, solved=True), _subject())
    assert sum(line["figures"].values()) == 40
    assert line["settings"] == {"budget": budget}


def test_what_plans_are_not_made_for_stays_whole() -> None:
    class Whole(nn.Module):
        def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("weight", weight)
            self.register_buffer("bias", bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight, self.bias)

    model = _subject().model
    head = Whole(model[2].weight.detach().clone(), model[2].bias.detach().clone())
    at = _subject(nn.Sequential(model[0], model[1], head).eval())
    line = measured(CELL, RULES["uniform"], at)
    assert line["figures"] == {"0.weight": 24.0, "2.weight": 32.0}


def test_a_refusal_is_a_line_with_its_sentence() -> None:
    cell = Cell("toy", "mlp", "channels", {"macs": "0.001%"}, 32, "uniform")
    line = measured(cell, RULES["uniform"], _subject())
    assert "out of reach" in line["refused"]
    assert "figures" not in line


def test_a_run_continues_after_whole_lines(tmp_path: Path) -> None:
    records, settings = Records(tmp_path / "sub" / "toy.jsonl"), {"budget": "uniform"}
    assert not records.has(CELL, settings)
    records.add(measured(CELL, RULES["uniform"], _subject()))
    with records.path.open("a", encoding="utf-8") as file:
        file.write('{"benchmark": "to')
    assert records.has(CELL, settings)
    assert not records.has(CELL, {"budget": {"rule": "uniform", "lower": 0.1}})
    assert not records.has(Cell(**{**vars(CELL), "seed": 1}), settings)
    assert len(list(records)) == 1
