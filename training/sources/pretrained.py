"""Networks of the transformers library, by folder or hub name."""

from __future__ import annotations

import torch
from torch import nn

from training.sources.registry import source


@source("transformers")
def from_transformers(
    *, path: str, dtype: str = "float32", attention: str = "sdpa", meta: bool = False
) -> nn.Module:
    """Load a transformers model by folder or hub name, with the class that its config names.

    Args:
        path: folder with config.json and safetensors, or hub name.
        dtype: of the weights: `float32`, `bfloat16` or `float16`.
        attention: implementation, `sdpa` or `eager`.
        meta: build it on the meta device, without weights: config.json is all that is read.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
    names = list(config.architectures or [])
    cls = getattr(transformers, names[0], None) if names else None
    config.use_cache = False  # a cache is a second output, which no analysis needs
    if meta:
        with torch.device("meta"):
            build = cls._from_config if cls else transformers.AutoModel.from_config
            return build(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    return (cls or transformers.AutoModel).from_pretrained(
        path,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=False,
    )
