"""Batches that a model does not take are refused before any work, with what a batch has to be."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

import metaprune
from tests.metaprune.networks import mlp

X, Y = torch.randn(24, 8), torch.arange(24) % 3
PARTS = list(zip(X.split(8), Y.split(8), strict=True))
CALLS = {
    "plan": lambda given: metaprune.plan(
        mlp(), (X[:2],), target={"macs": "50%"}, calibration=given
    ),
    "prune": lambda given: metaprune.prune(
        mlp(), (X[:2],), target={"macs": "50%"}, calibration=given
    ),
    "masks": lambda given: metaprune.prune(mlp(), (X[:2],), pattern="2:4", calibration=given),
    "apply": lambda given: metaprune.apply(
        mlp(),
        (X[:2],),
        metaprune.plan(mlp(), (X[:2],), target={"macs": "50%"}),
        calibration=given,
    ),
    "inspect": lambda given: metaprune.inspect(mlp(), (X[:2],), calibration=given),
}
LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8)
MISFITS = {
    "of another width": [(torch.randn(4, 9),)],
    "of another dtype": [(Y,)],
}
LABELLED = {
    "with labels": PARTS,
    "of a loader": LOADER,
    "dicts with labels": [{"input": x, "labels": y} for x, y in PARTS],
    "dicts of other names": [{"picture": x, "y": y} for x, y in PARTS],
    "later ones with labels": [PARTS[0][:1], *PARTS[1:]],
}


@pytest.mark.parametrize("given", MISFITS)
@pytest.mark.parametrize("call", CALLS)
def test_what_the_forward_does_not_take_is_refused_with_the_remedy(call, given):
    with pytest.raises(
        ValueError, match=r"does not run on batch [12] of the calibration: "
    ) as caught:
        CALLS[call](MISFITS[given])
    said = str(caught.value)
    assert "like the example inputs (1 argument), and labels after it" in said
    assert "metaprune.Calibration(batches, inputs=lambda batch: (batch[0],))" in said


def test_words_are_refused():
    for call in CALLS.values():
        with pytest.raises(ValueError, match=r"batch 1 of the calibration: .* hold tensors"):
            call(["a", "b"])


@pytest.mark.parametrize("given", LABELLED)
def test_labels_are_told_from_inputs(given):
    found = CALLS["plan"](LABELLED[given])
    assert found.kept == CALLS["plan"]([x for x, _ in PARTS]).kept


@pytest.mark.parametrize(
    "given",
    [
        [x for x, _ in PARTS],
        [[x] for x, _ in PARTS],
        metaprune.Calibration(PARTS, lambda b: (b[0],)),
    ],
    ids=["tensors", "lists", "as it says"],
)
def test_what_it_takes_is_taken_in_any_form(given):
    found = CALLS["plan"](given)
    assert found.kept == CALLS["plan"]([(x,) for x, _ in PARTS]).kept


def test_keywords_that_a_forward_takes_are_no_mistake():
    """Labels of transformers are; of others, the keywords are named."""
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    ids = torch.arange(24).view(4, 6)
    model = transformers.LlamaForCausalLM(config).eval()
    asked = {"pattern": "2:4", "recovery": []}
    metaprune.prune(
        model, {"input_ids": ids[:2]}, calibration=[{"input_ids": ids, "labels": ids}], **asked
    )
    with pytest.raises(ValueError, match=r"none of the fields input_idx of a batch is an argument"):
        metaprune.prune(model, {"input_ids": ids[:2]}, calibration=[{"input_idx": ids}], **asked)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    metaprune.Calibration(X.split(8)).fitting(model, (X[:2],))
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
