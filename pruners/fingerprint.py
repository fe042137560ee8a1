"""Fingerprints: whether two networks have the same architecture and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphs.tools.digests import digest, tensors_digest

if TYPE_CHECKING:
    from graphs import Network


def fingerprint(net: Network) -> dict[str, str]:
    """Digests that tell whether two networks have the same architecture and weights.

    Returns:
        `architecture`: of the axes and of every tensor's name, dimensions and role;
        `weights`: of a checksum of every tensor, or "none" on the meta device.
    """
    axes = [f"{axis.name}={axis.size}" for axis in net.axes.values()]
    tensors = [f"{n}:{t.role}[{', '.join(map(str, t.dims))}]" for n, t in net.tensors.items()]
    values = {name: tensor.value for name, tensor in net.tensors.items()}
    without = any(value.is_meta for value in values.values())
    return {
        "architecture": digest(*axes, *tensors),
        "weights": "none" if without else tensors_digest(values),
    }
