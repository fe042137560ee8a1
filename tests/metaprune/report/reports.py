"""A small report, as runs write them."""

from __future__ import annotations

from metaprune.report import Edge, Entry, Layer, Node, Report


def report(score: str = "accuracy", finetuned: bool = True, higher: bool = True) -> Report:
    entries = []
    for speedup in (2.0, 4.0):
        for index, method in enumerate(("metanet", "uniform <b>")):
            value = 0.9 - 0.05 * speedup - 0.02 * index
            achieved = {
                "macs": 1e6 / speedup,
                "params": 2e4,
                "size_mb": 0.1,
                "speedup": speedup,
                "sparsity": 0.5,
            }
            entries.append(
                Entry(
                    method=method,
                    asked={"speedup": speedup},
                    achieved=achieved,
                    before={score: value},
                    after={score: value + 0.05} if finetuned else {},
                    latency_ms=1.5,
                    layers=(Layer("conv.out", 16, 8),),
                    notes=("2 batch norms recalibrated.",),
                )
            )
    return Report(
        title="A <network>",
        command="prune",
        score=score,
        higher_is_better=higher,
        split="test",
        dense={score: 0.95},
        cost={"macs": 1e6, "params": 4e4, "size_mb": 0.2},
        latency_ms=3.0,
        entries=tuple(entries),
        nodes=(
            Node("conv.out", 16, "channel", "exact", False),
            Node("fc.out", 10, "feature", "output of the model", True),
        ),
        edges=(Edge("conv.weight", "", "conv.out"), Edge("fc.weight", "conv.out", "fc.out")),
        config={"seed": 0},
        provenance={"seed": 0, "versions": {"torch": "2"}},
    )
