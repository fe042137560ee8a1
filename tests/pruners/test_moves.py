"""Moves are written down as text, their matrices in a file beside it, and replayed from both."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from graphs import trace
from graphs.tools.files import read_tensors, write_tensors
from pruners import Plan, PlanError
from pruners.moves import Moves, MovesError
from pruners.transformations import Rotate
from tests.graphs.symmetries.networks import OffsetNorm
from tests.pruners.transformations.networks import CASES, EXACT, outputs, request


def network(name="root mean square"):
    model, inputs = CASES[name]()
    return trace(model, inputs), model, inputs


def turning(net, *, order=True):
    axis = next(a for a, found in net.symmetries().items() if found.group == "rotations")
    draw = torch.Generator().manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(6, 6, generator=draw, dtype=torch.float64))[0]
    hidden = next(a for a, one in net.axes.items() if one.size == 10)
    orders = {hidden: torch.randperm(10, generator=draw)} if order else {}
    return Moves.of(folds=[axis], turns={axis: matrix}, orders=orders)


def plan_with(moves):
    return Plan("unstructured", "magnitude", "uniform", density={"up.weight": 0.5}, moves=moves)


def test_they_keep_the_function():
    net, model, inputs = network()
    moved = turning(net).apply(net)
    torch.testing.assert_close(
        outputs(moved.to_model(), inputs), outputs(model, inputs), rtol=1e-10, atol=1e-10
    )


def test_text_and_file_give_them_back(tmp_path):
    net, _, _ = network()
    plan = plan_with(turning(net))
    plan.save(tmp_path / "plan.json")
    found = Plan.load(tmp_path / "plan.json")
    assert found == plan
    assert found.to_json() == plan.to_json()
    first, second = plan.moved(net), found.moved(net)
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor.value, second.tensors[name].value)
    content = json.loads(plan.to_json())["moves"]
    assert list(content) == ["unties", "folds", "turns", "orders", "digest"]
    assert list(content["turns"].values()) == [[6, 6]]


def test_a_chain_keeps_the_matrices_of_every_step(tmp_path):
    net, _, _ = network()
    chain = plan_with(turning(net)).then(plan_with(turning(net, order=False)))
    chain.save(tmp_path / "plan.json")
    found = Plan.load(tmp_path / "plan.json")
    assert found == chain
    for step, own in zip(found.steps, chain.steps, strict=True):
        assert step.moves.tensors.keys() == own.moves.tensors.keys()


@pytest.mark.parametrize("names", [("half-0.5", "half-0.7"), ("plan.first", "plan.second")])
def test_plans_beside_each_other_keep_their_own_matrices(tmp_path, names):
    net, _, _ = network()
    plans = plan_with(turning(net)), plan_with(turning(net, order=False))
    for name, plan in zip(names, plans, strict=True):
        plan.save(tmp_path / name)
    for name, plan in zip(names, plans, strict=True):
        assert Plan.load(tmp_path / name) == plan


def test_a_plan_without_its_file_is_refused(tmp_path):
    net, _, _ = network()
    plan = plan_with(turning(net))
    plan.save(tmp_path / "plan.json")
    (tmp_path / "plan.moves.safetensors").unlink()
    with pytest.raises(
        PlanError, match=r"turns axes by matrices, which lie in .*plan\.moves\.safetensor"
    ):
        Plan.load(tmp_path / "plan.json")
    text = Plan.from_json(plan.to_json())
    with pytest.raises(PlanError, match="matrices that are not here"):
        text.moved(net)


@pytest.mark.parametrize("where", [(True,), (False, True), (True, False)])
def test_a_plan_whose_matrices_are_not_here_is_not_saved(tmp_path, where):
    net, _, _ = network()
    plan = plan_with(turning(net))
    (tmp_path / "plan.json").write_text("another plan")
    text = Plan.from_json(plan.to_json())
    first, *rest = (text if bare else plan for bare in where)
    for step in rest:
        first = first.then(step)
    with pytest.raises(PlanError, match="matrices that are not here"):
        first.save(tmp_path / "plan.json")
    assert (tmp_path / "plan.json").read_text() == "another plan"
    assert len(list(tmp_path.iterdir())) == 1


def test_other_matrices_are_refused(tmp_path):
    net, _, _ = network()
    plan_with(turning(net)).save(tmp_path / "plan.json")
    path = tmp_path / "plan.moves.safetensors"
    tensors, _ = read_tensors(path)
    name = next(n for n in tensors if "turns" in n)
    write_tensors(path, {**tensors, name: tensors[name] * -1})
    with pytest.raises(PlanError, match="are others than those that the plan was made with"):
        Plan.load(tmp_path / "plan.json")
    write_tensors(path, {n: t for n, t in tensors.items() if n != name})
    with pytest.raises(PlanError, match="is missing among the matrices"):
        Plan.load(tmp_path / "plan.json")
    path.write_bytes(b"no tensors")
    with pytest.raises(PlanError, match="not a readable safetensors file"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("kind", ["turns", "orders"])
def test_edited_turns_and_orders_are_refused(tmp_path, kind):
    plan = plan_with(turning(network()[0]))
    plan.save(tmp_path / "plan.json")
    content = json.loads(plan.to_json())
    axis = next(iter(content["moves"][kind]))
    for other in ({axis: [3, 3] if kind == "turns" else 3}, {}):
        edited = {**content, "moves": {**content["moves"], kind: other}}
        (tmp_path / "plan.json").write_text(json.dumps(edited))
        with pytest.raises(PlanError, match="and its turns and orders as they are"):
            Plan.load(tmp_path / "plan.json")


def test_a_plan_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path):
    net, _, _ = network()
    plan = plan_with(turning(net))
    plan.save(tmp_path / "plan.json")
    unwritable = replace(plan_with(turning(net, order=False)), provenance={"loss": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        unwritable.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


def test_a_network_that_does_not_allow_them_is_refused_with_the_reason():
    net, _, _ = network()
    moves = turning(net)
    axis = next(iter(moves.turns))
    other = replace(moves, turns={}, orders={}, folds=(), unties=("up.weight",))
    with pytest.raises(PlanError, match="does not allow the transformation of the plan"):
        plan_with(other).moved(net)
    bent = Moves.of(folds=[axis], turns={axis: torch.ones(6, 6)})
    with pytest.raises(PlanError, match="the matrix must be orthogonal"):
        plan_with(bent).moved(net)
    with pytest.raises(PlanError, match="no axis 'elsewhere'"):
        plan_with(Moves.of(orders={"elsewhere": torch.arange(3)})).moved(net)


def plain(model):
    """The model with norms that tell no units apart: scales of one, as a fresh one has them."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            path, _, kind = name.rpartition(".")
            if "norm" in type(model.get_submodule(path)).__name__.lower():
                one = kind == "weight" and not isinstance(model.get_submodule(path), OffsetNorm)
                value.fill_(float(one or kind == "running_var"))
    return model


@pytest.mark.parametrize("way", ["to scales of its own", "from scales to ones"])
@pytest.mark.parametrize("name", CASES)
def test_checkpoints_whose_norms_ask_for_other_folds_take_them(name, way):
    model, inputs = CASES[name]()
    made, other = (
        (plain(CASES[name]()[0]), model)
        if way.startswith("to")
        else (model, plain(CASES[name]()[0]))
    )
    net = trace(made, inputs)
    moves = Rotate(0).find(request(net, made)).moves
    assert moves.turns
    target = trace(other, inputs)
    ties = {u.name for found in target.symmetries().values() for u in found.unties}
    if ties - {*moves.unties}:
        with pytest.raises(MovesError, match=r"untie .* first \(`untie`\); make a new plan for it"):
            moves.apply(target)
        return
    found, expected = outputs(moves.apply(target).to_model(), inputs), outputs(other, inputs)
    assert (found - expected).abs().max() < EXACT[name] * expected.abs().max()


@pytest.mark.parametrize(
    "content", [3, {}, {"unties": "all", "folds": [], "turns": {}, "orders": {}, "digest": ""}]
)
def test_what_is_no_text_of_moves_is_refused(content):
    text = json.loads(plan_with(None).to_json())
    with pytest.raises(PlanError, match='"moves" of the plan cannot be read'):
        Plan.from_json(json.dumps({**text, "moves": content}))


def test_one_after_the_other():
    net, _, _ = network()
    first = turning(net, order=False)
    axis = next(iter(first.turns))
    second = Moves.of(orders={axis: torch.tensor([1, 0, 2, 3, 5, 4])})
    third = Moves.of(orders={axis: torch.tensor([5, 0, 2, 1, 3, 4])})
    together = first.then(second).then(third).apply(net)
    apart = third.apply(second.apply(first.apply(net)))
    for name, tensor in apart.tensors.items():
        assert torch.equal(tensor.value, together.tensors[name].value)
    assert Moves().then(first) == first
    assert not Moves()
    with pytest.raises(ValueError, match="cannot undo ties, fold or turn again"):
        second.then(first)


def test_moves_errors_are_value_errors():
    assert issubclass(MovesError, ValueError)
