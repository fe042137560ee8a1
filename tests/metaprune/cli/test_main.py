"""The command line: help, errors in a sentence, run folders, and every configuration composes."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import metaprune
from metaprune.cli import main as cli
from metaprune.cli.commands.prune import PruneConfig, spread
from metaprune.cli.help import command_help
from metaprune.packages import CONF
from metaprune.report import Report
from metaprune.settings import Settings

FAST = ["latency.batch_size=0", "calibration.examples=32", "data.train_size=100"]
TINY = ["model.options={blocks: [1], widths: [8], shortcut: pad, inner: 1.0, act: relu}"]


def folders(command: str) -> list[Path]:
    return sorted(Path("outputs", command).iterdir())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_fits_a_screen(run, arguments):
    code, out, _ = run(*arguments)
    assert code == 0
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 100
    assert all(command in out for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_every_command_fits_a_screen(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert out.strip() == command_help(command).strip()
    assert out.startswith(f"metaprune {command}: ")
    assert len(out.splitlines()) <= 48
    assert max(map(len, out.splitlines())) <= 110


def test_version(run):
    assert run("--version")[1].strip() == f"metaprune {metaprune.__version__}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prnue"], 2, "did you mean 'prune'"),
        (["xyzzy"], 2, "expected one of prune"),
        (["prune", "nonsense=1"], 1, 'unknown setting "nonsense"'),
        (["prune", "+nonsense=1", "target.macs=50%"], 1, 'unknown setting "nonsense"'),
        (["prune", "metanet=null"], 1, "say what to reach"),
        (["prune", "metanet=null", "target.latency=3"], 1, 'unknown setting "target.latency"'),
        (["prune", "metanet=null", "target.speedup=1e6"], 1, "out of reach"),
        (
            ["prune", "target.macs=[80%,50%]", "budget={rule: search, journal: j}"],
            1,
            "of one search",
        ),
        (["prune", "metanet=nowhere", "target.macs=50%"], 1, "no metanetwork 'nowhere'"),
        (["prune", "model=resnet20", "target.macs=50%"], 1, "model.path"),
        (["prune", "model=resnet20", "model.path=x.th", "target.macs=50%"], 1, "no checkpoint"),
        (["prune", "metanet=null", "target.macs=50%", "data.name=xx"], 1, 'unknown data set "xx"'),
        (["prune", "compare=[metanets]", "target.macs=50%"], 1, 'unknown budget "metanets"'),
        (["inspect", "model.shape=[1,9,9]", "data.seed=x"], 1, "x"),
        (["evaluate", "model=pruned", "model.path=."], 1, "no pruned network"),
        (["demo", "budget=unifrm"], 1, 'did you mean "uniform"'),
        (["zoo"], 1, "zoo.folder"),
    ],
)
def test_errors_are_sentences_without_traceback(run, arguments, code, words):
    found, out, errors = run(*arguments)
    assert found == code
    assert words in errors
    assert "Traceback" not in errors
    assert "Traceback" not in out


def test_a_package_that_is_missing_is_told_with_what_installs_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, errors = run("prune", "model=hf", "model.path=x", "target.macs=50%")
    assert code == 1
    assert "this needs transformers: pip install 'metaprune[lm]'" in errors


def test_full_error_shows_the_traceback(run, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(FileNotFoundError):
        run("prune", "metanet=nowhere", "target.macs=50%")


def test_prune_writes_a_run_folder_that_loads(run):
    code, out, errors = run(
        "prune",
        "budget=uniform",
        "compare=[global,metanet]",
        "target.speedup=[1.5,2]",
        *FAST,
        *TINY,
    )
    assert code == 0, errors
    assert "speedup 2" in out
    (folder,) = folders("prune")
    report = Report.from_json((folder / "report.json").read_text())
    assert [(e.method, e.asked["speedup"]) for e in report.entries] == [
        ("uniform", 1.5),
        ("global", 1.5),
        ("metanet", 1.5),
        ("uniform", 2.0),
        ("global", 2.0),
        ("metanet", 2.0),
    ]
    assert all(e.achieved["speedup"] >= e.asked["speedup"] for e in report.entries)
    assert report.provenance["fingerprints"]["data"]
    assert report.provenance["versions"]["metaprune"] == metaprune.__version__
    assert report.config["seed"] == 0
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["target"]["speedup"] == [1.5, 2]
    assert config["title"] == "cnn on digits"
    assert (folder / "report.html").is_file()
    saved = [entry.folder for entry in report.entries if entry.folder]
    assert len(saved) == 2
    for group in (report.entries[:3], report.entries[3:]):
        (best,) = (entry for entry in group if entry.folder)
        assert best.held_out["accuracy"] == max(e.held_out["accuracy"] for e in group)
    assert report.chosen_by == {"split": "validation", "examples": 350}
    for entry in report.entries:
        assert entry.interval[0] <= entry.final["accuracy"] <= entry.interval[1]
    model = metaprune.load(folder / saved[1])
    assert sum(p.numel() for p in model.parameters()) == best.achieved["params"]
    code, out, errors = run(
        "evaluate", "--json", "model=pruned", f"model.path={folder / saved[1]}", *FAST[::2]
    )
    assert code == 0, errors
    measured = json.loads(out)
    assert measured["metrics"] == dict(best.before)
    assert measured["cost"]["macs"] == best.achieved["macs"]


def test_multirun_makes_a_folder_for_each_job(run):
    code, _, errors = run(
        "prune", "--multirun", "metanet=null", "target.speedup=1.5,2", "save=false", *FAST, *TINY
    )
    assert code == 0, errors
    reports = sorted(Path("multirun/prune").glob("*/*/report.json"))
    assert [path.parent.name for path in reports] == ["0-speedup=1.5", "1-speedup=2"]
    asked = {Report.from_json(path.read_text()).entries[0].asked["speedup"] for path in reports}
    assert asked == {1.5, 2.0}


def test_masks_from_the_command_line(run):
    code, out, errors = run(
        "prune", "metanet=null", "pattern=2:4", "compare=[uniform]", *FAST, *TINY
    )
    assert code == 0, errors
    assert "sparsity" in out
    assert "50 %" in out
    assert "1.00×" not in out
    said = "The network was never trained"
    assert said in out
    report = Report.from_json((folders("prune")[0] / "report.json").read_text())
    assert report.entries[0].asked == {"pattern": "2:4"}
    assert report.entries[0].achieved["sparsity"] == 0.5
    assert all(entry.notes[0].startswith(said) for entry in report.entries)


def test_inspect_tells_people_and_programs(run):
    code, out, _ = run("inspect", *TINY)
    assert code == 0
    for title in ("May be pruned", "Left alone", "Reachable"):
        assert title in out
    code, out, _ = run("inspect", "--json", *TINY)
    found = json.loads(out)
    assert sum(m["macs"] for m in found["modules"].values()) == found["cost"]["macs"]
    assert sum(m["params"] for m in found["modules"].values()) == found["cost"]["params"]
    assert found["reachable"]["speedup"][1] > 2
    assert found["left_alone"]


def test_inspect_draws_expected_losses_of_data(run):
    code, out, errors = run("inspect", "--json", "data=digits", "examples=32", *TINY)
    assert code == 0, errors
    found = json.loads(out)
    assert set(found["expected"]) == {"units", "weights", "unreached"}
    assert len(found["expected"]["weights"]) > 3
    code, _, errors = run("inspect", "examples=32", *TINY)
    assert code == 1
    assert "name one, such as data=digits" in errors


def test_zoo_then_train_then_prune(run):
    code, out, errors = run(
        "zoo", "zoo.folder=zoo", "zoo.members=1", "zoo.held_out=1", "zoo.families=[mlp]",
        "zoo.overrides.mlp.epochs=1", "+zoo.data.train_size=100",
    )  # fmt: skip
    assert code == 0, errors
    assert "2 networks" in out
    assert len(list(Path("zoo").glob("*/*/metrics.json"))) == 2
    training = [
        "train", "zoos=[zoo]", "folder=meta", "meta.steps=2", "meta.judge_every=2",
        "meta.networks=1", "meta.checkpoint_every=2", "+metanet.hidden=8", "+metanet.layers=1",
    ]  # fmt: skip
    code, out, errors = run(*training)
    assert code == 0, errors
    record = json.loads(Path("meta/training.json").read_text())
    assert record["networks"] == {"train": 1, "held_out": 1}
    assert {one["rule"] for one in record["comparisons"]} == {"base", "advised"}
    assert "Damage by family" in Path("meta/training.html").read_text()
    assert record["history"][-1]["step"] == 2
    assert "1 held-out" in Path("meta/README.md").read_text()
    before = Path("meta/metanet.safetensors").read_bytes()
    assert run(*training)[0] == 0  # complete already: nothing is trained again
    assert Path("meta/metanet.safetensors").read_bytes() == before
    code, _, errors = run(
        "prune", "metanet=meta/metanet.safetensors", "target.macs=50%", "save=false", *FAST, *TINY
    )
    assert code == 0, errors
    report = Report.from_json((folders("prune")[0] / "report.json").read_text())
    assert report.methods == ("metanet", "uniform")
    assert report.provenance["fingerprints"]["metanet"]


def test_triples_of_a_zoo_then_a_value_of_them(run):
    code, _, errors = run(
        "zoo", "zoo.folder=zoo", "zoo.members=1", "zoo.held_out=1", "zoo.families=[plain]",
        "zoo.overrides.plain.epochs=1", "+zoo.data.train_size=200",
    )  # fmt: skip
    assert code == 0, errors
    asked = [
        "triples", "triples.zoos=[zoo]", "triples.folder=found", "triples.budgets=3",
        "triples.examples=64", "triples.judged=64", "triples.batch_size=64",
        "triples.targets=[{pattern: channels, macs: 60%}]",
    ]  # fmt: skip
    code, out, errors = run(*asked)
    assert code == 0, errors
    assert "2 of 2: plain-" in out
    assert len(list(Path("found").glob("*/*/case.json"))) == 2
    code, _, errors = run(*asked, "triples.seed=1")
    assert code == 1
    assert "other settings" in errors
    code, out, errors = run(
        "train", "zoos=[zoo]", "triples=[found]", "folder=value", "value.epochs=1"
    )
    assert code == 0, errors
    record = json.loads(Path("value/training.json").read_text())
    assert record["budgets"] == 6
    assert "A value of budgets, fitted to" in Path("value/training.html").read_text()
    assert "6 budgets of 2 networks" in Path("value/README.md").read_text()
    pruned = ["prune", "metanet=value/metanet.safetensors", "save=false", *FAST, *TINY]
    code, _, errors = run(*pruned, "target.macs=50%")
    assert code == 0, errors
    report = Report.from_json((folders("prune")[0] / "report.json").read_text())
    assert report.methods == ("metanet", "uniform")
    code, _, errors = run(*pruned, "pattern=unstructured", "target.sparsity=0.5")
    assert code == 1
    assert "leave metanet out" in errors


@pytest.mark.parametrize(
    ("target", "points"),
    [
        ({"macs": "50%", "params": None}, [{"macs": "50%"}]),
        ({"speedup": [1.5, 2], "params": "90%"},
         [{"speedup": 1.5, "params": "90%"}, {"speedup": 2, "params": "90%"}]),
    ],
)  # fmt: skip
def test_lists_are_taken_point_by_point(target, points):
    assert spread(target) == points


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        spread({"macs": ["50%"], "params": ["50%", "25%"]})


def test_no_target_is_one_point_where_a_pattern_leaves_no_choice():
    assert spread(None, "2:4") == [{}]
    with pytest.raises(ValueError, match=r"say what to reach, for instance target\.speedup=2"):
        spread(None)
    with pytest.raises(ValueError, match="target is metrics with amounts"):
        spread(0.5)


def configurations() -> list[tuple[str, str]]:
    """Every command with every option of every group it chooses from."""
    found = []
    for command in cli.COMMANDS:
        defaults = yaml.safe_load((CONF / f"{command}.yaml").read_text())["defaults"]
        found.append((command, ""))
        for entry in defaults:
            group = next(iter(entry)) if isinstance(entry, dict) else ""
            options = (CONF / group).glob("*.yaml") if group and " " not in group else []
            found += [(command, f"{group}={path.stem}") for path in sorted(options)]
    return found


@pytest.mark.parametrize(("command", "choice"), configurations())
def test_every_configuration_composes(command, choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, overrides=[choice] if choice else [])
    content = OmegaConf.to_container(config, resolve=False)
    if command == "prune":
        own = {entry.name for entry in fields(Settings)}
        assert own <= content.keys()
        assert set(content) - own <= {entry.name for entry in fields(PruneConfig)}
        settings = {key: value for key, value in content.items() if key in own - {"target"}}
        assert Settings.of(**settings).pattern == content["pattern"]
    assert content


def test_a_used_run_folder_is_refused_before_any_work(run):
    Path("used/model-speedup2.0").mkdir(parents=True)
    Path("used/model-speedup2.0/note").write_text("mine")
    command = ["prune", *FAST, "metanet=null", "budget=global", "compare=[]", "target.speedup=2"]
    code, out, errors = run(*command, "hydra.run.dir=used")
    assert code == 1
    assert "exists and is not empty" in errors
    assert "fewer MACs" not in out
    assert Path("used/model-speedup2.0/note").read_text() == "mine"
