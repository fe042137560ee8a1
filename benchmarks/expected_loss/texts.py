"""Language models on TinyStories: windows, perplexity, divergence, and heads that stay whole."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.expected_loss.cells import Subject
from metaprune import Calibration
from training import sources

LENGTH = 255
"""Tokens of a window after its first one, which begins a text."""

CALIBRATION_TEXT, CALIBRATION_CHARACTERS = "tinystories_2M.txt", 2_000_000
TEST_TEXT, TEST_CHARACTERS = "tinystories_val.txt", 600_000

LEFT_OUT = 64
"""Windows beside the calibration, for the divergence."""

TEST = 200
"""Windows for the perplexity."""

BATCH = 16
"""Windows a batch."""


class FixedHead(nn.Module):
    """A linear head that no plan of masks divides: its weight is no parameter.

    Args:
        weight: (vocabulary, features).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., vocabulary)."""
        return F.linear(x, self.weight)


def untied(model: Any) -> Any:
    """A Llama of the same function with a head of its own, and norms without scales.

    The head gets the embedding's weights times the last norm's scale; every other norm's scale goes
    into the linear maps that read it.

    Args:
        model: a `LlamaForCausalLM`, left as it was.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        head = model.lm_head.weight * model.model.norm.weight
        model.lm_head.weight = nn.Parameter(head)
        model.model.norm.weight.fill_(1)
        for layer in model.model.layers:
            attention, feed = layer.self_attn, layer.mlp
            for norm, readers in (
                (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
                (layer.post_attention_layernorm, (feed.gate_proj, feed.up_proj)),
            ):
                for reader in readers:
                    reader.weight.mul_(norm.weight)
                norm.weight.fill_(1)
    model.config.tie_word_embeddings = False
    return model


def with_fixed_head(model: Any) -> Any:
    """A copy of a Llama whose head no plan of masks divides."""
    model = copy.deepcopy(model)
    model.lm_head = FixedHead(model.lm_head.weight.detach())
    return model


def windows(
    tokenizer: Any, path: Path, characters: int, count: int, seed: int | None = None
) -> Tensor:
    """The first windows of a text, each after a token that begins a text; drawn with a seed.

    Args:
        tokenizer: of the model.
        path: of the text.
        characters: how much of it is read.
        count: windows.
        seed: of the order of all windows; None leaves them in order.

    Returns:
        (count, LENGTH + 1), int64.
    """
    text = path.read_text(encoding="utf-8")[:characters]
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = tokens[: len(tokens) // LENGTH * LENGTH].view(-1, LENGTH)
    begin = 1 if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    rows = torch.cat([torch.full((len(rows), 1), begin), rows], 1)
    if seed is not None:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    return rows[:count]


def perplexity(model: nn.Module, rows: Tensor) -> float:
    """Perplexity: exp of the mean cross-entropy of every token after the first, (B, T) tokens."""
    total = 0.0
    with torch.no_grad():
        for batch in rows.split(BATCH):
            logits = model(input_ids=batch).logits[:, :-1].float().flatten(0, 1)
            total += float(F.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum"))
    return math.exp(total / rows[:, 1:].numel())


def divergence(model: nn.Module, dense: nn.Module, rows: Tensor) -> float:
    """KL(dense ‖ model) in nats, a mean over all tokens of (B, T)."""
    total = 0.0
    with torch.no_grad():
        for batch in rows.split(BATCH):
            wanted = dense(input_ids=batch).logits.log_softmax(-1)
            found = model(input_ids=batch).logits.log_softmax(-1)
            total += float((wanted.exp() * (wanted - found)).sum())
    return total / rows.numel()


def subject(
    model: Path, text: Path, examples: int, seed: int, *, apart: bool = False, whole: bool = False
) -> Subject:
    """A Llama, calibrated and judged on TinyStories.

    Args:
        model: folder of the model and its tokenizer.
        text: folder of the two texts.
        examples: sequences of the calibration.
        seed: of the choice of the calibration and the windows beside it.
        apart: whether the head becomes a tensor of its own; see `untied`.
        whole: whether plans leave the head alone.
    """
    network: Any = sources.load("transformers", path=str(model)).eval()
    network = untied(network) if apart else network
    return subject_of(network, model, text, examples, seed, whole=whole)


def subject_of(
    network: nn.Module, tokenizer_of: Path, text: Path, examples: int, seed: int, *, whole: bool
) -> Subject:
    """Any causal language model, calibrated and judged on TinyStories.

    Args:
        network: in evaluation mode.
        tokenizer_of: folder of its tokenizer.
        text, examples, seed, whole: see `subject`.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_of)
    drawn = windows(
        tokenizer, text / CALIBRATION_TEXT, CALIBRATION_CHARACTERS, examples + LEFT_OUT, seed
    )
    tests = windows(tokenizer, text / TEST_TEXT, TEST_CHARACTERS, TEST)
    calibration, left_out = drawn[:examples], drawn[examples:]

    def judge(pruned: nn.Module) -> dict[str, float]:
        return {
            "perplexity": round(perplexity(pruned, tests), 4),
            "kl": round(divergence(pruned, network, left_out), 6),
        }

    return Subject(
        network,
        {"input_ids": calibration[:2]},
        Calibration([{"input_ids": batch} for batch in calibration.split(BATCH)]),
        judge,
        with_fixed_head(network) if whole else None,
    )
