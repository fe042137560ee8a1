"""Zeros survive loops, trainers and adapters of others; saved and opened it is the same network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import peft
import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

import metaprune
from tests.metaprune.streaming.models import FAMILIES, tokens

X = tokens(8, 10)
TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}


def sparse(family: str = "llama") -> nn.Module:
    """A small language model whose matrices inside the blocks are 2:4."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    inside = {"llama": ".layers.", "gpt2": ".h."}[family]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if inside in name and weight.ndim == 2:
                groups = weight.normal_().reshape(-1, 4)
                groups.scatter_(1, groups.abs().topk(2, 1, largest=False).indices, 0)
    return model


def zeros(model: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p == 0 for n, p in model.named_parameters() if p.ndim == 2 and bool((p == 0).any())}


def kept(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(bool((model.get_parameter(n)[z] == 0).all()) for n, z in before.items())


def loop(model: nn.Module, optimizer: Any, steps: int = 3) -> None:
    for _ in range(steps):
        model(input_ids=X, labels=X).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def bare(model: nn.Module) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    metaprune.keep_masks(model, optimizer)
    loop(model, optimizer)


def accelerated(model: nn.Module) -> None:
    prepared, optimizer = accelerate.Accelerator(cpu=True).prepare(
        model, torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    )
    metaprune.keep_masks(model, optimizer)
    loop(prepared, optimizer)


def trained(model: nn.Module, folder: Path, **how: Any) -> None:
    arguments = transformers.TrainingArguments(
        str(folder / "trainer"), max_steps=3, per_device_train_batch_size=2, learning_rate=1e-2,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    rows = [{"input_ids": x, "labels": x} for x in X]
    transformers.Trainer(model, arguments, train_dataset=rows, **how).train()


WAYS: dict[str, Callable[[nn.Module, Path], None]] = {
    "bare": lambda model, _: bare(model),
    "accelerate": lambda model, _: accelerated(model),
    "trainer": lambda model, folder: trained(model, folder, callbacks=[metaprune.KeepMasks()]),
}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("way", WAYS)
def test_zeros_stay_and_the_rest_moves(way: str, family: str, tmp_path: Path) -> None:
    model = sparse(family)
    before, values = zeros(model), {n: p.detach().clone() for n, p in model.named_parameters()}
    WAYS[way](model, tmp_path)
    assert before
    assert kept(model, before)
    assert all(bool((model.get_parameter(n)[~z] != values[n][~z]).any()) for n, z in before.items())
    model.eval().save_pretrained(tmp_path / "saved")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(opened(X).logits, model(X).logits)
    assert kept(opened, before)


def test_they_go_where_nothing_keeps_them(tmp_path: Path) -> None:
    for way in (
        lambda m: loop(m, torch.optim.AdamW(m.parameters(), lr=1e-2)),
        lambda m: trained(m, tmp_path),
    ):
        model = sparse()
        before = zeros(model)
        way(model)
        assert not kept(model, before)


@pytest.mark.parametrize("family", TARGETS)
def test_adapters_merge_into_the_masks(family: str, tmp_path: Path) -> None:
    model = sparse(family)
    before, dense = zeros(model), model.eval()(X).logits
    config = peft.LoraConfig(r=2, target_modules=TARGETS[family], lora_dropout=0.0)
    adapted = peft.get_peft_model(model, metaprune.masked_lora(config))
    assert torch.equal(adapted(X).logits, dense)
    loop(adapted, torch.optim.AdamW(adapted.parameters(), lr=1e-1), steps=5)
    learned = adapted.eval()(X).logits
    assert not torch.allclose(learned, dense, atol=1e-2)
    with adapted.disable_adapter():
        assert torch.equal(adapted(X).logits, model.eval()(X).logits)
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(merged(X).logits, learned, rtol=1e-4, atol=1e-4)
    assert kept(merged, before)
    merged.save_pretrained(tmp_path / "saved")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(opened(X).logits, merged(X).logits)


def test_adapters_are_saved_and_put_on_again(tmp_path: Path) -> None:
    config = metaprune.masked_lora(peft.LoraConfig(r=2, target_modules=TARGETS["llama"]))
    adapted = peft.get_peft_model(sparse(), config)
    loop(adapted, torch.optim.AdamW(adapted.parameters(), lr=1e-1))
    adapted.eval().save_pretrained(tmp_path / "adapter")
    read = metaprune.masked_lora(peft.LoraConfig.from_pretrained(tmp_path / "adapter"))
    again = peft.PeftModel.from_pretrained(sparse(), tmp_path / "adapter", config=read).eval()
    assert torch.equal(again(X).logits, adapted(X).logits)


def test_plain_adapters_lose_them() -> None:
    model = sparse()
    before = zeros(model)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    loop(adapted, torch.optim.AdamW(adapted.parameters(), lr=1e-1))
    assert not kept(adapted.merge_and_unload(), before)


def test_a_handle_ends_it_and_masks_may_be_given() -> None:
    model = sparse()
    name = next(iter(zeros(model)))
    mask = torch.ones_like(model.get_parameter(name), dtype=torch.bool)
    mask[0] = False
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    handle = metaprune.keep_masks(model, optimizer, {name: mask})
    assert bool((model.get_parameter(name)[0] == 0).all())
    loop(model, optimizer, 1)
    assert bool((model.get_parameter(name)[0] == 0).all())
    handle.remove()
    loop(model, optimizer, 1)
    assert not bool((model.get_parameter(name)[0] == 0).all())


def test_what_cannot_be_kept_is_refused() -> None:
    model, dense = sparse(), nn.Linear(4, 4)
    with pytest.raises(ValueError, match="no weight of the Linear is zero"):
        metaprune.keep_masks(dense, torch.optim.SGD(dense.parameters(), lr=1.0))
    with pytest.raises(ValueError, match="the optimizer does not move"):
        metaprune.keep_masks(model, torch.optim.SGD(dense.parameters(), lr=1.0))
    with pytest.raises(TypeError, match=r"result.keep_masks\(\)"):
        metaprune.keep_masks(model, object())
    config = metaprune.masked_lora(peft.LoraConfig(target_modules=["q_proj"], use_dora=True))
    with pytest.raises(ValueError, match="leave use_dora"):
        peft.get_peft_model(model, config)
