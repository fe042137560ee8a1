"""A mistaken setting is told by its name before anything is loaded, in a sentence."""

from __future__ import annotations

import pytest

from training.data import registry as data
from training.sources import registry as sources

HALF = "target.macs=50%"
MISTAKES = [
    # What hydra cannot read, or would read as something else.
    ("prune", ["foo=[1"], "'foo=[1' cannot be read"),
    ("prune", ["target.macs"], "settings are written name=value"),
    ("prune", ["seed=1,2"], "--multirun makes a run of each, 'seed=[1,2]' is one list"),
    ("prune", ["model=resnt20"], 'unknown model "resnt20" (did you mean "resnet20"?)'),
    ("prune", ["finetune=defalt"], 'unknown finetune "defalt" (did you mean "default"?)'),
    ("prune", ["-m", "data=digits,cifar"], 'unknown data "cifar" (did you mean "cifar10"?)'),
    ("prune", ["budget=expected-loss", "+budget.evaluations=8"],
     "write both in one, 'budget={rule: expected-loss, evaluations: 8}'"),
    ("prune", ["+budget.evaluations=8"], "'budget={rule: NAME, evaluations: 8}'"),
    ("prune", ["schedule=iterative", "+schedule.steps=3"],
     "'schedule={iterative: {steps: 3}}'"),
    ("prune", ["transform=rotate", "transform.descent=3"], "'transform={rotate: {descent: 3}}'"),
    # Names.
    ("prune", ["patern=row"], 'unknown setting "patern" (did you mean "pattern"?)'),
    ("prune", ["+patern=row"], 'unknown setting "patern" (did you mean "pattern"?)'),
    ("prune", [HALF, "+calibration.exampels=3"], 'unknown setting "exampels"'),
    ("prune", [HALF, "+model.pahts=x"], 'model.pahts: unknown setting "pahts"'),
    ("prune", [HALF, "+data.train_sizes=3"], 'did you mean "train_size"'),
    ("prune", [HALF, "model.source=familly"], 'unknown source of models "familly"'),
    ("prune", [HALF, "data.name=digit"], 'unknown data set "digit" (did you mean "digits"?)'),
    ("prune", [HALF, "metanet=nowhere"], "no metanetwork 'nowhere'"),
    ("prune", [HALF, "budget=unifrom"], 'unknown budget "unifrom" (did you mean "uniform"?)'),
    ("prune", [HALF, "budget={rule: expected-loss, evaluation: 8}"],
     'budget "expected-loss" does not read "evaluation"'),
    ("prune", [HALF, "compare=[unifrom]"], 'unknown budget "unifrom"'),
    ("prune", [HALF, "schedule=iteratve"], 'unknown schedule "iteratve"'),
    ("prune", [HALF, "schedule={iterative: {step: 3}}"], "schedule.iterative.step"),
    ("prune", [HALF, "transform=rotat"], 'unknown transformation "rotat"'),
    ("prune", [HALF, "transform={rotate: {decent: 3}}"], "transform.rotate.decent"),
    ("prune", [HALF, "recovery=[bais]"], 'unknown recovery method "bais"'),
    ("prune", [HALF, "recovery=[{refit: {dampng: 1}}]"], "recovery.refit.dampng"),
    ("prune", [HALF, "export=onxx"], "unknown format 'onxx'"),
    ("prune", ["pattern=2:5x"], 'unknown pattern "2:5x"'),
    ("prune", ["pattern=2:4", "solver=admn"], 'unknown solver "admn" (did you mean "admm"?)'),
    ("train", ["zoos=[x]", "+meta.stpes=3"], "meta.stpes"),
    ("train", ["zoos=[x]", "metanet.name=pnaa"], 'unknown metanetwork "pnaa"'),
    ("zoo", ["zoo.folder=x", "+zoo.membres=3"], "zoo.membres"),
    ("zoo", ["zoo.folder=x", "data.name=y"], 'unknown setting "data.name"'),
    ("zoo", ["zoo.folder=x", "zoo.data.name=digit"], 'unknown data set "digit"'),
    ("zoo", ["zoo.folder=x", "data=cifar10"], 'unknown setting "data"'),
    # Types and ranges.
    ("prune", ["target=0.5"], "target is metrics with amounts"),
    ("prune", ["target.macs=abc"], 'target "macs": expected a number or a percentage'),
    ("prune", ["target.macs=[50%,x]"], 'target "macs": expected a number or a percentage'),
    ("prune", ["target.sparsity=2", "pattern=row"], 'target "sparsity"'),
    ("prune", [HALF, "model=resnet20", "model.path=nan"], "model.path takes text or null"),
    ("prune", [HALF, "model.options=3"], "model.options takes a mapping or null"),
    ("prune", [HALF, "data.train_size=many"], "data.train_size takes a whole number or null"),
    ("prune", [HALF, "calibration.examples=x"], "calibration.examples takes a whole number"),
    ("prune", [HALF, "calibration.examples=-1"], "calibration.examples must be at least 0"),
    ("prune", [HALF, "calibration.batch_size=0"], "calibration.batch_size must be at least 1"),
    ("prune", [HALF, "calibration=null"], "calibration takes a mapping of settings"),
    ("prune", [HALF, "evaluate.split=tset"], 'did you mean "test"?'),
    ("prune", [HALF, "evaluate.limit=-3"], "evaluate.limit must be at least 1"),
    ("prune", [HALF, "latency.batch_size=many"], "latency.batch_size takes a whole number"),
    ("prune", [HALF, "latency=3"], "latency takes a mapping of settings"),
    ("prune", [HALF, "save=perhaps"], "save takes true or false"),
    ("prune", [HALF, "seed=x"], "seed takes a whole number"),
    ("prune", [HALF, "ignore=fc"], "ignore takes a list"),
    ("prune", [HALF, "min_units=2.5"], "min_units must be a share"),
    ("prune", [HALF, "finetune=default", "finetune.epochs=x"], "finetune.epochs takes"),
    ("inspect", ["latency=x"], "latency takes a whole number"),
    ("inspect", ["examples=-1"], "examples must be at least 0"),
    ("evaluate", ["split=x"], "split takes"),
    ("evaluate", ["limit=0"], "limit must be at least 1"),
    ("evaluate", ["latency.repeats=0"], "latency.repeats must be at least 1"),
    ("train", ["zoos=x"], "zoos takes a list"),
    ("train", ["zoos=[x]", "meta.steps=abc"], "meta.steps takes a whole number"),
    ("zoo", ["zoo.folder=x", "zoo.members=abc"], "zoo.members takes a whole number"),
    ("zoo", ["zoo.folder=x", "zoo.fit.epochs=abc"], "zoo.fit.epochs takes a whole number"),
    ("demo", ["seeds=2"], "seeds takes a list"),
    ("demo", ["seeds=[]"], "seeds needs at least one"),
    ("demo", ["fit.epochs=x"], "fit.epochs takes a whole number"),
    # What does not fit together.
    ("prune", ["pattern=2:4", "solver=low-rank"], 'solver "low-rank" does not fit'),
    ("prune", [HALF, "solver=admm"], 'solver "admm" does not fit pattern "channels"'),
    ("prune", ["pattern=2:4", "min_units=3"], "leave min_units out"),
    ("prune", ["pattern=unstructured", "target.sparsity=0.5", "round_to=8"], "leave round_to out"),
    ("prune", [HALF, "pattern=blocks", "round_to=8"], "leave round_to out"),
    ("prune", [HALF, "recovery=[layer]"], "layer"),
    ("triples", ["triples.zoos=[x]", "triples.folder=y", "triples.solver=low-rank"],
     "triples.solver must be one for masks"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    def load(*args, **options):
        raise AssertionError("something was loaded")

    for registry in (data, sources):
        monkeypatch.setattr(registry, "load", load)


@pytest.mark.parametrize(
    ("command", "overrides", "words"), MISTAKES, ids=[" ".join(m[1]) for m in MISTAKES]
)
def test_a_mistake_is_a_sentence_with_the_name(run, command, overrides, words):
    code, out, errors = run(command, *overrides)
    assert code == 1
    assert words in errors
    assert errors.startswith(f"metaprune {command}: ")
    assert "Traceback" not in out + errors
    assert "never trained" not in out
