"""Every way to name a budget, from the public face and from the command line."""

from __future__ import annotations

import json

import pytest
import torch

import metaprune
from metaprune.cli.methods import methods
from pruners import budgets
from tests.metaprune.networks import cnn, images, mlp, restless_metanet

X = (torch.randn(64, 8, generator=torch.Generator().manual_seed(0)),)


def masked(**options):
    return metaprune.prune(
        mlp(), (X[0][:2],), **{"metanet": None, "calibration": [X], "recovery": [], **options}
    )


@pytest.mark.parametrize("rule", budgets.rules_for("widths"))
def test_every_rule_for_channels_prunes_and_replays(rule):
    options = {"search": {"evaluations": 8}, "bernoulli": {"evaluations": 12}}.get(rule, {})
    budget = {"rule": rule, **options} if options else rule
    result = metaprune.prune(
        cnn(), images(), target={"macs": "50%"}, metanet=None, budget=budget,
        calibration=[images(16)],
    )  # fmt: skip
    assert result.report["achieved"]["macs"] <= 0.5 * result.report["dense"]["macs"]
    assert result.plan.budget == rule
    again = metaprune.Plan.from_json(result.plan.to_json())
    assert again == result.plan


def test_shares_by_hand_reach_the_result():
    result = masked(
        pattern="unstructured", target={"sparsity": 0.5}, budget={"0.weight": 0.75, "2.*": 0.4}
    )
    assert result.plan.budget == "manual"
    kept = {n: (p != 0).float().mean().item() for n, p in result.model.named_parameters()}
    assert kept["0.weight"] == pytest.approx(0.75, abs=0.01)
    assert kept["2.weight"] == pytest.approx(0.4, abs=0.01)
    sizes = {n: p.numel() for n, p in result.model.named_parameters() if p.ndim == 2}
    total = sum(kept[n] * size for n, size in sizes.items())
    assert total == pytest.approx(0.5 * sum(sizes.values()), abs=2)


def test_widths_by_hand_reach_the_result():
    result = metaprune.prune(
        cnn(), images(), target={"params": "60%"}, metanet=None, budget={"0.out": 5}
    )
    assert result.model[0].out_channels == 5


def test_a_rule_mixes_n_of_m_where_it_is_asked_to():
    plain = masked(pattern="2:4")
    assert plain.plan.budget == "uniform"
    assert set(plain.plan.density.values()) == {0.5}
    mixed = masked(pattern="2:4", budget={"rule": "price", "steps": 4})
    for name, share in mixed.plan.density.items():
        weight = dict(mixed.model.named_parameters())[name]
        groups = (weight.reshape(weight.shape[0], -1, 4) != 0).sum(-1)
        assert (groups == round(4 * share)).all()
    sizes = {n: p.numel() for n, p in mixed.model.named_parameters() if p.ndim == 2}
    kept = sum(mixed.plan.density[n] * size for n, size in sizes.items())
    assert kept <= 0.5 * sum(sizes.values())
    assert len(set(mixed.plan.density.values())) > 1


def test_a_search_starts_from_the_metanetwork(tmp_path):
    file = restless_metanet(tmp_path / "meta.safetensors")
    shares = {}
    for budget in ("metanet", {"rule": "search", "evaluations": 1, "start": "metanet"}):
        plan = metaprune.plan(
            mlp(), (X[0][:2],), target={"sparsity": 0.6}, pattern="unstructured", metanet=file,
            budget=budget, calibration=[X],
        )  # fmt: skip
        shares[plan.budget] = plan.density
    assert shares["search"] == pytest.approx(shares["metanet"], abs=0.02)
    settings = json.loads(plan.to_json())["provenance"]["settings"]
    assert settings["budget"] == {"rule": "search", "evaluations": 1, "start": "metanet"}
    with pytest.raises(ValueError, match='start from "metanet" needs a metanetwork'):
        masked(
            pattern="unstructured", target={"sparsity": 0.5},
            budget={"rule": "search", "start": "metanet"},
        )  # fmt: skip


def test_options_that_no_rule_reads_are_refused():
    with pytest.raises(ValueError, match='"lamp" does not read "steps"'):
        masked(pattern="row", target={"sparsity": 0.5}, budget={"rule": "lamp", "steps": 3})
    with pytest.raises(ValueError, match='budget "owl" needs norms of inputs'):
        masked(pattern="row", target={"sparsity": 0.5}, budget="owl", calibration=None)


def test_methods_of_a_study_are_named_after_their_rules():
    settings = metaprune.Settings.of(
        pattern="unstructured", metanet=None, budget={"rule": "search", "seed": 1}
    )
    found = methods(settings, ["lamp", {"fc": 0.5}])
    assert [method.name for method in found] == ["search", "lamp", "manual"]


def test_a_budget_from_the_command_line():
    from hydra import compose, initialize_config_dir

    from metaprune.packages import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("prune", ["budget={rule:search,evaluations:9}", "compare=[lamp]"])
    assert dict(config.budget) == {"rule": "search", "evaluations": 9}
