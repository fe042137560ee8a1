"""Models that cannot be traced, each with what must be said of it; a line in each is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Builder = Callable[[], type[nn.Module]]
REFUSED: dict[str, tuple[type[nn.Module], str]] = {}


def refused(words: str) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Register a class whose error must match `words`, a regular expression."""

    def register(cls: type[nn.Module]) -> type[nn.Module]:
        REFUSED[cls.__name__] = (cls, words)
        return cls

    return register


class Two(nn.Module):
    """Two linear maps, to be broken between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)


@refused(r"decides by the values of a tensor.*torch\.where")
class Branch(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        if h.sum() > 0:  # here
            h = -h
        return self.b(h)


@refused(r"decides by the values of a tensor.*torch\.cond")
class Loop(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        while h.norm() > 1:  # here
            h = h / 2
        return self.b(h)


@refused("decides by the values of a tensor")
class Assertion(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.isnan(x).any()  # here
        return self.b(self.a(x))


@refused("turns the values of a tensor into a Python number.*as an argument")
class Number(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = int(x.abs().sum().item()) % 3  # here
        return self.b(self.a(x)) * steps


@refused("turns the values of a tensor into a Python number")
class Range(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x[0, 0].abs().item()) + 1):  # here
            x = x + 1
        return self.b(self.a(x))


@refused("leaves torch for NumPy.*torch operation")
class Leaves(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.from_numpy(self.a(x).detach().numpy() * 2)  # here
        return self.b(h)


@refused("neither a tensor nor made of tensors.*register_dataclass")
class Returns(Two):
    def forward(self, x: torch.Tensor) -> Any:
        return {"y": self.b(self.a(x)), "extra": object()}


@torch.library.custom_op("metaprune_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """An operator of unknown shape."""
    return x * 2


@refused(r"metaprune_tests::twice does not say what shape it returns.*register_fake")
class WithoutShape(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.ops.metaprune_tests.twice(self.a(x)))  # here


_library = torch.library.Library("metaprune_plain", "DEF")
_library.define("five(Tensor x) -> Tensor")
_library.impl("five", lambda x: x * 5, "CPU")


@refused(r"custom operator metaprune_plain\.five does not say what shape it returns")
class WithoutMeta(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.ops.metaprune_plain.five(self.a(x)))  # here


@refused("hands the memory of a tensor to code outside torch")
class Pointer(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        h.data_ptr()  # here
        return self.b(h)


@refused(r"does not run on the example inputs.*shape '\[-1, 5\]' is invalid.*shapes and dtypes")
class Broken(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).reshape(-1, 5))  # here


def marked_line(cls: type[nn.Module]) -> int | None:
    """The line of the class that is marked `# here`."""
    import inspect

    lines, start = inspect.getsourcelines(cls)
    found = [i for i, line in enumerate(lines) if "# here" in line]
    return start + found[0] if found else None
