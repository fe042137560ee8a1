"""Statistics of padded batches are those of their examples, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from pruners.statistics import input_statistics, without_padding

LENGTHS = (7, 4, 7, 1, 5)


def padded(side: str, lengths: tuple[int, ...] = LENGTHS, **more: Any) -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30, (len(lengths), max(lengths)), generator=drawn)
    places = torch.arange(max(lengths))
    if side == "left":
        places = places.flip(0)
    mask = (places[None] < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, **more}


def language_model() -> torch.nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=16,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("side", ["right", "left"])
def test_statistics_are_those_of_the_examples(side: str) -> None:
    model, batch = language_model(), padded(side)
    alone = [
        {"input_ids": ids[mask.bool()][None]}
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    names = [n for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    needs = ("hessian", "means", "curvature")
    expected = input_statistics(model, alone, names, needs)
    found = input_statistics(model, list(without_padding([batch])), names, needs)
    plain = input_statistics(model, [batch], names, needs)
    for name in names:
        for key in ("hessian", "means"):
            torch.testing.assert_close(found[name][key], expected[name][key], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(plain[name]["hessian"], expected[name]["hessian"], rtol=1e-2)


@pytest.mark.parametrize("side", ["right", "left"])
def test_examples_of_one_length_stay_together(side: str) -> None:
    batch = padded(side, scale=torch.arange(5.0), factor=2.0)
    found = list(without_padding([batch]))
    assert [tuple(part["input_ids"].shape) for part in found] == [(2, 7), (1, 4), (1, 1), (1, 5)]
    assert all(bool(part["attention_mask"].all()) and part["factor"] == 2.0 for part in found)
    assert torch.cat([part["scale"] for part in found]).tolist() == [0, 2, 1, 3, 4]
    tokens = sum(int(part["input_ids"].numel()) for part in found)
    assert tokens == sum(LENGTHS)
    assert all(bool((part["input_ids"] > 0).all()) for part in found)


def test_labels_and_what_belongs_to_a_decoder() -> None:
    labels = torch.where(padded("right")["attention_mask"] == 1, 3, -100)
    decoder = torch.ones(5, 7, dtype=torch.int64)
    found = list(without_padding([padded("right", labels=labels, decoder_input_ids=decoder)]))
    assert all(part["labels"].shape == part["input_ids"].shape for part in found)
    assert all(part["decoder_input_ids"].shape[1] == 7 for part in found)


HOLED = padded("right")["attention_mask"].index_fill(1, torch.tensor([2]), 0)


@pytest.mark.parametrize(
    "batch",
    [
        (torch.randn(2, 3),),
        {"x": torch.randn(2, 3)},
        {"attention_mask": torch.ones(2, 3), "input_ids": torch.ones(2, 3)},
        padded("right") | {"attention_mask": HOLED},
        padded("right") | {"attention_mask": torch.ones(5, 1, 7, 7)},
        padded("right", labels=torch.ones(5, 7, dtype=torch.int64)),
        padded("right", bias=torch.zeros(5, 2, 7)),
        padded("right", several=torch.zeros(3, 5, 7)),
    ],
    ids=["tuple", "no mask", "full", "holes", "square", "labels", "other dim", "not examples"],
)
def test_what_is_not_plainly_padded_stays(batch: Any) -> None:
    (found,) = without_padding([batch])
    assert found is batch


def test_an_example_without_tokens_is_none() -> None:
    assert [len(part["input_ids"]) for part in without_padding([padded("right", (3, 0))])] == [1]
