"""Where networks come from: `load(source, **options) -> nn.Module`, in evaluation mode.

- `load("family", family="cifar_resnet", options={"depth": 20}, path="resnet20.th")`
- `load("transformers", path="folder or hub name")`
- `load("member", path="zoo/held_out/residual-1000000")`
- `load("function", function="package.module:function", options={...}, path=...)`

`registry` finds a source by name; each source is one file (`family`, `pretrained`, `member`,
`function`), and a file of yours that registers one is as good. `building` calls builders and reads
checkpoints for all of them.
"""

from __future__ import annotations

from training.sources import family, function, member, pretrained
from training.sources.building import read_checkpoint
from training.sources.registry import SOURCES, check_settings, load, load_settings, source

__all__ = [
    "SOURCES",
    "check_settings",
    "family",
    "function",
    "load",
    "load_settings",
    "member",
    "pretrained",
    "read_checkpoint",
    "source",
]
