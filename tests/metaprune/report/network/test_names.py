"""Names fold only where every number occurs."""

from __future__ import annotations

import pytest

from metaprune.report.network.names import folded


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layers.0.a", "layers.1.a", "layers.2.a", "head"], ["layers.0–2.a", "head"]),
        (["l.0.a", "l.2.a"], ["l.{0, 2}.a"]),
        (["l.0.e.0", "l.0.e.1", "l.1.e.0", "l.1.e.1"], ["l.0–1.e.0–1"]),
        (["l.0.e.0", "l.1.e.1"], ["l.0.e.0", "l.1.e.1"]),
        (["conv1", "conv2"], ["conv1", "conv2"]),
        ([], []),
    ],
)
def test_names_fold_only_where_every_number_occurs(names, expected):
    assert folded(names) == expected
