"""torch.export, run so that its result can be read, rewritten and run again."""

from __future__ import annotations

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim as ExportDim
from torch.utils import _pytree as pytree

from graphs.calls.diagnosis import not_exportable, not_running
from graphs.calls.independence import refuse_foreign
from graphs.calls.open_sizes import hint_open_sizes
from graphs.calls.recording import Recorded, record, record_training
from graphs.calls.running import (
    Inputs,
    as_written,
    forget,
    forward,
    outputs,
    quiet,
    quiet_evaluation,
    seeded,
)
from graphs.errors import TraceError

_GUARDS = "_guards_fn"
"""Name that `torch.export` gives to the module of its guards."""


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep torch.export's own account of a failure off the terminal: ours says more."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            # Of forwards that keep something for their next call: of a copy, to be thrown away.
            warnings.filterwarnings("ignore", "The tensor attributes? .* assigned during export")
            yield
    finally:
        logger.disabled = disabled


def _two_examples(inputs: Inputs) -> Inputs:
    """Inputs with a batch of one doubled: export would otherwise bake the number 1 in."""
    leaves = [v for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
    if not leaves or any(v.dim() == 0 or v.shape[0] != 1 for v in leaves):
        return inputs
    doubled: Inputs = pytree.tree_map_only(torch.Tensor, lambda v: torch.cat([v, v]), inputs)
    return doubled


def open_dimensions(value: Any, every: bool = False) -> Any:
    """What `torch.export` takes for an input whose first (or every) size is left open."""
    if not isinstance(value, torch.Tensor) or not value.dim():
        return None
    return dict.fromkeys(range(value.dim() if every else 1), ExportDim.AUTO)


def capture(
    model: nn.Module, inputs: Inputs, original: nn.Module | None = None
) -> Recorded | fx.GraphModule:
    """The ATen calls of a forward: recorded in one pass, or exported where that does not do.

    Args:
        model: in any mode; left as it was.
        inputs: what it runs on.
        original: what the model is a copy of, whose tensors it may not use.

    Raises:
        TraceError: the model does not run on the inputs, uses tensors of the original, or
            torch.export cannot export it.
    """
    with quiet_evaluation(model), as_written(model):
        try:
            return record(model, *inputs, original)
        except TraceError:
            raise
        except Exception as error:  # torch.export finds out what is wrong and says it
            _forget_compiled(error)
    return export(model, inputs, original)


def _forget_compiled(error: Exception) -> None:
    """Let forwards run again that failed to compile while they were recorded (torch.cond)."""
    if "HigherOrderOperator" in str(error):
        torch._dynamo.reset()


def capture_training(copied: nn.Module, inputs: Inputs, original: nn.Module) -> Recorded | None:
    """The ATen calls of a forward in training mode; None where one pass does not tell them.

    Args:
        copied: a copy to throw away.
        inputs: what it runs on; with one example twice where it takes no single one.
        original: what it is a copy of, whose tensors it may not use.

    Raises:
        TraceError: it uses tensors of the original.
    """
    with quiet(copied, training=True), as_written(copied), seeded():
        for args, kwargs in (inputs, _two_examples(inputs)):
            try:
                return record_training(copied, args, kwargs, original)
            except TraceError:
                raise
            except Exception as error:  # it wants targets, looks at values, takes no one example
                _forget_compiled(error)
            finally:
                outputs(copied, inputs)  # whoever keeps something of it keeps real values
    return None


def export(
    model: nn.Module,
    inputs: Inputs,
    original: nn.Module | None = None,
    *,
    every_size: bool = False,
) -> fx.GraphModule:
    """One flat graph of ATen calls, with a batch dimension left open wherever the model allows it.

    Args:
        model: in any mode; left as it was.
        inputs: what it runs on.
        original: what the model is a copy of, whose tensors it may not use.
        every_size: leave all sizes of the inputs open that the model allows, not only the first.

    Raises:
        TraceError: the model does not run on the inputs, uses tensors of the original, or
            torch.export cannot export it.
    """
    args, kwargs = inputs
    with quiet_evaluation(model), as_written(model), torch.no_grad():
        try:
            forward(model, args, kwargs)
        except Exception as error:
            raise not_running(model, inputs, error) from error
        forget(model)  # what it keeps for its next call would be a constant of the program
        attempts = [(_two_examples(inputs), True), (inputs, False)]
        for (args, kwargs), dynamic in attempts:
            shapes = None
            if dynamic:
                shapes = pytree.tree_map(lambda v: open_dimensions(v, every_size), args or kwargs)
                if args and kwargs:
                    continue
            try:
                with _quiet_export():
                    program = torch.export.export(
                        model, args, kwargs, dynamic_shapes=shapes, strict=False
                    )
                break
            except Exception as error:
                if not dynamic:
                    raise not_exportable(model, error) from error
    module = program.module(check_guards=True)
    _set_guards_apart(module)
    _inline(module)
    if original is not None:
        refuse_foreign(module, model, original)
    hint_open_sizes(module, (args, kwargs))
    for node in reversed(list(module.graph.nodes)):
        # Assertions on dtype and device would forbid casting or moving the result.
        asserted = "_assert_tensor_metadata" in str(node.target)
        if not node.users and (node.op == "get_attr" or asserted):
            module.graph.erase_node(node)
    return module


def guards_of(module: nn.Module) -> nn.Module | None:
    """What a program that `torch.export` made asks of its inputs: a module that takes all of them
    and raises `AssertionError` where they have sizes that the program would be wrong for.
    """
    found = getattr(module, _GUARDS, None)
    return found if isinstance(found, nn.Module) else None


def _set_guards_apart(module: fx.GraphModule) -> None:
    """Leave calls of the forward alone in the graph; the guards stay beside it."""
    for node in list(module.graph.nodes):
        if node.op == "call_module" and node.target == _GUARDS:
            module.graph.erase_node(node)
    module.recompile()


def _inline(module: fx.GraphModule) -> None:
    """Replace `wrap_with_set_grad_enabled` and its kind by the calls they wrap."""
    graph = module.graph
    for node in list(graph.nodes):
        inner = [
            i
            for i, a in enumerate(node.args)
            if isinstance(a, fx.Node)
            and a.op == "get_attr"
            and isinstance(attribute(module, str(a.target)), fx.GraphModule)
        ]
        if node.op != "call_function" or len(inner) != 1:
            continue
        if not str(node.target).startswith("wrap_with"):
            continue
        wrapped = node.args[inner[0]]
        sub = attribute(module, wrapped.target)
        _inline(sub)
        operands = node.args[inner[0] + 1 :]
        places = [n for n in sub.graph.nodes if n.op == "placeholder"]
        values = dict(zip(places, operands, strict=True))
        with graph.inserting_before(node):
            results = graph.graph_copy(sub.graph, values)
        for copied in values.values():
            if isinstance(copied, fx.Node) and copied.op == "get_attr" and copied not in operands:
                copied.target = f"{wrapped.target}.{copied.target}"
        results = results if isinstance(results, tuple | list) else (results,)
        for user in list(node.users):
            assert user.target is operator.getitem
            user.replace_all_uses_with(results[user.args[1]])
            graph.erase_node(user)
        graph.erase_node(node)
    module.recompile()


def attribute(module: nn.Module, target: str) -> Any:
    """`module.a.b` for `"a.b"`."""
    for part in target.split("."):
        module = getattr(module, part)
    return module
