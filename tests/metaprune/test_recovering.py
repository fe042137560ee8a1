"""`metaprune.recover`: any pruned network, masks exact, results that save and open."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metaprune
from pruners.curves import Judge

STEPS = {"steps": 40, "lr": 1e-3, "batch_size": 16, "judge_every": 5}
IMITATE, BLOCKS = {"imitate": STEPS}, {"imitate-blocks": STEPS}


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5)
    )
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.mul_(3)
    return model.eval()


def batches() -> list:
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    return [(part,) for part in x.split(32)]


def result(pattern: str = "unstructured", **target: float) -> metaprune.Result:
    return metaprune.prune(
        network(), batches(), pattern=pattern, target=target or {"sparsity": 0.6}, metanet=None,
        recovery=[], budget="uniform",
    )  # fmt: skip


def by_hand() -> nn.Module:
    """Masks that somebody else made."""
    model = network()
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.masked_fill_(weight.abs() < weight.abs().median(), 0)
    return model


def saved_and_opened(tmp_path) -> nn.Module:
    found = result()
    found.save(tmp_path / "saved")
    return metaprune.load(tmp_path / "saved")


CASES = {
    "a result": lambda _: result(),
    "opened": saved_and_opened,
    "channels": lambda _: result("channels", macs="60%"),
    "by hand": lambda _: by_hand(),
}


@pytest.mark.parametrize("case", CASES)
def test_it_comes_closer_to_the_teacher_and_keeps_masks(case: str, tmp_path) -> None:
    given = CASES[case](tmp_path)
    model = given.model if isinstance(given, metaprune.Result) else given
    before = copy.deepcopy(model.state_dict())
    zeros = {n: p == 0 for n, p in model.named_parameters() if p.ndim > 1}
    found = metaprune.recover(given, batches(), [IMITATE], teacher=network())
    judge = Judge(network(), batches())
    assert judge(found.model) < judge(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, value in found.model.named_parameters():
        assert not zeros.get(name, torch.zeros(())).any() or bool((value[zeros[name]] == 0).all())
    found.save(tmp_path / "again", source=None)
    opened = metaprune.load(tmp_path / "again")
    x = batches()[0][0]
    torch.testing.assert_close(opened(x), found.model(x))
    again = metaprune.recover(opened, batches(), [IMITATE], teacher=network())
    assert judge(again.model) <= judge(found.model) * 1.001


def test_a_recovered_network_is_pruned_further() -> None:
    found = metaprune.recover(result(), batches(), [IMITATE], teacher=network())
    more = metaprune.prune(
        found, batches(), pattern="unstructured", target={"sparsity": 0.8}, metanet=None
    )
    assert len(more.plan.steps) == 2
    for name, mask in more.masks.items():
        assert not bool((mask & ~found.masks[name]).any())


@pytest.mark.parametrize(
    ("recovery", "options", "words"),
    [
        (["imitate"], {}, "the dense network: pass `teacher`"),
        (["finetune"], {"teacher": network()}, "pass `data`"),
        (["order"], {"teacher": network()}, "while a network is pruned"),
        ([], {}, "takes methods"),
        (["imitat"], {}, "imitate"),
    ],
)
def test_what_is_missing_is_named(recovery: list, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metaprune.recover(result(), batches(), recovery, **options)


def test_a_dense_network_is_refused() -> None:
    with pytest.raises(ValueError, match="was not pruned here"):
        metaprune.recover(network(), batches(), [IMITATE], teacher=network())


@pytest.mark.parametrize("outputs", [1, 4])
def test_a_teacher_of_another_task_is_refused(outputs: int) -> None:
    teacher = nn.Sequential(*network()[:-1], nn.Linear(24, outputs))
    with pytest.raises(ValueError, match="the same task"):
        metaprune.recover(result(), batches(), [IMITATE], teacher=teacher)
