"""The op table of PyTorch: `aten` name -> lowering. A further operator is one more entry."""

from __future__ import annotations

from functools import partial

from workloads.importers import lookups, pointwise, products
from workloads.importers.lowering import Lower, Lowering
from workloads.importers.records import Call

FREE = frozenset(
    f"aten.{name}"
    for name in (
        "view reshape _unsafe_view view_as reshape_as unsqueeze squeeze expand expand_as broadcast_to permute transpose t "
        "flatten unflatten movedim swapaxes swapdims moveaxis numpy_T mT adjoint slice select narrow split split_with_sizes chunk "
        "tensor_split unbind diagonal contiguous clone alias detach detach_ lift_fresh_copy to _to_copy type_as "
        "dropout feature_dropout alpha_dropout unfold "
        "_assert_tensor_metadata"
    ).split()
)
"""Only reshape, cast or slice."""

FILLS = frozenset(f"aten.{name}" for name in "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty".split())
"""Constants that take no more than a shape from their input."""

_UNARY = {
    "relu": "relu",
    "relu6": "relu",
    "leaky_relu": "relu",
    "hardtanh": "relu",
    "clamp": "relu",
    "clamp_min": "relu",
    "clamp_max": "relu",
    "threshold": "relu",
    "abs": "compare",
    "sign": "compare",
    "neg": "neg",
    "sigmoid": "sigmoid",
    "hardsigmoid": "compare",
    "tanh": "tanh",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "hardswish": "hardswish",
    "softplus": "softplus",
    "log_sigmoid": "softplus",
    "elu": "transcendental",
    "selu": "transcendental",
    "exp": "transcendental",
    "expm1": "transcendental",
    "log": "transcendental",
    "log1p": "transcendental",
    "sqrt": "transcendental",
    "rsqrt": "transcendental",
    "reciprocal": "transcendental",
    "erf": "transcendental",
    "sin": "transcendental",
    "cos": "transcendental",
    "square": "square",
    "logical_not": "compare",
    "bitwise_not": "compare",
    "_softmax": "softmax",
    "softmax": "softmax",
    "_log_softmax": "log_softmax",
    "log_softmax": "log_softmax",
    "layer_norm": "norm",
    "native_layer_norm": "norm",
    "group_norm": "norm",
    "batch_norm": "norm",
    "instance_norm": "norm",
    "rms_norm": "norm",
    "_native_batch_norm_legit_no_training": "norm",
}
_BINARY = {
    "mul": "mul",
    "div": "div",
    "maximum": "compare",
    "minimum": "compare",
    "prelu": "prelu",
    "where": "compare",
    "masked_fill": "compare",
    "lerp": "lerp",
    "addcmul": "addcmul",
    "floor_divide": "div",
    "remainder": "div",
    "logical_and": "compare",
    "logical_or": "compare",
    "bitwise_and": "compare",
    "bitwise_or": "compare",
    "eq": "compare",
    "ne": "compare",
    "lt": "compare",
    "le": "compare",
    "gt": "compare",
    "ge": "compare",
}
_MOVES = (
    "pad constant_pad_nd index_select index gather repeat repeat_interleave tile flip roll tril triu copy select_scatter slice_scatter "
    "index_put scatter"
)


def _vector_norm(low: Lowering, call: Call) -> tuple[str, ...]:
    low.report.note("vector norms: counted as square, sum and one transcendental")
    return pointwise.reduce(low, call, before="square", after="tanh")


OPERATORS: dict[str, Lower] = {
    "aten.embedding_bag": lookups.bag,
    "aten._embedding_bag": lookups.bag,
    "aten._embedding_bag_forward_only": lookups.bag,
    "aten.embedding": lookups.rows,
    "aten.linear": products.linear,
    "aten.matmul": partial(products.matmul, left="self", right="other"),
    "aten.mm": partial(products.matmul, left="self", right="mat2"),
    "aten.bmm": partial(products.matmul, left="self", right="mat2"),
    "aten.mv": partial(products.matmul, left="self", right="vec"),
    "aten.addmm": partial(products.add_matmul, added="self", left="mat1", right="mat2"),
    "aten.baddbmm": partial(products.add_matmul, added="self", left="batch1", right="batch2"),
    "aten.convolution": products.convolution,
    "aten.conv1d": products.convolution,
    "aten.conv2d": products.convolution,
    "aten.scaled_dot_product_attention": products.attention,
    "aten.add": partial(pointwise.add_scaled, function="add"),
    "aten.sub": partial(pointwise.add_scaled, function="sub"),
    "aten.rsub": partial(pointwise.add_scaled, function="sub"),
    "aten.pow": pointwise.power,
    "aten.sum": pointwise.reduce,
    "aten.mean": partial(pointwise.reduce, after="mul"),
    "aten.amax": pointwise.reduce,
    "aten.amin": pointwise.reduce,
    "aten.prod": pointwise.reduce,
    "aten.any": pointwise.reduce,
    "aten.all": pointwise.reduce,
    "aten.linalg_vector_norm": _vector_norm,
    "aten.cat": pointwise.join,
    "aten.stack": pointwise.move,
    **{f"aten.{name}": pointwise.move for name in _MOVES.split()},
    **{f"aten.{name}": partial(pointwise.passes, function=function) for name, function in (_UNARY | _BINARY).items()},
}
