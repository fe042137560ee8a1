"""LoRA inside of masks: adapters of PEFT whose merged weights keep their zeros.

After Zimmer et al. 2023, "PERP" (arXiv 2312.15230), MaskLoRA: the update is W + s · M ∘ (B A), in
training as after the merge. Plain LoRA trains W + s · B A, and what is zero is gone when it is
merged, or the merge is another network than the one that was trained.
"""

from __future__ import annotations

from typing import Any

from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D


class MaskedLora(Linear):
    """A LoRA layer whose update is zero where the weight is.

    Args:
        base_layer: with the weight; its zeros are the mask.
        adapter_name, config, more: as PEFT gives them.

    Raises:
        ValueError: a kind of LoRA that is no product of two matrices.
    """

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: LoraConfig, **more: Any
    ) -> None:
        super().__init__(base_layer, adapter_name, config=config, **more)
        if self.lora_variant or any(self.lora_bias.values()):
            raise ValueError(
                "LoRA inside of masks is W + M ∘ (B A): leave use_dora, lora_bias and their like "
                "out of the configuration"
            )
        self.fan_in_fan_out = isinstance(base_layer, Conv1D)
        self.register_buffer("mask", base_layer.weight.detach() != 0, persistent=False)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """What an adapter adds, in the layout of the weight."""
        delta: Tensor = super().get_delta_weight(adapter)
        return delta * self.get_buffer("mask").to(delta.device)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The layer with its masked updates.

        Raises:
            ValueError: a batch whose examples take different adapters.
        """
        if kwargs.get("adapter_names") is not None:
            raise ValueError("LoRA inside of masks takes one adapter for a whole batch")
        if self.disable_adapters or self.merged:
            found: Tensor = super().forward(x, *args, **kwargs)
            return found
        result: Tensor = self.base_layer(x, *args, **kwargs)
        for adapter in self.active_adapters:
            if adapter not in self.lora_A:
                continue
            delta = self.get_delta_weight(adapter)
            given = self.lora_dropout[adapter](x).to(delta.dtype)
            update = F.linear(given, delta.T if self.fan_in_fan_out else delta)
            result = result + update.to(result.dtype)
        return result


def masked_lora(config: LoraConfig) -> LoraConfig:
    """Let the adapters of a configuration keep the zeros of what they are put on.

        peft.get_peft_model(model, metaprune.masked_lora(LoraConfig(r=8, target_modules=...)))

    Trained, merged (`merge_and_unload`) and saved, the model has the zeros that it had. Products of
    two matrices are made whole for every forward, as large as the weight.

    Args:
        config: of PEFT's LoRA; linear layers and `Conv1D` of transformers.

    Returns:
        The same configuration.
    """
    config._register_custom_module({nn.Linear: MaskedLora, Conv1D: MaskedLora})
    return config
