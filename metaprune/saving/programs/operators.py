"""What a graph may call: operators that compute tensors of tensors, by name.

A name is known if there is a rule for it (`graphs.rules`), which holds for operators of the user's
own that have been registered in this process, or if it stands here. None of them reads or writes
files, takes over memory, or runs other code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

from graphs.rules.registry import RULES, lookup

ATEN = frozenset(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata
    _batch_norm_impl_index _cdist_forward _convolution _convolution_mode _ctc_loss _cummax_helper
    _cummin_helper _dim_arange _embedding_bag_forward_only _euclidean_dist _fft_c2c _fft_c2r
    _fft_r2c _foreach_add _foreach_mul _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_dropout _int_mm
    _is_all_true _is_any_true _linalg_det _linalg_eigh _linalg_eigvals _linalg_slogdet
    _linalg_solve_ex _linalg_svd _local_scalar_dense _logcumsumexp _masked_softmax
    _native_batch_norm_legit _native_batch_norm_legit_functional _native_multi_head_attention
    _neg_view _pack_padded_sequence _pad_circular _pad_enum _pad_packed_sequence _pdist_forward
    _prelu_kernel _reshape_alias _reshape_copy _safe_softmax _scaled_dot_product_attention_math
    _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
    _scaled_dot_product_flash_attention_for_cpu _shape_as_tensor _slow_conv2d_forward _stack
    _thnn_fused_gru_cell _thnn_fused_lstm_cell _transformer_encoder_layer_fwd _trilinear _unique
    _unique2 _unsafe_index_put _unsafe_masked_index _upsample_lanczos2d_aa absolute addbmm addr
    alias_copy allclose aminmax angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh argwhere
    as_strided as_strided_copy as_strided_scatter atleast_1d atleast_2d atleast_3d bartlett_window
    binary_cross_entropy binary_cross_entropy_with_logits binomial bitwise_left_shift
    bitwise_right_shift blackman_window broadcast_tensors cauchy chain_matmul chalf cholesky_inverse
    cholesky_solve combinations conv_depthwise3d conv_tbc convolution corrcoef cosine_embedding_loss
    cov cross cross_entropy_loss ctc_loss cumulative_trapezoid det detach_copy diagonal_copy
    diagonal_scatter diff dist dsplit empty_permuted empty_strided equal expand_copy
    fake_quantize_per_channel_affine fake_quantize_per_tensor_affine fft_fftfreq fft_rfftfreq
    fill_diagonal float_power frexp frobenius_norm gcd geometric gradient greater greater_equal
    hamming_window hann_window hinge_embedding_loss histogram hsplit huber_loss i0 igamma igammac
    index_copy inner is_nonzero isin isneginf isposinf isreal item kaiser_window kl_div kron l1_loss
    lcm ldexp less less_equal lift linalg_cholesky_ex linalg_cond linalg_cross linalg_diagonal
    linalg_eig linalg_eigvals linalg_householder_product linalg_inv_ex linalg_ldl_factor
    linalg_ldl_solve linalg_lstsq linalg_lu linalg_lu_factor linalg_lu_solve linalg_matmul
    linalg_matrix_exp linalg_matrix_rank linalg_multi_dot linalg_norm linalg_solve linalg_solve_ex
    linalg_solve_triangular linalg_svdvals linalg_tensorinv linalg_tensorsolve linalg_vander
    linalg_vecdot log_normal log_sigmoid_forward logaddexp2 lu_solve lu_unpack margin_ranking_loss
    masked_scatter masked_select max_pool1d_with_indices moveaxis mse_loss msort multi_margin_loss
    multilabel_margin_loss mvlgamma nanquantile narrow_copy native_channel_shuffle native_group_norm
    negative new_empty_strided nextafter nll_loss nll_loss2d nll_loss_forward nll_loss_nd nonzero
    nonzero_static norm_except_dim not_equal nuclear_norm numel orgqr ormqr pad_sequence pdist
    permute_copy pinverse poisson polygamma put qr random range ravel renorm resolve_neg result_type
    rot90 select_copy silu_backward size slice_copy slice_inverse slogdet slow_conv_transpose2d
    smooth_l1_loss soft_margin_loss special_airy_ai special_bessel_j0 special_bessel_j1
    special_bessel_y0 special_bessel_y1 special_digamma special_entr special_erf special_erfc
    special_erfcx special_erfinv special_exp2 special_expm1 special_gammainc special_gammaincc
    special_gammaln special_i0 special_i0e special_i1 special_i1e special_log1p special_log_softmax
    special_logit special_logsumexp special_multigammaln special_ndtri special_polygamma special_psi
    special_round special_sinc special_softmax special_xlog1py special_xlogy special_zeta split_copy
    split_with_sizes_copy squeeze_copy storage_offset stride subtract sum_to_size svd swapdims
    sym_constrain_range sym_constrain_range_for_size sym_is_contiguous sym_numel sym_size
    sym_storage_offset sym_stride t_copy take thnn_conv2d to_dense transpose_copy trapezoid trapz
    triangular_solve triplet_margin_loss unbind_copy unfold_copy uniform unique_consecutive
    unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze_copy values vander
    view_as_complex_copy view_as_real_copy vsplit xlogy
    """.split()  # noqa: SIM905 (a list would take a line for each)
)
"""ATen operators without a rule: no namespace, no overload, no underscore of in-place ones."""

HIGHER_ORDER = frozenset(
    ("cond", "while_loop", "map_impl", "scan", "wrap_with_autocast", "wrap_with_set_grad_enabled")
)
"""Operators of torch that run graphs, which are in the file themselves."""

_PYTHON = {
    f"{module.__name__.strip('_')}.{name}": getattr(module, name)
    for module, names in (
        (
            operator,
            "getitem add sub mul truediv floordiv mod pow neg pos abs lt le gt ge eq ne and_ or_ "
            "xor not_ lshift rshift matmul",
        ),
        (math, "ceil floor trunc sqrt"),
        (
            torch,
            "sym_int sym_float sym_not sym_max sym_min sym_ite sym_sum _sym_sqrt _assert _check",
        ),
    )
    for name in names.split()
    if hasattr(module, name)
}
_NAMES = {function: name for name, function in _PYTHON.items()}


def name_of(target: Any) -> str:
    """The name of what a node calls, by which `operator_named` finds it.

    Raises:
        ValueError: no name of its own.
    """
    if isinstance(target, torch._ops.OpOverload):
        namespace, name = target.overloadpacket._qualified_op_name.split("::")
        if namespace != "aten" or known(target):
            return f"{namespace}.{name}.{target._overloadname}"
    elif known(target) and isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order.{target.__name__}"
    elif target in _NAMES:
        return _NAMES[target]
    raise ValueError(
        f"a graph that calls {target} cannot be written as data; say how the architecture is "
        "built: save(folder, source=...)"
    )


def known(target: Any) -> bool:
    """Whether the table holds what a node calls."""
    if isinstance(target, torch._ops.HigherOrderOperator):
        return target.__name__ in HIGHER_ORDER
    if not isinstance(target, torch._ops.OpOverload):
        return target in _NAMES
    namespace, name = target.overloadpacket._qualified_op_name.split("::")
    own = namespace == "aten" and (name in ATEN or name.rstrip("_") in ATEN)
    return own or lookup(target) is not None


def operator_named(name: Any, trust: bool = False) -> Callable[..., Any]:
    """What a node calls, by its name.

    Args:
        name: as `name_of` says it.
        trust: take any operator of another package that is registered in this process.

    Raises:
        ValueError: it is not in the table, or there is none in this version of torch.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of an operator is a text (got {name!r:.80})")
    if name in _PYTHON:
        return _PYTHON[name]
    parts = name.split(".")
    if not all(part.isidentifier() and part.isascii() for part in parts) or len(parts) > 3:
        raise ValueError(f"{name!r:.80} is no name of an operator")
    found: Any = None
    if parts[0] == "higher_order" and len(parts) == 2:
        if parts[1] in HIGHER_ORDER:
            found = getattr(torch.ops.higher_order, parts[1], None)
    elif len(parts) == 3 and (trust or parts[0] == "aten" or f"{parts[0]}.{parts[1]}" in RULES):
        packet = getattr(getattr(torch.ops, parts[0]), parts[1], None)
        found = getattr(packet, parts[2], None) if packet is not None else None
        if not isinstance(found, torch._ops.OpOverload):
            found = None
    if found is None or not (known(found) or (trust and parts[0] != "aten")):
        raise ValueError(
            f"{name!r} is no operator that is run out of a file; if you know where the file is "
            "from, import the package that registers the operator and load it with trust=True"
        )
    return found
