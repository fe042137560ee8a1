"""`nn.MultiheadAttention` whose heads need not be, together, as wide as its input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class AnyWidthAttention(nn.MultiheadAttention):
    """Multi-head attention whose widths are those of its weights.

        y = W_o [softmax(s q_h k_hᵀ) v_h]_h + b_o,   q = W_q x + b_q,  k and v alike

    torch's class takes the width of a head from that of its input, which the heads that are left
    need not make up. Everything else is as there (Vaswani et al. 2017): arguments, results, names
    of tensors; nested tensors and its fused kernels are not for other widths.

    Shapes:
        query (N, L, E), key (N, S, kdim), value (N, S, vdim), where `batch_first`, else (L, N, E)
        and so on; without N for one example. W_q (heads · d, E), W_o (E, heads · d').
    """

    scale: float
    """s: one over the square root of the width of a head as it was trained."""

    @staticmethod
    def fits(module: nn.MultiheadAttention) -> bool:
        """Whether torch's own forward can run with the weights of a module."""
        width, heads = module.out_proj.weight.shape
        packed = module.in_proj_weight
        if packed is not None:
            rows = {3 * heads, packed.shape[0]}
        else:
            rows = {
                3 * heads,
                3 * module.q_proj_weight.shape[0],
                3 * module.k_proj_weight.shape[0],
            }
        return rows == {3 * width}

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See `nn.MultiheadAttention`; `is_causal` is a hint that `attn_mask` already says."""
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        single = query.dim() == 2
        given = (query, key, value)
        if single:
            given = tuple(x.unsqueeze(0) for x in given)
        elif not self.batch_first:
            given = tuple(x.transpose(0, 1) for x in given)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, (weight, bias) in zip(given, self._projections(), strict=True)
        )  # (batch, heads, length, width of a head)
        mask = self._mask(q, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (self.scale * q) @ k.transpose(-1, -2)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            heads = F.dropout(weights, dropout) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        y = self.out_proj(heads.transpose(1, 2).flatten(2))
        if single:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    def _projections(self) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
        """(weight, bias) of queries, keys and values."""
        values = self.out_proj.weight.shape[1]
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        else:
            keys = (self.in_proj_weight.shape[0] - values) // 2
            weights = list(self.in_proj_weight.split((keys, keys, values)))
        if self.in_proj_bias is None:
            return [(weight, None) for weight in weights]
        biases = self.in_proj_bias.split([weight.shape[0] for weight in weights])
        return list(zip(weights, biases, strict=True))

    def _mask(
        self, q: torch.Tensor, attention: torch.Tensor | None, padding: torch.Tensor | None
    ) -> torch.Tensor | None:
        """What is added to the scores, (batch or 1, heads or 1, L or 1, S)."""
        found: torch.Tensor | None = None
        if attention is not None:
            found = _added(attention, q.dtype)
            if found.dim() == 3:
                found = found.view(q.shape[0], self.num_heads, *found.shape[1:])
        if padding is not None:
            keys = _added(padding, q.dtype).view(q.shape[0], 1, 1, -1)
            found = keys if found is None else found + keys
        return found


def _added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as numbers to add: minus infinity where a boolean one is true."""
    if mask.dtype is not torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))


def widen(model: nn.Module, source: nn.Module) -> int:
    """Let the attention of torch in a module take its weights where its own forward cannot.

    Args:
        model: changed in place: `nn.MultiheadAttention` becomes `AnyWidthAttention`.
        source: the same before its shapes changed.

    Returns:
        How many are of another width than torch's own can be.
    """
    changed = [(path, m) for path, m in model.named_modules() if _needs_width(m)]
    for path, module in changed:
        module.__class__ = AnyWidthAttention
        module.scale = source.get_submodule(path).head_dim ** -0.5
        # Layers of torch ask this before they hand the weights to a fused kernel.
        module._qkv_same_embed_dim = False
    for path, module in model.named_modules():
        if isinstance(module, nn.TransformerEncoder):
            inside = any(name.startswith(f"{path}." if path else "") for name, _ in changed)
            module.use_nested_tensor = module.use_nested_tensor and not inside
    return len(changed)


def _needs_width(module: nn.Module) -> bool:
    if type(module) not in (nn.MultiheadAttention, AnyWidthAttention):
        return False
    plain = module.bias_k is None and not module.add_zero_attn
    return plain and not AnyWidthAttention.fits(module)
