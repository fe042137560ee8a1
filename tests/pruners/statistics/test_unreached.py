"""Weights that no gradient reaches, or not in every batch, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from pruners.statistics import Likelihood, NoCurvatureError, Statistics, collect
from pruners.statistics.curvature import BOTH_WAYS, CUT_OFF, SWITCHED_OFF, UNREAD
from tests.pruners.networks import randomized
from tests.pruners.statistics.curved import ONE, WIDE, found, numbers


class Blocked(nn.Module):
    """Branches that no gradient comes back from, beside one that it does."""

    def __init__(self):
        super().__init__()
        self.before, self.off, self.cut, self.chosen, self.out, self.idle = (
            nn.Linear(4, 4) for _ in range(6)
        )
        self.table = nn.Embedding(4, 4)
        self.mirror = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x):
        with torch.no_grad():
            x = x + self.off(x)
        x = x + self.cut(x).detach() + self.table(self.chosen(x).argmax(-1))
        x = x + (x @ self.mirror).tanh() @ self.mirror.T
        return self.out(self.before(x).tanh())


REASONS = {
    "off.weight": SWITCHED_OFF,
    "cut.weight": CUT_OFF,
    "chosen.weight": CUT_OFF,
    "idle.weight": UNREAD,
    "table.weight": UNREAD,
    "mirror": BOTH_WAYS,
}


def test_weights_that_no_gradient_reaches_are_named(tmp_path):
    torch.manual_seed(0)
    model = randomized(Blocked().double())
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    seen = collect(model, [numbers(5, 4)], names, ["curvature", "hessian"], likelihood=ONE)
    assert seen.unreached == REASONS
    told = seen.tensors()
    assert {name for name, one in told.items() if "curvature" in one} == {
        "before.weight",
        "out.weight",
    }
    # What goes into them is known all the same.
    assert set(told) == {*names} - {"idle.weight", "table.weight", "mirror"}
    seen.save(tmp_path / "seen")
    loaded = Statistics.load(tmp_path / "seen")
    assert loaded.unreached == REASONS
    assert loaded.moments.keys() == seen.moments.keys()
    assert torch.equal(loaded.tensors()["out.weight"]["curvature"], told["out.weight"]["curvature"])


class Routed(nn.Module):
    """Two experts; the sign of the first input chooses."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = torch.zeros_like(x)
        for expert, here in zip(self.experts, (x[:, 0] < 0, x[:, 0] >= 0), strict=True):
            if here.any():
                y[here] = expert(x[here])
        return self.head(y)


def test_experts_that_some_batches_miss_count_with_all_predictions():
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    ours, split = found(model, [x], dtype=WIDE), found(model, x.split(2), dtype=WIDE)
    assert set(ours) == {"experts.0.weight", "experts.1.weight", "head.weight"}
    first, second = (
        collect(model, [part], list(ours), ["curvature"], likelihood=ONE)
        for part in x.split([6, 2])
    )
    assert first.unreached == {"experts.0.weight": UNREAD}
    merged = first.merge_(second)
    assert merged.unreached == {}
    for name, value in ours.items():
        torch.testing.assert_close(split[name], value)
        torch.testing.assert_close(merged.tensors()[name]["curvature"], value)


def process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    mine = x.split([6, 2])[rank]
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    collect(
        model, [mine], names, ["curvature", "hessian", "variances"], likelihood=ONE
    ).all_reduce_().save(f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_may_reach_different_experts(tmp_path):
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    whole = collect(model, [x], names, ["curvature", "hessian", "variances"], likelihood=ONE)
    for rank in range(2):
        loaded = Statistics.load(tmp_path / str(rank))
        assert loaded.unreached == {}
        for name, values in whole.tensors().items():
            for key, value in values.items():
                torch.testing.assert_close(loaded.tensors()[name][key], value)


class Argmax(nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.layer, self.whole = nn.Linear(4, 3), whole

    def forward(self, x):
        best = self.layer(x).argmax(-1, keepdim=True)
        return best if self.whole else best.float()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: m(b), r"scalar loss \(got shape \(5, 3\)\)"),
        (lambda m, b: 1.0, r"scalar loss \(got float\)"),
    ],
)
def test_losses_are_scalars(loss, message):
    asked = Likelihood(loss_fn=loss)
    with pytest.raises(ValueError, match=message):
        collect(nn.Linear(4, 3), [torch.randn(5, 4)], ["weight"], ["curvature"], likelihood=asked)


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (Argmax(False), lambda m, b: m(b).sum(), "the loss does not depend smoothly on any"),
        (Argmax(False), None, "the output does not depend smoothly on any"),
        (Argmax(True), None, r"floating-point tensor \(got torch.int64\)"),
        (nn.Flatten(), None, "the output does not depend smoothly on any"),
    ],
)
def test_what_has_no_gradient_is_refused(model, loss, message):
    names, asked = [name for name, _ in model.named_parameters()], Likelihood(1.0, 1, loss)
    with pytest.raises(NoCurvatureError, match=message):
        collect(model, [torch.randn(5, 4)], names, ["curvature"], likelihood=asked)
