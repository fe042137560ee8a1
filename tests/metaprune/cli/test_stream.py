"""`metaprune stream`: the same command continues, both checkpoints are judged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from metaprune.cli.main import main
from tests.metaprune.streaming.models import VOCABULARY, saved
from tests.metaprune.streaming.test_stream import contents

WORDS = [f"w{i}" for i in range(VOCABULARY)]


def folder_with_text(tmp_path: Path) -> Path:
    """A small Llama with its tokenizer, and two texts."""
    folder = tmp_path / "dense"
    saved("llama", folder)
    words = models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="w1").save_pretrained(folder)
    for name, step in (("a", 7), ("b", 11)):
        text = " ".join(WORDS[(i * i * step + i) % VOCABULARY] for i in range(600))
        (tmp_path / f"{name}.txt").write_text(text)
    return folder


def arguments(tmp_path: Path, output: str) -> list[str]:
    return [
        "stream", f"path={tmp_path / 'dense'}", f"output={tmp_path / output}", "pattern=2:4",
        f"data.train={tmp_path / 'a.txt'}", f"data.test={tmp_path / 'b.txt'}", "data.window=15",
        "examples=24", "batch_size=4", "solver=sparsegpt", f"hydra.run.dir={tmp_path / 'run'}",
    ]  # fmt: skip


def test_it_prunes_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_with_text(tmp_path)
    main(arguments(tmp_path, "pruned"))
    said = capsys.readouterr().out
    assert "0.5 of" in said
    assert "dense: perplexity" in said
    assert "pruned: perplexity" in said
    assert (tmp_path / "pruned" / "tokenizer.json").is_file()


def test_a_killed_process_is_continued_by_the_same_command(tmp_path: Path) -> None:
    folder_with_text(tmp_path)
    main(arguments(tmp_path, "once"))
    own = [sys.executable, "-m", "metaprune", *arguments(tmp_path, "killed")]
    process = subprocess.Popen(own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / ".killed.part" / "block-00000.json").is_file():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if not (tmp_path / "killed").exists():  # it may have been quicker than the signal
        main(arguments(tmp_path, "killed"))
    wanted, found = contents(tmp_path / "once"), contents(tmp_path / "killed")
    assert wanted.keys() == found.keys()
    assert all(bool((wanted[name] == found[name]).all()) for name in wanted)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("pattern=channels", "prunes by masks"),
        ("solver=admmm", "admm"),
        ("path=nowhere", "nowhere"),
        ("target.sparsity=0.5", "leaves no choice"),
        ("examples=0", "examples"),
        ("imitate.steps=3", "imitate"),
    ],
)
def test_mistakes_are_one_sentence(
    mistake: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_with_text(tmp_path)
    with pytest.raises(SystemExit) as left:
        main([*arguments(tmp_path, "pruned"), mistake])
    said = f"{left.value}{capsys.readouterr().err}"
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "pruned").exists()
