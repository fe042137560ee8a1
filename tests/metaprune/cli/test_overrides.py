"""Names on the command line: a mistake is one sentence, with the nearest name there is."""

from __future__ import annotations

import pytest

from metaprune.cli.main import main
from metaprune.cli.overrides import check_overrides


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["target.mac=50%"], r'unknown setting "target.mac" \(did you mean "target.macs"'),
        (["patern=row"], r'"patern" \(did you mean "pattern"'),
        (["calibration.batchsize=3"], r'did you mean "calibration.batch_size"'),
        (["schedule.steps=3"], r"'schedule=\{one-shot: \{steps: 3\}\}'"),
        (["finetune.epochs=2"], r"give finetune=... first \(one of default\)"),
        (["model=resnet20", "model.paht=x"], r'"model.paht" \(did you mean "model.path"'),
    ],
)
def test_a_name_that_is_not_there_is_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        check_overrides("prune", overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["target.macs=[50%,25%]", "compare=[uniform,global]", "hydra.run.dir=x"],
        ["finetune=default", "finetune.epochs=2"],
        ["-m", "seed=0,1,2"],
        ["budget={rule:search,evaluations:9}", "recovery=[bias,{refit: {damping: 0.1}}]"],
        ["model=resnet20", "model.path=x", "data=cifar10", "data.path=y"],
        ["+anything=1", "++seed=3"],
    ],
)
def test_what_hydra_takes_passes(overrides):
    assert check_overrides("prune", overrides) is None


def test_the_command_says_it_in_one_line(capsys):
    with pytest.raises(SystemExit) as left:
        main(["prune", "patern=row"])
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith('metaprune prune: unknown setting "patern"')


def test_what_has_no_default_is_asked_for(tmp_path):
    with pytest.raises(SystemExit, match=r"model.path has no default: give model.path=..."):
        main(["prune", "model=resnet20", "target.macs=50%", f"hydra.run.dir={tmp_path}"])
