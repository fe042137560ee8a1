from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs.tools.files import write_tensors
from training import data, evaluate, sources
from training.store import state_of


@pytest.fixture
def small():
    return {"source": "family", "family": "cifar_resnet", "options": {"depth": 8, "width": 4}}


@pytest.mark.parametrize("name", ["a.safetensors", "a.th", "a.pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_load_exactly(small, tmp_path, name, prefix):
    state = {prefix + k: v for k, v in sources.load(**small, seed=3).state_dict().items()}
    path = tmp_path / name
    if name.endswith("safetensors"):
        write_tensors(path, state)
    else:
        torch.save({"state_dict": state, "best_prec1": 1.0} if name == "a.th" else state, path)
    loaded = sources.load(**small, path=str(path)).state_dict()
    assert all(torch.equal(value, state[prefix + key]) for key, value in loaded.items())


def test_initial_weights_are_seeded(small):
    weights = [sources.load(**small, seed=seed).conv1.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class TestMisfits:
    def load(self, small, tmp_path, change):
        state = state_of(sources.load(**small))
        change(state)
        write_tensors(tmp_path / "a.safetensors", state)
        return sources.load(**small, path=str(tmp_path / "a.safetensors"))

    def test_missing(self, small, tmp_path):
        with pytest.raises(ValueError, match=r"does not fit ResNet; missing: linear\.bias\. Build"):
            self.load(small, tmp_path, lambda state: state.pop("linear.bias"))

    def test_unexpected(self, small, tmp_path):
        with pytest.raises(ValueError, match=r"unexpected: head\.bias"):
            self.load(small, tmp_path, lambda s: s.update({"head.bias": torch.zeros(1)}))

    def test_shape(self, small, tmp_path):
        with pytest.raises(ValueError, match=r"linear\.bias \(3,\) instead of \(10,\)"):
            self.load(small, tmp_path, lambda s: s.update({"linear.bias": torch.zeros(3)}))

    def test_long_lists_are_cut(self, small, tmp_path):
        with pytest.raises(ValueError, match=r"and [0-9]+ more"):
            self.load(
                small, tmp_path, lambda s: [s.pop(k) for k in list(s) if "conv" in k or "bn" in k]
            )

    def test_old_checkpoints_without_counters_fit(self, small, tmp_path):
        def change(state):
            for name in [n for n in state if n.endswith("num_batches_tracked")]:
                del state[name]

        assert self.load(small, tmp_path, change)

    def test_absent_or_unreadable(self, small, tmp_path):
        for name in ("a.pt", "a.safetensors"):
            with pytest.raises(FileNotFoundError, match="there is no"):
                sources.load(**small, path=str(tmp_path / name))
            (tmp_path / name).write_bytes(b"damaged")
            with pytest.raises(ValueError, match=name):
                sources.load(**small, path=str(tmp_path / name))

    def test_code_in_a_checkpoint_is_not_run(self, small, tmp_path):
        torch.save({"state_dict": nn.Linear(1, 1)}, tmp_path / "a.pt")
        with pytest.raises(ValueError, match="cannot be read"):
            sources.load(**small, path=str(tmp_path / "a.pt"))

    def test_no_state_dictionary(self, small, tmp_path):
        torch.save([torch.zeros(1)], tmp_path / "a.pt")
        with pytest.raises(ValueError, match="holds no state dictionary"):
            sources.load(**small, path=str(tmp_path / "a.pt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "digest", "accuracy"),
    [(20, "12fca82f", 0.9173), (32, "d509ac18", 0.9263), (56, "4bfd9763", 0.9339)],
)
def test_dense_accuracies_reappear(shared, depth, digest, accuracy):
    model = sources.load(
        "family",
        family="cifar_resnet",
        options={"depth": depth},
        path=str(shared / f"models/cifar10-resnets/resnet{depth}-{digest}.th"),
    )
    cifar = data.load("cifar10", path=str(shared / "cifar10"))
    assert evaluate(model, cifar, "test")["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "perplexity", "bits"),
    [("stories260K", 4.85, 1.11), ("TinyStories-656K", 30.98, 1.17)],
)
def test_dense_perplexities_reappear(shared, name, perplexity, bits):
    path = str(shared / "models" / name)
    stories = str(shared / "text/tinystories/tinystories_val.txt")
    text = data.load("text", train=stories, test=stories, tokenizer=path, train_bytes=50_000,
        test_bytes=300_000)  # fmt: skip
    figures = evaluate(sources.load("transformers", path=path), text, "test", batch_size=64)
    assert figures["perplexity"] == pytest.approx(perplexity, abs=0.011)
    assert figures["bits_per_byte"] == pytest.approx(bits, abs=0.005)
