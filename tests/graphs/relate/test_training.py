"""What runs in training only is cut with the rest, left whole, or told of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.rebuild import rebuild
from tests.oracles.networks.families import FAMILIES, build


class Trunk(nn.Module):
    """Convolutions whose training forward is another one in each subclass."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.end = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 3)
        self.more()

    def more(self):
        """What the subclass needs."""

    def forward(self, x):
        early = torch.relu(self.norm(self.a(x)))
        late = torch.relu(self.b(early)).mean((2, 3))
        y = self.end(late)
        return self.trained(early, late, y) if self.training else y


class Head(Trunk):
    def more(self):
        self.aux = nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))

    def trained(self, early, late, y):
        return y + 0.3 * self.aux(early)


class Heads(Trunk):
    def more(self):
        self.aux = nn.ModuleDict({"a": nn.Linear(6, 3), "b": nn.Linear(8, 3)})

    def trained(self, early, late, y):
        return {"y": y, "a": self.aux["a"](early.mean((2, 3))), "b": self.aux["b"](late)}


class Gate(Trunk):
    def more(self):
        self.gate = nn.Parameter(torch.ones(6, 1, 1))

    def trained(self, early, late, y):
        return y + (early * self.gate).mean()


class Center(Trunk):
    def more(self):
        self.register_buffer("center", torch.zeros(8))

    def trained(self, early, late, y):
        self.center.mul_(0.9).add_(late.detach().mean(0), alpha=0.1)
        return y + (late - self.center).pow(2).mean()


class Reconstruction(Trunk):
    def more(self):
        self.back = nn.ConvTranspose2d(6, 1, 3, padding=1)

    def trained(self, early, late, y):
        return y, self.back(early)


class Tied(Trunk):
    def trained(self, early, late, y):
        return y + nn.functional.linear(
            nn.functional.conv2d(early, self.b.weight).sum((2, 3)), self.end.weight
        )


class Masked(Trunk):
    def trained(self, early, late, y):
        kept = torch.empty_like(late).bernoulli_(0.9)
        noise = torch.rand_like(early) * early
        return self.end(late * kept) + noise.mean()


class Spectral(Trunk):
    def more(self):
        self.b = nn.utils.parametrizations.spectral_norm(self.b)

    def trained(self, early, late, y):
        return y


CUT = {one.__name__: one for one in (Head, Heads, Gate, Center, Reconstruction, Tied, Masked)}


class Features(Trunk):
    def trained(self, early, late, y):
        return y, late


class Concatenated(Trunk):
    def more(self):
        self.both = nn.Linear(14, 3)

    def trained(self, early, late, y):
        return self.both(torch.cat([early.mean((2, 3)), late], 1))


class Fixed(Trunk):
    def more(self):
        self.flat = nn.Linear(6, 2)

    def trained(self, early, late, y):
        return y, self.flat(early.mean((2, 3)).view(len(y), 2, 3).reshape(-1, 6))


class Decides(Trunk):
    def more(self):
        self.aux = nn.Linear(6, 3)

    def trained(self, early, late, y):
        return y + self.aux(early.mean((2, 3))) if torch.rand(()) < 2 else y


class Targets(Trunk):
    def trained(self, early, late, y):
        raise ValueError("targets are needed in training")


class Dropped(Trunk):
    def trained(self, early, late, y):
        return nn.functional.dropout(y, 0.5)


IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _net(kind):
    torch.manual_seed(0)
    return trace(kind(), (IMAGES,))


def _a(net):
    return net.tensors["a.weight"].dims[0].axis


@pytest.mark.parametrize("examples", [1, 4])
@pytest.mark.parametrize("name", list(CUT))
def test_what_training_reads_is_cut_too(name, examples):
    torch.manual_seed(0)
    net = trace(CUT[name](), (IMAGES[:examples],))
    assert not net.source.trains_alike
    free = {axis.name: [0] for axis in net.axes.values() if axis.frozen is None}
    assert len(free) == 2
    found = rebuild(net.remove(free))
    assert not found.notes
    made = found.model.train()
    returned = made(IMAGES)
    first = returned["y"] if isinstance(returned, dict) else returned
    first = first[0] if isinstance(first, tuple) else first
    first.sum().backward()
    assert made.a.weight.shape[0] == 5
    assert made.a.weight.grad is not None


@pytest.mark.parametrize("name", list(CUT))
def test_a_training_head_is_no_reason_to_remember_gradients_or_batches(name):
    model = CUT[name]().train()
    before = {n: (b._version, id(b)) for n, b in model.named_buffers()}
    generator = torch.get_rng_state()
    trace(model, (IMAGES,))
    assert {n: (b._version, id(b)) for n, b in model.named_buffers()} == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training


def test_widths_that_only_training_returns_are_left_alone():
    net = _net(Features)
    assert net.axes["b.out"].frozen == "output of the model in training"
    assert net.axes["a.out"].frozen is None


def test_concatenations_that_only_training_makes_are_cut_in_their_parts():
    net = _net(Concatenated)
    made = net.remove({"a.out": [1], "b.out": [0, 2]}).to_model().train()
    assert made(IMAGES).shape == (4, 3)
    assert made.both.in_features == 11


def test_sizes_that_training_states_hold():
    net = _net(Fixed)
    free = {axis.name: [0] for axis in net.axes.values() if axis.frozen is None}
    found = rebuild(net.remove(free))
    assert found.notes or found.model.train()(IMAGES)[1].shape == (4, 2)


def test_what_cannot_be_followed_is_told():
    notes = rebuild(_net(Decides).remove("a.out", [0])).notes
    assert any("does not run in training mode" in note for note in notes)


@pytest.mark.parametrize("kind", [Targets, Dropped])
def test_nothing_is_said_where_nothing_is_known_or_nothing_differs(kind):
    net = _net(kind)
    found = rebuild(net.remove("a.out", [0]))
    assert not found.notes
    assert found.model(IMAGES) is not None if kind is Dropped else True


def test_the_steps_of_a_spectral_norm_are_followed():
    net = _net(Spectral)
    assert not net.source.trains_alike
    assert [axis.frozen for axis in net.axes.values()].count(None) == 2
    assert not rebuild(net.remove("a.out", [0])).notes


def test_modules_that_only_training_uses_stay():
    net = _net(Head)
    assert net.axes["aux.0.out"].frozen == "only training uses it"


@pytest.mark.parametrize("name", list(FAMILIES))
def test_families_train_as_they_evaluate(name):
    model, inputs = build(name)
    assert trace(model, inputs).source.trains_alike


class Deep(nn.Module):
    """Residual layers, of which training reads one by its number, or all that there are."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
            for _ in range(4)
        )
        self.end, self.aux = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        seen = []
        for layer in self.layers:
            x = x + layer(x)
            seen.append(x)
        y = self.end(x)
        if self.training:
            y = y + self.aux(seen[3] if self.how == "number" else seen[-1])
        return y


@pytest.mark.parametrize("how", ["number", "last"])
def test_blocks_that_training_reads(how):
    net = trace(Deep(how), (torch.randn(2, 8),))
    shorter = net.drop([net.blocks()[1].name])
    found = rebuild(shorter)
    if how == "last":
        assert type(found.model) is Deep
        assert not found.notes
        assert found.model.train()(torch.randn(5, 8)).shape == (5, 3)
    else:
        assert any("In training" in note for note in found.notes)
    assert found.model.eval()(torch.randn(5, 8)).shape == (5, 3)


def test_the_exported_graph_says_that_it_has_no_forward_of_training():
    class Counted(Head):
        def forward(self, x):
            assert self.a.out_channels == 6
            return super().forward(x)

    found = rebuild(_net(Counted).remove("a.out", [0]))
    assert any("In training it computes what it computes in evaluation" in n for n in found.notes)
