"""Exported programs compute what the model computes; where they do not, nothing is written."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import nn

import metaprune
from metaprune.saving import export
from metaprune.saving.archive import load_program
from tests.metaprune.networks import cnn, images
from tests.oracles.networks.families import build

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="the extra `onnx` is not installed",
)


def pruned(name="cnn"):
    model, inputs = (cnn(), images()) if name == "cnn" else build(name)
    return metaprune.prune(model, inputs, target={"macs": "60%"}, metanet=None)


def run(model, *inputs):
    with torch.no_grad():
        return model(*inputs)


@pytest.mark.parametrize("name", ["cnn", "resnet_option_a"])
def test_a_program_runs_without_its_class(tmp_path, name):
    result = pruned(name)
    path = result.export(tmp_path / "model.pt2")
    program = load_program(path)
    x = torch.randn(5, *result.example_inputs[0].shape[1:])
    torch.testing.assert_close(run(program, x), run(result.model, x))
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]


@needs_onnx
@pytest.mark.parametrize("name", ["cnn", "resnet_option_a", "fused_attention"])
def test_onnx_agrees_on_any_number_of_examples(tmp_path, name):
    import onnxruntime

    result = pruned(name)
    session = onnxruntime.InferenceSession(str(result.export(tmp_path / "model.onnx")))
    (entry,) = session.get_inputs()
    for count in (1, 5):
        x = torch.randn(count, *result.example_inputs[0].shape[1:])
        (found,) = session.run(None, {entry.name: x.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), run(result.model, x), rtol=1e-3, atol=1e-4
        )
    assert not result.model.training
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


class Large(nn.Module):
    """Another function of large images, which no program of small ones has."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        y = self.conv(x).relu()
        return self.head((y * 2 if x.shape[-1] > 10 else y).mean((2, 3)))


@pytest.mark.parametrize("kind", ["pt2", pytest.param("onnx", marks=needs_onnx)])
def test_sizes_that_a_program_is_wrong_for_are_refused(tmp_path, kind):
    model, inputs = Large(), torch.randn(2, 3, 8, 8)
    path = export.export_model(model, (inputs,), tmp_path / f"model.{kind}")
    if kind == "pt2":
        program = load_program(path)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path))
        (entry,) = session.get_inputs()
        program = lambda x: torch.from_numpy(session.run(None, {entry.name: x.numpy()})[0])  # noqa: E731
    for count in (1, 5):
        x = torch.randn(count, 3, 8, 8)
        torch.testing.assert_close(run(program, x), run(model, x), rtol=1e-3, atol=1e-4)
    with pytest.raises(Exception, match=r"Guard failed|invalid dimensions"):
        run(program, torch.randn(2, 3, 16, 16))


@needs_onnx
@pytest.mark.slow
def test_onnx_of_a_language_model_takes_any_number_of_tokens(tmp_path):
    import onnxruntime

    model, inputs = build("llama")
    result = metaprune.prune(model, inputs, target={"macs": "60%"}, metanet=None)
    session = onnxruntime.InferenceSession(str(result.export(tmp_path / "model.onnx")))
    ids = torch.randint(0, 30, (1, 11))
    (found,) = session.run(None, {session.get_inputs()[0].name: ids.numpy()})
    expected = run(result.model, ids).logits
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)


@needs_onnx
def test_large_weights_lie_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MOST_INSIDE", 0)
    pruned().export(tmp_path / "model.onnx")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_a_program_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    result = pruned()
    wrong = cnn(seed=1)
    monkeypatch.setattr(export, "load_program", lambda path: wrong)
    with pytest.raises(ValueError, match="does not compute"):
        result.export(tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    """A forward that looks at values, which no program can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"torch\.export cannot export the model"):
        export.export_model(Branching(), (torch.ones(2, 3),), tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def test_formats_are_checked_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown format 'tflite': expected one of onnx, pt2"):
        export.export_model(cnn(), images(), tmp_path / "model.tflite")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'metaprune\[onnx\]'"):
        export.export_model(cnn(), images(), tmp_path / "model.onnx")


@needs_onnx
def test_without_onnxruntime_it_says_that_nothing_was_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(
        export,
        "find_spec",
        lambda name: None if name == "onnxruntime" else importlib.util.find_spec(name),
    )
    with pytest.warns(UserWarning, match="was not run"):
        pruned().export(tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").stat().st_size > 0
