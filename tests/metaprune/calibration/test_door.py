"""Whatever a user has becomes example inputs and batches, and one sentence says how it was read."""

from __future__ import annotations

import datasets
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import metaprune
from metaprune.calibration import given
from metaprune.calibration.collecting import EXAMPLES
from tests.metaprune.networks import mlp

X, Y = torch.randn(600, 8), torch.arange(600) % 3
TABLE = datasets.Dataset.from_dict({"input": X.tolist(), "label": Y.tolist()})


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


SOURCES = {
    "loader": DataLoader(TensorDataset(X, Y), batch_size=64, shuffle=True),
    "data set": TensorDataset(X, Y),
    "stream": Stream(),
    "datasets set": TABLE,
    "datasets stream": TABLE.to_iterable_dataset(),
    "tensors": (X, Y),
    "batches": list(zip(X.split(64), Y.split(64), strict=True)),
    "one batch by name": {"input": X, "label": Y},
    "numpy": [(X.numpy(), Y.numpy())],
}


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_labels_and_loss_are_inferred(source):
    model = mlp()
    found = given(model, SOURCES[source])
    read = found.calibration
    assert read is not None
    (note,) = found.notes
    assert "(cross-entropy)" in note
    assert "inputs float32[" in note
    batch = read.batches[0]
    expected = nn.functional.cross_entropy(model(X), Y)
    assert read.loss(model, batch).item() == pytest.approx(expected.item(), abs=0.3)
    inputs = found.example_inputs
    example = inputs[0] if isinstance(inputs, tuple) else inputs["input"]
    assert example.shape == (2, 8)
    pairs = {(tuple(x.tolist()), int(y)) for x, y in zip(X, Y, strict=True)}
    for one in read.batches:
        rows = one.inputs[0] if isinstance(one.inputs, tuple) else one.inputs["input"]
        assert {(tuple(x.tolist()), int(y)) for x, y in zip(rows, one.labels, strict=True)} <= pairs


def test_the_same_seed_takes_the_same_examples_of_a_loader_that_shuffles():
    def first(seed):
        return given(mlp(), SOURCES["loader"], seed=seed).calibration.digest

    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = first(0)
    torch.random.set_rng_state(state)
    torch.rand(3)
    assert one == first(0) != first(1)


def test_a_generator_is_read_once_and_no_further_than_needed():
    left = iter(list(zip(X.split(64), Y.split(64), strict=True)))
    found = metaprune.prune(
        mlp(), left, target={"macs": "60%"}, schedule={"iterative": {"steps": 2}}
    )
    assert f"the first {EXAMPLES} examples" in found.report["notes"][0]
    assert len(list(left)) == len(X.split(64)) - EXAMPLES // 64


def test_arguments_stay_arguments():
    class Two(nn.Module):
        def forward(self, x, mask=None):
            return x

    for inputs in ((X,), (X, Y), {"x": X}, {"x": X, "mask": Y}):
        found = given(Two(), inputs)
        assert len(found.example_inputs) == len(inputs)
        assert type(found.example_inputs) is type(inputs)
        assert found.calibration is None
        assert found.notes == ()


@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        (torch.rand(8, 3), "squared error"),
        ((torch.rand(8, 3) > 0.5).float(), "binary cross-entropy"),
        (torch.arange(8) % 3, "cross-entropy"),
        (torch.arange(8), "no loss is known for outputs (8, 3) and labels (8,) of int64"),
    ],
)
def test_the_loss_fits_outputs_and_labels(labels, loss):
    found = given(mlp(), [(X[:8], labels)])
    assert f"({loss})" in found.notes[0]
    assert (found.calibration.loss is None) == loss.startswith("no loss")


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x, mask=None):
        return self.layer(x if mask is None else x * mask)


REFUSED = {
    "no examples": (DataLoader(TensorDataset(X[:0], Y[:0])), "at least one batch"),
    "wrong shape": ([(X[:, :5], Y)], r"does not run on batch 1 of the calibration: .*600x5"),
    "wrong dtype": (TensorDataset(X.double(), Y), "pass dtype=torch.float32 to cast"),
    "NaN": ([(X, Y), (X * torch.nan, Y)], r"batch 2 of the calibration is not finite: its input"),
    "text": ([("words", 1)], "must hold tensors"),
    "all splits": (datasets.DatasetDict(train=TABLE), r"choose a split of the data.*'train'"),
    "other names": ([{"a": X, "b": Y}], "none of the fields a, b of a batch is an argument"),
    "ragged": ([torch.randn(n) for n in (2, 3)], "does not run on batch"),
    "uneven": ((X, Y[:5]), "as many rows as one another"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(what):
    source, says = REFUSED[what]
    with pytest.raises(ValueError, match=says):
        metaprune.prune(mlp(), source, target={"macs": "50%"})


def test_a_third_tensor_that_may_be_an_argument_or_labels_is_not_guessed():
    with pytest.raises(ValueError, match="may take mask"):
        given(Masked(), [(X, torch.rand(600, 8))])
    read = given(Masked(), [(X, Y)]).calibration
    assert torch.equal(read.batches[0].labels, Y)


def test_weights_that_are_not_finite_are_named():
    model = mlp()
    with torch.no_grad():
        next(model.parameters())[0, 0] = torch.inf
    name = next(iter(dict(model.named_parameters())))
    with pytest.raises(ValueError, match=f'not finite: "{name}" holds NaN'):
        metaprune.prune(model, (X[:2],), target={"macs": "50%"})


def test_a_dtype_is_of_the_work_and_of_the_result():
    model = mlp()
    found = metaprune.prune(
        model, (X, Y), target={"macs": "50%"}, dtype=torch.float64, device="cpu"
    )
    assert {p.dtype for p in found.model.parameters()} == {torch.float64}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(ValueError, match="no pruning in place on another device"):
        metaprune.prune(model, (X, Y), target={"macs": "50%"}, device="cpu", inplace=True)
    with pytest.raises(ValueError, match="dtype takes a floating-point dtype"):
        metaprune.prune(model, (X, Y), target={"macs": "50%"}, dtype="half")


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        return self.head(self.embed(input_ids)) * attention_mask[..., None]


def test_padding_is_cut_off():
    ids, mask = torch.ones(4, 6, dtype=torch.int64), torch.ones(4, 6, dtype=torch.int64)
    mask[:2, 4:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    found = given(Tagger(), [batch]).calibration
    assert [tuple(one["input_ids"].shape) for one in found.model_inputs] == [(2, 4), (2, 6)]
    with pytest.raises(ValueError, match="every token of the calibration is padding"):
        given(Tagger(), [batch | {"attention_mask": torch.zeros_like(mask)}])
