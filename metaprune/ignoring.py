"""What is left dense because somebody asked: parameters by name, pattern or kind of module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from graphs import Network
from graphs.tools.registry import unknown

ASKED = "ignored, as asked"
"""Why tensors and axes are left alone, in reports."""


@dataclass(frozen=True)
class Ignored:
    """What stays as dense as it is.

    Args:
        names: of modules (with all they hold) or parameters, glob patterns of them (`"layer3.*"`),
            or names of classes of modules (`"LayerNorm"`).
        shapes: whether what they read and make keeps its width, for patterns that cut axes.
    """

    names: Sequence[str] = ()
    shapes: bool = True

    def left(self, net: Network, model: nn.Module) -> Network:
        """A network traced from the model with these parameters left alone.

        Raises:
            ValueError: a name that nothing answers to.
        """
        chosen = [tensor for name in self.names for tensor in _meant(net, model, name)]
        return net.freeze(dict.fromkeys(chosen), ASKED, shapes=self.shapes) if chosen else net


NOTHING = Ignored()


def spared(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Parameters that are meant by names of modules or parameters, glob patterns or classes.

    Raises:
        ValueError: a name that nothing answers to.
    """
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    found: dict[str, None] = {}
    for name in names:
        inside = _places(model, name)
        meant = [p for p in parameters if fnmatchcase(p, name) or p.startswith(inside)]
        if not meant and not inside:
            raise _nothing(model, name)
        found |= dict.fromkeys(meant)
    return list(found)


def _meant(net: Network, model: nn.Module, name: str) -> list[str]:
    """The tensors that one name means."""
    aliases = net.source.aliases
    inside = _places(model, name)
    found = [t for t in (*net.tensors, *aliases) if fnmatchcase(t, name) or t.startswith(inside)]
    if not inside and not found:
        raise _nothing(model, name)
    return [aliases.get(tensor, tensor) for tensor in found]


def _places(model: nn.Module, name: str) -> tuple[str, ...]:
    """Beginnings of the names of all that the modules hold which one name means."""
    return tuple(
        f"{path}." if path else ""
        for path, module in model.named_modules()
        if (path and fnmatchcase(path, name))
        or name in (kind.__name__ for kind in type(module).__mro__[:-2])
    )


def _nothing(model: nn.Module, name: str) -> ValueError:
    known = [path for path, _ in model.named_modules() if path]
    kinds = dict.fromkeys(type(module).__name__ for module in model.modules())
    return ValueError(f"ignore: {unknown('module or class', name, [*known, *kinds])}")
