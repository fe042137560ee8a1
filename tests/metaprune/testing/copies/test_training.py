"""The law of training holds for sound results, and fails for broken ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build import rebuild as building
from graphs.relate import trace as tracing
from metaprune import testing
from tests.graphs.relate.test_training import CUT, IMAGES, Decides, Features, Head, Targets


def _law(model, **kwargs):
    laws = testing.certify(model, (IMAGES,), **kwargs).laws
    return next(law for law in laws if law.name == "training")


@pytest.mark.parametrize("kind", [*CUT.values(), Features], ids=lambda kind: kind.__name__)
def test_it_holds(kind):
    law = _law(kind())
    assert law.count
    assert not law.failures
    assert not law.note


def test_it_says_what_does_not_train():
    assert "does not run in training mode" in _law(Decides()).note
    assert "targets are needed" in _law(Targets()).note


@pytest.fixture
def blind(monkeypatch):
    """A build that does not look at the forward in training."""
    monkeypatch.setattr(tracing, "trains_alike", lambda *given: True)


# Of two, evaluation has the same axes.
@pytest.mark.parametrize("name", sorted(CUT.keys() - {"Tied", "Masked"}))
def test_it_fails_where_training_is_not_looked_at(name, blind):
    law = _law(CUT[name]())
    assert any("with units removed" in failure for failure in law.failures)
    with pytest.raises(AssertionError, match="with units removed"):
        testing.assert_round_trip(CUT[name](), (IMAGES,))


def test_it_fails_where_widths_returned_in_training_are_cut(blind):
    assert any("returns" in failure for failure in _law(Features()).failures)


def test_it_fails_where_nothing_is_said(monkeypatch):
    monkeypatch.setattr(building, "in_training", lambda *given: ())
    assert any("does not run in training" in failure for failure in _law(Decides()).failures)


def test_it_fails_where_what_came_back_trains_otherwise(monkeypatch):
    model = Head()
    net = trace(model, (IMAGES,))
    made = net.to_model()
    monkeypatch.setattr(type(net), "to_model", lambda self: made)
    made.aux[1] = nn.Tanh()
    assert any("came back differs" in failure for failure in _law(model, net=net).failures)


def test_it_fails_where_gradients_are_lost(monkeypatch):
    class Detached(Head):
        def forward(self, x):
            return super().forward(x) if self.a.out_channels == 6 else super().forward(x).detach()

    law = _law(Detached())
    assert any("no gradient reaches" in failure for failure in law.failures)


def test_the_model_stays_as_it_is():
    model = Head()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    testing.certify(model, (IMAGES,)).require()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
