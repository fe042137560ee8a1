"""The commands for a language model in `docs/command-line.md` run as they stand."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from metaprune.packages import HOME

PAGE = HOME / "docs" / "command-line.md"
WORDS = [f"{first}{second}" for first in "bcdfg" for second in "aeiou"]


def commands() -> list[list[str]]:
    """The commands of the block below the words about a language model."""
    text = PAGE.read_text(encoding="utf-8")
    block = re.search(r"\*\*A language model\.\*\*.*?```sh\n(.*?)```", text, re.S)
    assert block is not None
    found = [shlex.split(line) for line in block[1].replace("\\\n", " ").splitlines()]
    assert all(first == "metaprune" for first, *_ in found)
    return [rest for _, *rest in found]


@pytest.fixture
def model(tmp_path) -> None:
    """A small language model with its tokenizer in MODEL, and two texts, where the commands run."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<s>", *WORDS])}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(tmp_path / "MODEL")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "MODEL")
    draw = random.Random(0)
    for name, count in (("train", 16_000), ("test", 3_000)):
        (tmp_path / f"{name}.txt").write_text(" ".join(draw.choices(WORDS, k=count)))


@pytest.mark.slow
def test_they_run_in_order(run, model):
    listed = commands()
    assert {command for command, *_ in listed} == {"inspect", "prune", "evaluate"}
    for command in listed:
        code, out, errors = run(*command)
        assert code == 0, (command, errors)
        assert command[0] != "evaluate" or "perplexity" in out
    written = [json.loads(path.read_text()) for path in Path().rglob("report.json")]
    reports = [content for content in written if "entries" in content]  # others are of a network
    assert len(reports) == sum(command == "prune" for command, *_ in listed)
    assert all(report["score"] == "perplexity" for report in reports)
    (turned,) = [e for r in reports for e in r["entries"][:1] if e["transform"]]
    assert turned["transform"]["turned"]
