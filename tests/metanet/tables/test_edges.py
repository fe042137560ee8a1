"""What does not fit an explicit graph is refused."""

from __future__ import annotations

import pytest

from tests.metanet.conftest import network, trained


def test_the_baseline_refuses_what_does_not_fit_its_edges():
    net = network("plain_cnn_flatten")
    with pytest.raises(ValueError, match=r"kernel of \(3, 3\).*larger 'kernel'"):
        trained("pna", kernel=1)(net, None, 0.5)
    with pytest.raises(ValueError, match="more edges than 100"):
        trained("pna", max_edges=100)(net, None, 0.5)
