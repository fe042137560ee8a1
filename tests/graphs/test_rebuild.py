"""Rebuilt modules: own class where it fits, else the program; trainable, tied, any batch size."""

from __future__ import annotations

import pytest
import torch

from graphs import trace
from graphs.cost import count_macs, count_params
from graphs.program import ExportedModule
from tests.graphs.families import FAMILIES, build, run


def halved(net, but=()):
    """Every free axis cut to half of its units, but for some kinds."""
    free = [a for a in net.axes.values() if not a.frozen and a.kind not in but]
    return net.remove({a.name: range(a.size // 2) for a in free})


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_pruned_model_runs_and_trains(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    small = halved(net)
    pruned = small.to_model()
    out = run(pruned, inputs)
    assert out.shape == run(model, inputs).shape
    assert torch.isfinite(out).all()
    assert sum(p.numel() for p in pruned.parameters()) == count_params(small)
    assert count_params(small) == count_params(net, {a.name: a.size for a in small.axes.values()})
    assert count_macs(small) == count_macs(net, {a.name: a.size for a in small.axes.values()})
    assert count_macs(small) < count_macs(net)
    pruned.train()
    result = pruned(**inputs) if isinstance(inputs, dict) else pruned(*inputs)
    (result.logits if hasattr(result, "logits") else result).square().mean().backward()
    grads = [p.grad for p in pruned.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_constants_baked_into_a_closure_are_rewritten_in_the_program():
    model, inputs = build("resnet_option_a", torch.float64)
    pruned = halved(trace(model, inputs)).to_model()
    assert isinstance(pruned, ExportedModule)
    assert run(pruned, (torch.randn(5, 3, 8, 8, dtype=torch.float64),)).shape == (5, 5)
    assert not pruned.training
    before = pruned.get_buffer("1.running_mean").clone()
    run(pruned, inputs)
    assert torch.equal(before, pruned.get_buffer("1.running_mean"))
    pruned.train()
    run(pruned, inputs)
    assert not torch.equal(before, pruned.get_buffer("1.running_mean"))
    pruned.eval()
    assert torch.equal(run(pruned, inputs), run(pruned, inputs))


@pytest.mark.parametrize("name", ["resnet_projection", "vit", "llama", "group_norm"])
def test_the_class_stays_where_its_forward_fits(name):
    # Llama reads one head size for queries, keys and values; without its values' it stays a Llama.
    model, inputs = build(name)
    but = ("head feature",) if name == "llama" else ()
    assert type(halved(trace(model, inputs), but).to_model()) is type(model)


def test_ties_stay_tied():
    model, inputs = build("llama")
    net = trace(model, inputs)
    for pruned in (halved(net).to_model(), halved(net, ("head feature",)).to_model()):
        assert pruned.lm_head.weight is pruned.model.embed_tokens.weight
        assert list(pruned.state_dict()) == list(model.state_dict())


def test_macs_agree_with_torch():
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("plain_cnn_flatten", "resnet_option_a", "inverted_residual_squeeze_excitation"):
        model, inputs = build(name)
        counter = FlopCounterMode(display=False)
        with counter:
            run(model, inputs)
        batch = inputs[0].shape[0]
        assert count_macs(trace(model, inputs)) == counter.get_total_flops() // 2 // batch
