"""Why a model cannot be exported, in a sentence, with the place in its code and the remedy.

torch.export fails in many words; `CAUSES` reads them. A new cause is one line of the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.errors import TraceError
from graphs.places import place_of_error

LONGEST = 160
"""Characters of torch's own words that are repeated."""


@dataclass(frozen=True)
class Cause:
    """Errors that mean the same.

    Args:
        sign: regular expression, searched in "TypeName: message"; its groups fill `{0}` and
            so on of the texts.
        reason: what the forward does that cannot be exported.
        remedy: what to do.
    """

    sign: str
    reason: str
    remedy: str


CAUSES = (
    Cause(
        r"GuardOnDataDependent.*(specialized integer|specialize)",
        "its forward turns the values of a tensor into a Python number (int, item, range, a size)",
        "Pass the number as an argument or keep it in the configuration; keep tensors as tensors.",
    ),
    Cause(
        r"GuardOnDataDependent|DataDependentOutput|torch\.equal|dynamic control flow"
        r"|bool.* on .*(fake|traced)|Dynamo.*torch\.cond",
        "its forward decides by the values of a tensor (if, while, assert, bool)",
        "Compute both sides and choose with torch.where, write it as torch.cond, or move the "
        "decision out of forward.",
    ),
    Cause(
        r"DynamicOutputShape",
        "the shape of a result depends on the values of a tensor",
        "Use a mask over a fixed shape (torch.where) instead of selecting, or move the selection "
        "out of forward.",
    ),
    Cause(
        r"no fake impl registered for <CustomOpDef\(([\w:]+)\)>",
        "the custom operator {0} does not say what shape it returns",
        'Register that with @torch.library.register_fake("{0}"), a function of the same '
        "arguments that returns an empty tensor of the right shape.",
    ),
    Cause(
        r"UnsupportedOperatorException: (?!aten\.|prims\.)([\w.]+?)(?:\.default)?(?:\s|$)",
        "the custom operator {0} does not say what shape it returns",
        "Register that with torch.library.register_fake, a function of the same arguments that "
        "returns an empty tensor of the right shape.",
    ),
    Cause(
        r"data pointer|data_ptr|storage.*(fake|invalid)",
        "its forward hands the memory of a tensor to code outside torch (C++, CUDA, Triton)",
        "Wrap that call in torch.library.custom_op and register its shapes with register_fake.",
    ),
    Cause(
        r"\.numpy\(\)|numpy",
        "its forward leaves torch for NumPy",
        "Use the torch operation of the same name.",
    ),
    Cause(
        r"Found <class '([\w.]+)'> in output|register a pytree|not a known type|Unsupported input",
        "its forward takes or returns an object that is neither a tensor nor made of tensors",
        "Return tensors, tuples or dicts of them; register a class of your own with "
        "torch.export.register_dataclass.",
    ),
    Cause(
        r"UnsupportedOperatorException: ([\w.]+)|[Ss]parse",
        "an operator has no form that torch.export can trace for these tensors",
        "Use dense tensors, and an operator that works on the meta device.",
    ),
    Cause(
        r"register_full_backward|backward hook",
        "hooks on its backward pass cannot be exported",
        "Remove them before (`handle.remove()`).",
    ),
    Cause(
        r"torch\.compiler\.disable",
        "a part of it is excluded from compilation (torch.compiler.disable)",
        "Trace the module without that wrapper.",
    ),
)

UNKNOWN = Cause(
    "",
    "torch.export gives up",
    "`torch.export.export(model, args, strict=False)` shows the whole of it; usual causes are "
    "control flow or shapes that depend on values. Move that part out of forward.",
)


def not_exportable(model: nn.Module, error: BaseException) -> TraceError:
    """What to tell of an error that torch.export raised."""
    text = f"{type(error).__name__}: {error}"
    cause, found = UNKNOWN, None
    for one in CAUSES:
        found = re.search(one.sign, text, re.DOTALL)
        if found:
            cause = one
            break
    words = [group or "" for group in found.groups()] if found else []
    reason, remedy = cause.reason.format(*words), cause.remedy.format(*words)
    return TraceError(
        f"torch.export cannot export {type(model).__name__}: {reason}",
        place=place_of_error(error),
        remedy=f"{remedy} torch.export says: {first_line(error)}.",
    )


def not_running(model: nn.Module, inputs: Any, error: BaseException) -> TraceError:
    """What to tell of an error of the model on its example inputs."""
    what = (
        f"{type(model).__name__} does not run on the example inputs ({described(inputs)}): "
        f"{first_line(error)}"
    )
    held, given = devices(model), _devices_of(inputs)
    if held and given and held != given:
        both = f"its parameters are on {_listed(held)}, the inputs on {_listed(given)}"
        remedy = f"Move the inputs to the model, with `.to({min(held)!r})`: {both}."
        if "meta" in held and len(held) > 1:
            remedy = (
                f"Give it all its weights, or none: {_listed(held)} are mixed, with "
                f"{_some(_on(model, 'meta'))} on the meta device, which has no values."
            )
    elif held == {"meta"} and "Dynamic" in type(error).__name__:
        remedy = "A shape depends on values: trace with weights, not on the meta device."
    else:
        remedy = "Pass inputs of the shapes and dtypes its forward expects."
    return TraceError(what, place=place_of_error(error), remedy=remedy)


def devices(model: nn.Module) -> set[str]:
    """Devices of parameters and buffers, as text."""
    return {str(t.device) for t in (*model.parameters(), *model.buffers())}


def _on(model: nn.Module, device: str) -> list[str]:
    return [name for name, p in model.named_parameters() if str(p.device) == device]


def _devices_of(inputs: Any) -> set[str]:
    return {str(v.device) for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)}


def _listed(names: set[str]) -> str:
    return " and ".join(sorted(names))


def _some(names: list[str], most: int = 2) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def first_line(error: BaseException) -> str:
    """`Type: the first line of the message`, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0].rstrip(".! ") if lines else ""
    short = line if len(line) <= LONGEST else line[:LONGEST].rsplit(" ", 1)[0] + " …"
    return f"{type(error).__name__}: {short}"


def described(inputs: Any) -> str:
    """`float32[2, 3, 8, 8], int64[2, 7]`: the tensors of example inputs."""
    tensors = [
        f"{str(v.dtype).removeprefix('torch.')}{list(v.shape)}"
        for v in pytree.tree_leaves(inputs)
        if isinstance(v, torch.Tensor)
    ]
    return ", ".join(tensors) or "no tensors"
