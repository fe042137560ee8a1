"""Masks on what is no plain weight: buffers, complex numbers, normed and masked weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.utils.prune
from torch import nn
from torch.nn import functional as F

import metaprune
from graphs import trace


class Features(nn.Module):
    """Random Fourier features."""

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.randn(8, 16))
        self.a, self.b = nn.Linear(32, 24), nn.Linear(24, 3)

    def forward(self, x):
        p = x @ self.k
        return self.b(torch.relu(self.a(torch.cat([p.sin(), p.cos()], -1))))


class Constant(nn.Module):
    """A fixed matrix between two layers, which is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.linalg.qr(torch.randn(16, 16))[0], persistent=False)
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(torch.relu(F.linear(self.a(x), self.k)))


class Blur(nn.Module):
    """Pooling by a fixed filter."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 3, 1)
        self.register_buffer("k", torch.ones(8, 1, 3, 3) / 9)

    def forward(self, x):
        x = torch.relu(self.a(x.view(-1, 1, 2, 4)))
        return self.b(F.conv2d(x, self.k, padding=1, groups=8)).mean((2, 3))


class Complex(nn.Module):
    """A complex weight in the middle, as of Fourier layers."""

    def __init__(self, dtype=torch.cfloat):
        super().__init__()
        self.w = nn.Parameter(torch.randn(9, 9, dtype=dtype) / 3)
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        f = torch.fft.rfft(torch.relu(self.a(x)))
        return self.b(torch.fft.irfft((f @ self.w.to(f.dtype)), n=16))


def layers(first):
    return nn.Sequential(first, nn.ReLU(), nn.Linear(16, 3))


def pruned_by_torch(times=1):
    model = layers(nn.Linear(8, 16))
    for _ in range(times):
        nn.utils.prune.l1_unstructured(model[0], "weight", 0.3)
    return model


def convolution(norm):
    made = nn.Sequential(norm(nn.Conv1d(1, 16, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *made)


P = nn.utils.parametrizations
BUFFERS = {"features": Features, "constant": Constant, "blur": Blur}
COMPLEX = {"complex64": Complex, "complex128": lambda: Complex(torch.cdouble)}
NORMED = {
    "weight norm": lambda: layers(P.weight_norm(nn.Linear(8, 16))),
    "weight norm of old": lambda: layers(torch.nn.utils.weight_norm(nn.Linear(8, 16))),
    "weight norm of inputs": lambda: layers(P.weight_norm(nn.Linear(8, 16), dim=1)),
    "spectral norm": lambda: layers(P.spectral_norm(nn.Linear(8, 16))),
    "spectral norm of old": lambda: layers(torch.nn.utils.spectral_norm(nn.Linear(8, 16))),
    "convolution, weight norm": lambda: convolution(P.weight_norm),
    "convolution, spectral norm": lambda: convolution(P.spectral_norm),
    "masked by torch": pruned_by_torch,
    "masked by torch twice": lambda: pruned_by_torch(2),
}
ROWS = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")


def _result(build, measured, **settings):
    torch.manual_seed(0)
    model = build().eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calibration = [(ROWS,)] if measured else None
    settings = {"pattern": "unstructured", "target": {"sparsity": 0.5}, **settings}
    found = metaprune.prune(model, (ROWS[:4],), metanet=None, calibration=calibration, **settings)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    return model, found


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("name", [*BUFFERS, *COMPLEX])
def test_buffers_and_complex_weights_stay_dense_with_a_note(name, measured):
    model, result = _result((BUFFERS | COMPLEX)[name], measured)
    assert set(result.masks) == {"a.weight", "b.weight"}
    assert result.report["achieved"]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert any("left dense: 1" in note for note in result.report["notes"])
    left = "k" if name in BUFFERS else "w"
    assert torch.equal(getattr(result.model, left), getattr(model, left))


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("name", list(NORMED))
def test_normed_weights_are_sparse_where_they_are_used(name, measured, pattern):
    target = {} if pattern == "2:4" else {"target": {"sparsity": 0.5}}
    if pattern == "2:4" and "convolution" in name:
        return  # its three taps are no groups of four
    model, result = _result(NORMED[name], measured, pattern=pattern, **(target or {"target": None}))
    assert len(result.masks) == 2
    result.model.eval()(ROWS)
    first = result.model[1] if "convolution" in name else result.model[0]
    assert result.model(ROWS).isfinite().all()
    mask = next(mask for mask in result.masks.values() if mask.shape[0] == 16)
    assert not first.weight.detach()[~mask].any()
    assert 0.4 < float((first.weight == 0).float().mean()) < 0.8
    names = {name for name, _ in model.named_parameters()}
    assert set(result.masks) <= names


@pytest.mark.parametrize("name", ["features", "blur", *NORMED])  # the others leave no choice
def test_channels_and_training(name):
    _, result = _result(
        (BUFFERS | NORMED)[name], True, pattern="channels", target={"params": "80%"}
    )
    made = result.model.train()
    made(ROWS).abs().sum().backward()
    assert all(p.grad is not None for p in made.parameters() if p.requires_grad)
    assert made.eval()(ROWS).shape == (32, 3)


@pytest.mark.parametrize("name", [*BUFFERS, *COMPLEX, *NORMED])
def test_they_come_back_as_they_were(name):
    torch.manual_seed(0)
    model = (BUFFERS | COMPLEX | NORMED)[name]().eval()
    metaprune.testing.assert_round_trip(model, (ROWS[:4],))
    assert trace(model, (ROWS[:4],)).tensors


@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("name", [name for name in NORMED if "norm" in name])
def test_no_row_of_a_normed_weight_loses_its_norm(name, sparsity):
    for measured in (False, True):
        _, result = _result(NORMED[name], measured, target={"sparsity": sparsity})
        with torch.no_grad():
            assert result.model.eval()(ROWS).isfinite().all()
        for parameter, mask in result.masks.items():
            if parameter.endswith(("original1", "weight_v")):
                dim = 1 if name == "weight norm of inputs" else 0
                assert mask.movedim(dim, 0).flatten(1).any(1).all()
        total = sum(mask.numel() for mask in result.masks.values())
        kept = sum(int(mask.sum()) for mask in result.masks.values())
        assert kept <= round(total * (1 - sparsity)) + 16  # one of every row, where that is more
