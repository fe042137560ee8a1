"""The dtypes of a saved network, tensor by tensor: models mix them (rotary tables, complex ones).

What is in the file says its dtype itself. Buffers that are not saved with a module are computed in
one too; theirs are written down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain

import torch
from torch import nn

from graphs.calls.names import named

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.complex128, torch.complex64),
    )
}
"""Name → dtype: those that casting a model changes."""


def unsaved(model: nn.Module) -> dict[str, str]:
    """Name → dtype of the buffers that a state dictionary lacks."""
    saved, names = model.state_dict(keep_vars=True), {d: n for n, d in DTYPES.items()}
    buffers = named(model)[1]
    return {n: names[b.dtype] for n, b in buffers if n not in saved and b.dtype in names}


def cast(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], others: Mapping[str, str]
) -> nn.Module:
    """A model whose tensors have been given the dtypes of saved ones, by name; it is changed.

    Args:
        model: any module.
        tensors: as saved. Parameters that are not among them get the dtype of most of them.
        others: from `unsaved`.

    Raises:
        ValueError: a name in `others` is no dtype.
    """
    unknown = sorted(set(map(str, others.values())) - DTYPES.keys())
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no dtype of a buffer ({', '.join(DTYPES)})")
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    dtypes |= {name: DTYPES[word] for name, word in others.items()}
    floats = Counter(t.dtype for t in tensors.values() if t.is_floating_point())
    most = floats.most_common(1)[0][0] if floats else None
    parameters = {name for name, _ in named(model)[0]}
    for name, tensor in chain(*named(model)):
        wanted = dtypes.get(name, most if name in parameters else None)
        alike = wanted is not None and (
            (tensor.is_floating_point() and wanted.is_floating_point)
            or (tensor.is_complex() and wanted.is_complex)
        )
        if wanted is not None and alike and tensor.dtype != wanted:
            tensor.data = tensor.data.to(wanted)
    return model
