"""What is saved opens with every dtype as it was, and runs on inputs as nested as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune

FUNCTION = "tests.metaprune.saving.test_mixed"


class Spectral(nn.Module):
    """A Fourier layer with a complex weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 1, 1)
        self.w = nn.Parameter(torch.randn(8, 8, 3, 3, dtype=torch.cfloat))

    def forward(self, x):
        f = torch.fft.rfft2(torch.relu(self.a(x)))
        low = torch.einsum("bixy,ioxy->boxy", f[:, :, :3, :3], self.w)
        g = torch.nn.functional.pad(low, (0, f.shape[-1] - 3, 0, f.shape[-2] - 3))
        return self.b(torch.fft.irfft2(g, s=x.shape[-2:]))


class Phases(nn.Module):
    """A complex buffer that is saved, and one that is not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2)
        self.register_buffer("kept", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("made", torch.polar(torch.ones(4), torch.arange(4.0)), False)

    def forward(self, x):
        x = torch.view_as_complex(x.view(len(x), 3, 2).contiguous())[:, :1] * self.kept * self.made
        return self.b(torch.relu(self.a(torch.cat([x.real, x.imag[:, :2]], 1))))


class Double(Spectral):
    def __init__(self):
        super().__init__()
        self.double()
        self.w = nn.Parameter(self.w.detach().to(torch.cdouble))


class Frequencies(nn.Module):
    """Weights in one dtype, tables in another: one that is saved, and one that is not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 2)
        self.norm = nn.LayerNorm(16)
        self.register_buffer("table", torch.linspace(0, 1, 6))
        self.register_buffer("made", torch.linspace(1, 2.0001, 6), persistent=False)

    def forward(self, x):
        x = (x.float() * self.table * self.made).to(self.a.weight.dtype)
        return self.b(self.norm(torch.relu(self.a(x)).to(self.norm.weight.dtype)).to(x.dtype))


def half():
    made = Frequencies()
    for part in (made.a, made.b):
        part.to(torch.bfloat16)
    return made


def half_all():
    return Frequencies().to(torch.bfloat16)


IMAGE, ROWS = torch.randn(2, 3, 8, 8), torch.randn(4, 6)
MIXED = {
    "complex weight": (Spectral, (IMAGE,)),
    "complex weight in double": (Double, (IMAGE.double(),)),
    "complex buffers": (Phases, (ROWS,)),
    "some in bfloat16": (half, (ROWS,)),
    "all in bfloat16": (half_all, (ROWS,)),
}


def _dtypes(model):
    return {name: t.dtype for name, t in (*model.named_parameters(), *model.named_buffers())}


def _result(build, inputs, kind="channels"):
    torch.manual_seed(0)
    target = {"macs": "70%"} if kind == "channels" else {"sparsity": 0.5}
    return metaprune.prune(build().eval(), inputs, target=target, pattern=kind, metanet=None)


@pytest.mark.parametrize("kind", ["channels", "unstructured"])
@pytest.mark.parametrize("way", ["program", "source", "dense"])
@pytest.mark.parametrize("name", list(MIXED))
def test_dtypes_come_back(name, way, kind, tmp_path):
    build, inputs = MIXED[name]
    result = _result(build, inputs, kind)
    source = {"source": "function", "function": f"{FUNCTION}:{build.__name__}"}
    result.save(tmp_path / "saved", source=source if way == "source" else None)
    dense = build() if way == "dense" else None
    opened = metaprune.load(tmp_path / "saved", dense=dense, trust=way == "source")
    if way != "program":
        assert type(opened) is type(result.model)
        assert _dtypes(opened) == _dtypes(result.model)
    saved, there = result.model.state_dict(), opened.state_dict()
    assert {k: there[k].dtype for k in saved} == {k: v.dtype for k, v in saved.items()}
    assert all(torch.equal(there[k], v) for k, v in saved.items())
    with torch.no_grad():
        torch.testing.assert_close(opened(*inputs), result.model(*inputs))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward(self, x, more=None):
        left, right = (x["left"], x["right"]) if isinstance(x, dict) else x
        if isinstance(right, list | tuple):
            right = sum(right)
        extra = 0 if more is None else more["shift"][0] * more["by"]
        return self.b(torch.relu(self.a(left + right + extra)))


NESTED = {
    "tuple": ((ROWS, 2 * ROWS),),
    "list": ([ROWS, 2 * ROWS],),
    "dictionary": ({"left": ROWS, "right": 2 * ROWS},),
    "deep": ({"left": ROWS, "right": [ROWS, (ROWS)]},),
    "beside": ((ROWS, ROWS), {"shift": (ROWS,), "by": 2.0}),
    "keywords": {"x": {"left": ROWS, "right": ROWS}, "more": {"shift": [ROWS], "by": 1}},
}


@pytest.mark.parametrize("way", ["program", "source"])
@pytest.mark.parametrize("name", list(NESTED))
def test_nested_inputs(name, way, tmp_path):
    inputs = NESTED[name]
    result = _result(Nested, inputs)
    source = {"source": "function", "function": f"{FUNCTION}:Nested"} if way == "source" else None
    result.save(tmp_path / "saved", source=source)
    opened = metaprune.load(tmp_path / "saved", trust=True)
    assert (type(opened) is Nested) == (way == "source")
    again = metaprune.load(tmp_path / "saved", dense=Nested())
    assert type(again) is Nested

    def run(model):
        with torch.no_grad():
            return model(**inputs) if isinstance(inputs, dict) else model(*inputs)

    for one in (opened, again):
        torch.testing.assert_close(run(one), run(result.model))


@pytest.mark.parametrize("rotary", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", ["channels", "equal-widths", "unstructured"])
def test_transformers_in_bfloat16_keep_the_dtype_of_rotary_tables(rotary, pattern, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    table = model.model.rotary_emb
    made = {name: buffer.clone() for name, buffer in table.named_buffers()}
    model.to(torch.bfloat16)
    for name, buffer in made.items():
        setattr(table, name, buffer.to(rotary))
    inputs = {"input_ids": torch.randint(0, 64, (2, 8))}
    target = {"sparsity": 0.5} if pattern == "unstructured" else {"macs": "80%"}
    result = metaprune.prune(model, inputs, target=target, pattern=pattern, metanet=None)
    result.save(tmp_path / "saved")
    opened = metaprune.load(tmp_path / "saved", trust=True)
    assert type(opened) is type(result.model)
    assert _dtypes(opened) == _dtypes(result.model)
    with torch.no_grad():
        assert torch.equal(opened(**inputs).logits, result.model(**inputs).logits)
