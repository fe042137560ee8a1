"""The laws as assertions."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from graphs import Axis, Network, trace
from graphs.build.compare import agree
from graphs.build.rebuild import graph_model
from graphs.calls.running import as_inputs, outputs
from metaprune.testing.alterations import reordered
from metaprune.testing.checking import gap
from metaprune.testing.independence import independence_law, outputs_of
from metaprune.testing.matrices import matrix_law
from metaprune.testing.permutations import batches, orders, permutation_law
from metaprune.testing.removal import removal_law
from metaprune.testing.scales import scale_law
from metaprune.testing.sizes import sizes_law
from metaprune.testing.subject import prepared
from metaprune.testing.training import training_law

TOLERANCE = 1e-10


class Metanetwork(Protocol):
    """What `assert_equivariant` needs of a metanetwork; see `metanet.MetaNetwork`."""

    def __call__(self, net: Network, evidence: Any, target: float) -> Any:
        """The `metanet.Transformation` of a network."""


def assert_round_trip(model: nn.Module, example_inputs: Any, *, net: Network | None = None) -> None:
    """A module comes back from its network bit for bit: state, ties, class, function, flags.

    And it trains as the model does, also when it is smaller (`metaprune.testing.training`), is one
    of its own (`metaprune.testing.independence`), and what was cut is right for every size of
    inputs that it takes (`metaprune.testing.sizes`).

    Args:
        model: any traceable module, in any dtype and on any device.
        example_inputs: tuple of arguments or dict of keywords.
        net: its network; traced when None.

    Raises:
        AssertionError: naming the first thing that differs.
    """
    net = net or trace(model, example_inputs)
    back = came_back(model, example_inputs, net)
    inputs = as_inputs(example_inputs)
    training_law(model, back, net, inputs)[0].require()
    independence_law(model, back, net, inputs).require()
    sizes_law(net, inputs, TOLERANCE).require()


def came_back(model: nn.Module, example_inputs: Any, net: Network) -> nn.Module:
    """The module of a network, once it is the model bit for bit; see `assert_round_trip`.

    Raises:
        AssertionError: naming the first thing that differs.
    """
    versions = {name: value._version for name, value in model.state_dict(keep_vars=True).items()}
    back = net.to_model()
    before, after = model.state_dict(keep_vars=True), back.state_dict(keep_vars=True)
    assert list(before) == list(after), f"state-dict names differ: {set(before) ^ set(after)}"
    for name, value in before.items():
        other = after[name]
        same = value.dtype == other.dtype and torch.equal(value, other)
        assert same, f"{name} came back with other values, shape or dtype"
        assert value.device == other.device, f"{name} came back on {other.device}"
        assert value.requires_grad == other.requires_grad, f"{name}: requires_grad changed"
        assert value._version == versions[name], f"{name} of the original was written to"
    assert _ties(model) == _ties(back), "other parameters are tied"
    assert type(back) is type(model), f"a {type(model).__name__} came back as {type(back).__name__}"
    assert back.training == model.training, "the training flag changed"
    inputs = as_inputs(example_inputs)
    expected, got = outputs_of(model, inputs), outputs(back, inputs)
    assert not isinstance(expected, Exception), f"the model does not run: {expected}"
    assert not isinstance(got, Exception), f"what came back does not run: {got}"
    for a, b in zip(expected, got, strict=True):
        assert _identical(a, b), f"outputs differ by {gap([a], [b])}"
    program = outputs(graph_model(net), inputs)
    assert agree(program, expected), (
        "the traced program, which all other laws are about, computes something else"
        + (f": {program}" if isinstance(program, Exception) else "")
    )
    return back


def _identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal entry by entry, where nothing is equal to nothing (NaN)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _ties(model: nn.Module) -> set[frozenset[str]]:
    """Sets of names of one and the same parameter."""
    names: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}


def assert_permutation_invariant(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    one_by_one: bool | None = None,
) -> None:
    """Permuting the units of axes that are not frozen leaves the function as it is.

    All axes at once first, then apart; see `metaprune.testing.permutations.batches`.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and permutations.
        tolerance: largest difference of any output, relative to its largest magnitude above 1.
        one_by_one: every axis alone (True), in sets that tell any two axes apart (False), or alone
            up to 32 axes (None).

    Raises:
        AssertionError: naming the axis, its tensors, the deviation and the first operator where it
            shows.
    """
    permutation_law(prepared(subject, example_inputs, seed), tolerance, one_by_one).require()


def assert_scale_invariant(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> None:
    """Scaling units where they are made, and back where they are read, leaves the function.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and factors.
        tolerance: largest difference of any output, relative to its largest magnitude above 1.

    Raises:
        AssertionError: naming the axis.
    """
    checked, _ = scale_law(prepared(subject, example_inputs, seed), tolerance)
    checked.require()


def assert_rotation_invariant(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> None:
    """Turning axes by random members of their groups of matrices leaves the function as it is.

    Rotations where a mean of squares is taken, invertible matrices elsewhere; see
    `graphs.symmetries`. Norms are folded and ties undone first, where the group asks for that.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and matrices.
        tolerance: largest difference of any output, relative to its largest magnitude above 1.

    Raises:
        AssertionError: naming the axis.
    """
    checked, _ = matrix_law(prepared(subject, example_inputs, seed), tolerance)
    checked.require()


def assert_lossless(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    one_by_one: bool = False,
) -> None:
    """Removing dead units does what the class of exactness of their axis says.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and of the choice of units.
        tolerance: largest difference of any output, relative to its largest magnitude above 1, in
            class exact; the classes that are repaired or restated get at least 1e-9.
        one_by_one: remove from each axis alone as well as from all of a class at once.

    Raises:
        AssertionError: naming the axis and the class.
    """
    found = removal_law(prepared(subject, example_inputs, seed), tolerance, one_by_one)
    failures = [failure for removal in found for failure in removal.checked.failures]
    assert not failures, "\n".join(failures)


def assert_equivariant(
    metanet: Metanetwork,
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    target: float = 0.5,
    seed: int = 0,
    tolerance: float = 1e-9,
    one_by_one: bool | None = None,
) -> None:
    """What a metanetwork says of a permuted network is what it says of the network, permuted.

    Args:
        metanet: (network, evidence or None, target) → `metanet.Transformation`.
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        target: share that stays, which the metanetwork is told.
        seed: of weights and permutations.
        tolerance: largest difference of any number.
        one_by_one: as in `assert_permutation_invariant`.

    Raises:
        AssertionError: naming the axes and what differs.
    """
    prepared_subject = prepared(subject, example_inputs, seed)
    net = prepared_subject.net
    with torch.no_grad():
        plain = metanet(net, None, target)
        for axes in batches(prepared_subject.free(), one_by_one):
            order = orders(axes, prepared_subject.generator)
            moved = net
            for axis in axes:
                moved = moved.permute(axis.name, order[axis.name])
            _assert_permuted(net, axes, order, plain, metanet(moved, None, target), tolerance)


def _assert_permuted(
    net: Network, axes: list[Axis], order: Any, plain: Any, moved: Any, tolerance: float
) -> None:
    permuted = {
        **{f"values of {n}": reordered(net, n, order, v) for n, v in plain.values.items()},
        **{
            f"unit logits of {n}": v[order[n]] if n in order else v
            for n, v in plain.unit_logits.items()
        },
    }
    expected, got = permuted | _scalars(plain), _said(moved) | _scalars(moved)
    what = f"permuting {axes[0].name}" if len(axes) == 1 else f"permuting {len(axes)} axes"
    assert expected.keys() == got.keys(), f"other names after {what}"
    for name, value in expected.items():
        by = gap([value], [got[name]])
        assert by <= tolerance, f"{what} changed {name} by {by:.3g}"


def _said(moved: Any) -> dict[str, torch.Tensor]:
    return {
        **{f"values of {n}": v for n, v in moved.values.items()},
        **{f"unit logits of {n}": v for n, v in moved.unit_logits.items()},
    }


def _scalars(said: Any) -> dict[str, torch.Tensor]:
    return {
        **{f"axis logit of {n}": v for n, v in said.axis_logits.items()},
        **{f"tensor logit of {n}": v for n, v in said.tensor_logits.items()},
    }
