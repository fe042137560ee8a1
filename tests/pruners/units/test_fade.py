from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from graphs import trace
from pruners.norms import normalized_producers
from pruners.units import mask_values, unit_scores
from tests.pruners.conftest import make


def run(case, values):
    return functional_call(case.model, values, case.inputs)


def test_a_zero_mask_is_removal(case):
    """Fading units to 0 computes what the network without them computes."""
    for axis, score in unit_scores(case.net).items():
        if case.net.axes[axis].exactness != "exact":
            continue
        gone = [0, score.numel() - 1] if score.numel() > 2 else [0]
        mask = torch.ones(score.numel(), dtype=torch.float64)
        mask[gone] = 0
        masked = run(case, mask_values(case.net, {axis: mask}))
        small = case.net.remove(axis, gone).to_model()(*case.inputs)
        torch.testing.assert_close(masked, small, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(masked, case.model(*case.inputs), atol=1e-4)


def test_every_exact_axis_at_once():
    case = make("cnn")
    masks = {
        a: torch.ones(s.numel(), dtype=torch.float64) for a, s in unit_scores(case.net).items()
    }
    for mask in masks.values():
        mask[1::2] = 0
    gone = {axis: list(range(1, mask.numel(), 2)) for axis, mask in masks.items()}
    torch.testing.assert_close(
        run(case, mask_values(case.net, masks)), case.net.remove(gone).to_model()(*case.inputs)
    )


def test_a_soft_mask_fades_the_unit_in_proportion(cnn):
    """Behind convolution, batch norm and ReLU, mask m is m times the unit in every consumer."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(12, generator=generator, dtype=torch.float64)
    faded = mask_values(cnn.net, {"conv1.out": mask})
    scaled = {"conv2.weight": cnn.net.tensors["conv2.weight"].value * mask[:, None, None]}
    torch.testing.assert_close(run(cnn, faded), run(cnn, scaled))
    cnn.model.norm1.train()  # batch statistics
    torch.testing.assert_close(run(cnn, faded), run(cnn, scaled))


def test_only_linear_maps_straight_into_a_norm_leave_fading_to_it(cnn):
    assert normalized_producers(cnn.net) == {"conv1.weight", "conv2.weight"}
    assert normalized_producers(make("attention").net) == set()
    mask = torch.full((8,), 0.5, dtype=torch.float64)
    assert set(mask_values(cnn.net, {"stem.out": mask})) == {
        "stem.weight",
        "stem.bias",
        "norm2.weight",
        "norm2.bias",
    }


def test_a_shared_convolution_is_masked_itself():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(4)
            self.out = nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.norm(self.conv(x)) + self.conv(x))

    net = trace(Shared().eval(), (torch.randn(1, 4, 3, 3),))
    assert normalized_producers(net) == set()


def test_ones_change_nothing_and_given_values_pass_through(case):
    ones = {a: torch.ones(s.numel()) for a, s in unit_scores(case.net).items()}
    for name, value in mask_values(case.net, ones).items():
        assert torch.equal(value, case.net.tensors[name].value)
    name = next(n for n, t in case.net.tensors.items() if t.role == "weight")
    other = torch.full_like(case.net.tensors[name].value, 2.0)
    assert mask_values(case.net, {}, {name: other}) == {name: other}
    assert (mask_values(case.net, ones, {name: other})[name] == 2).all()


@pytest.mark.parametrize("level", [1.0, 1e-3])
def test_the_gradient_of_a_mask_is_that_of_fading_the_unit(cnn, level):
    """Also of an almost dead unit: what it would add, not an accident of running statistics."""
    mask = torch.full((12,), level, dtype=torch.float64, requires_grad=True)
    column = torch.full((12,), level, dtype=torch.float64, requires_grad=True)
    scaled = {"conv2.weight": cnn.net.tensors["conv2.weight"].value * column[:, None, None]}
    run(cnn, mask_values(cnn.net, {"conv1.out": mask})).square().sum().backward()
    run(cnn, scaled).square().sum().backward()
    torch.testing.assert_close(mask.grad, column.grad)
    assert mask.grad.count_nonzero() >= 6


def test_gradients_reach_given_values(cnn):
    weight = cnn.net.tensors["stem.weight"].value.clone().requires_grad_()
    mask = torch.full((8,), 0.5, dtype=torch.float64)
    run(cnn, mask_values(cnn.net, {"stem.out": mask}, {"stem.weight": weight})).sum().backward()
    assert weight.grad.count_nonzero() > 0


def test_dtypes_stay():
    case = make("cnn")
    half = case.net.replace({n: t.value.bfloat16() for n, t in case.net.tensors.items()})
    for value in mask_values(half, {"conv1.out": torch.full((12,), 0.5)}).values():
        assert value.dtype == torch.bfloat16


def test_bad_masks_are_refused(cnn):
    with pytest.raises(ValueError, match="does not have"):
        mask_values(cnn.net, {"nowhere": torch.ones(2)})
    with pytest.raises(ValueError, match=r"expected shape \(12,\) \(got \(3,\)\)"):
        mask_values(cnn.net, {"conv1.out": torch.ones(3)})
