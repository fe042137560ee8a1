from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call

from graphs.axes.dims import atoms, unit_index
from pruners.statistics import unit_evidence
from pruners.statistics.evidence import microbatches
from pruners.units import mask_values
from tests.pruners.conftest import MAKERS, make


def loss_fn(model, batch):
    return model(*batch).square().mean()


def inputs_of(name, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MAKERS[name][1]()


# The norm behind these convolutions fades their units, so they carry no evidence themselves.
BEFORE_A_NORM = ("conv1.weight", "conv2.weight")


def slow_twin(case, batches):
    """Unit by unit, entry by entry, from `loss.backward()`."""
    terms = []
    for batch in batches:
        model = copy.deepcopy(case.model)
        model.requires_grad_(True).zero_grad()
        loss_fn(model, batch).backward()
        terms.append(
            {n: (p * p.grad).detach() for n, p in model.named_parameters() if p.grad is not None}
        )
    evidence = {}
    for axis in case.net.axes.values():
        rows = []
        for unit in range(axis.size):
            signed = []
            for products in terms:
                total = 0.0
                for name, product in products.items():
                    tensor = case.net.tensors[name]
                    if name in BEFORE_A_NORM:
                        continue
                    for i, dim in enumerate(tensor.dims):
                        if tensor.produces[i] and axis.name in atoms(dim):
                            mine = unit_index(dim, axis.name, case.net.axes) == unit
                            total += product.movedim(i, 0)[mine].sum().item()
                signed.append(total)
            squares, sizes = [t * t for t in signed], [abs(t) for t in signed]
            rows.append([abs(sum(signed)), sum(squares), sum(sizes)])
        evidence[axis.name] = torch.tensor(rows, dtype=torch.float64)
    return evidence


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_equals_the_slow_twin(name):
    case = make(name)
    batches = [inputs_of(name, seed) for seed in range(2)]
    found = unit_evidence(case.net, case.model, batches, loss_fn)
    expected = slow_twin(case, batches)
    assert set(found) == set(case.net.axes)
    for axis, evidence in found.items():
        torch.testing.assert_close(evidence.double(), expected[axis], rtol=1e-8, atol=1e-10)


def test_the_model_is_left_untouched():
    case = make("cnn")
    model = case.model.train()
    model.norm1.eval()
    model.fc.weight.requires_grad_(False)
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    unit_evidence(case.net, model, [case.inputs], loss_fn)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [module.training for module in model.modules()] == flags
    assert not model.fc.weight.requires_grad
    assert (model.stem.weight.grad == 1).all()
    assert all(p.grad is None for n, p in model.named_parameters() if n != "stem.weight")


def test_training_mode_and_frozen_parameters_do_not_change_the_evidence():
    case = make("cnn")
    expected = unit_evidence(case.net, case.model.eval(), [case.inputs], loss_fn)
    case.model.train().requires_grad_(False)
    with torch.no_grad():
        found = unit_evidence(case.net, case.model, [case.inputs], loss_fn)
    for axis, evidence in found.items():
        assert torch.equal(evidence, expected[axis])


def test_it_moves_with_the_units():
    case = make("attention")
    evidence = unit_evidence(case.net, case.model, [case.inputs], loss_fn)
    for axis, rows in evidence.items():
        if case.net.axes[axis].frozen is not None:
            continue
        order = torch.randperm(rows.shape[0], generator=torch.Generator().manual_seed(0))
        net = case.net.permute(axis, order)
        found = unit_evidence(net, net.to_model(), [case.inputs], loss_fn)
        torch.testing.assert_close(found[axis], rows[order])


def test_the_first_column_predicts_removal_to_first_order():
    """Scaling a unit's producers by 1 − ε changes the loss by −ε Σ w·g."""
    case = make("mlp")
    evidence = unit_evidence(case.net, case.model, [case.inputs], loss_fn)["0.out"]
    step = 1e-6
    base = loss_fn(case.model, case.inputs)
    for unit in range(10):
        model = copy.deepcopy(case.model)
        with torch.no_grad():
            model[0].weight[unit] *= 1 - step
            model[0].bias[unit] *= 1 - step
            change = (loss_fn(model, case.inputs) - base).abs() / step
        torch.testing.assert_close(evidence[unit, 0], change.detach(), rtol=1e-3, atol=1e-6)


def test_behind_a_batch_norm_it_is_the_effect_of_fading_the_unit():
    """Σ w·g is the derivative of the loss along the unit's mask, whatever produces the unit."""
    case = make("cnn")
    evidence = unit_evidence(case.net, case.model, [case.inputs], loss_fn)
    for axis in ("conv1.out", "stem.out"):
        mask = torch.ones(case.net.axes[axis].size, dtype=torch.float64, requires_grad=True)
        values = mask_values(case.net, {axis: mask})
        loss = functional_call(case.model, values, case.inputs).square().mean()
        (slope,) = torch.autograd.grad(loss, mask)
        torch.testing.assert_close(evidence[axis][:, 0], slope.abs())


def test_microbatches_cover_every_example_once():
    batch = {"x": torch.arange(10), "y": torch.arange(10) * 2, "name": "a"}
    parts = list(microbatches([batch], size=4))
    assert [len(part["x"]) for part in parts] == [4, 4, 2]
    assert torch.cat([part["y"] for part in parts]).tolist() == batch["y"].tolist()
    assert all(part["name"] == "a" for part in parts)
    ragged = (torch.zeros(3), torch.zeros(2))
    assert list(microbatches([ragged], size=1)) == [ragged]


def test_buffers_that_a_forward_writes_are_restored():
    case = make("mlp")
    model = case.model
    model.register_buffer("calls", torch.zeros(()))

    def counting(model, batch):
        model.calls += 1
        return loss_fn(model, batch)

    unit_evidence(case.net, model, [case.inputs], counting)
    assert model.calls == 0


@pytest.mark.parametrize(
    ("batches", "loss", "words"),
    [
        (0, loss_fn, "at least one batch"),
        (1, lambda m, b: m(*b), r"scalar tensor \(got \(4, 4\)"),
        (1, lambda m, b: 3.0, r"scalar tensor \(got float"),
        (1, lambda m, b: m(*b).sum().detach(), "no gradient"),
        (1, lambda m, b: m(*b).sum() * float("nan"), "not finite"),
    ],
)
def test_bad_losses_are_refused(batches, loss, words):
    case = make("mlp")
    with pytest.raises(ValueError, match=words):
        unit_evidence(case.net, case.model, [case.inputs] * batches, loss)


def test_a_foreign_model_is_refused():
    with pytest.raises(ValueError, match="trace this same model"):
        unit_evidence(make("mlp").net, make("cnn").model, [], loss_fn)
