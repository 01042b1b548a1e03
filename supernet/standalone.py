"""One network as a plain PyTorch module. Imports nothing but torch, json, math: an export carries this file as `model.py`.

    from model import load
    model = load("folder")                      # reads model.json and weights.pt beside it
    logits = model(dense, sparse)               # dense (rows, dense fields) float32, sparse (rows, sparse fields) integers
    probability = logits.sigmoid()

A network is a canonical genotype (only live operators) and a schema (field names, rows of each table). Source 0 is the raw
input, source i the output of block i; each block makes a dense vector and a set of fields:

    dense_i  = dense_op(sources) [+ fm(sparse_op output)]
    sparse_i = concat(sparse_op(sources) [, merger(dense_op output): 8 more fields])
    logit    = head(concat(dense_last, flattened sparse_last))

A genotype may give each table a dim of its own (`embedding_dims`, at most `embedding_dim`): the table is as narrow as that, and zeros
follow each vector that is looked up.

Weights are (out, in) as in torch.nn.Linear and carry the names of the matching operator in `workloads.operators`. A projection
whose weight is absent is skipped: the sizes already match. Inside, fields stand first, (fields, rows, embedding_dim): a layer over the
field axis is one matrix product, joined fields are whole blocks of memory, and LayerNorm over fields runs along contiguous values.
Nothing is written in place, so no output aliases another.

Weights are rounded to their precisions beforehand; activations here, where a matrix product reads them (see `quantise`).
"""

import json
import math

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

MERGER_FIELDS = 8
HEADS, INTERACTION_HEADS = 8, 2
"""Heads of a transformer and, as in AutoInt, of an attention interaction, where the embedding dim allows."""


def parameter_shapes(genotype: dict, dense_count: int, sparse_count: int) -> dict:
    """Shape of every parameter but the embedding table, by name."""
    dim, norm = genotype["embedding_dim"], genotype["layer_norm"]
    dense, fields, shapes = {0: max(dense_count, 1)}, {0: sparse_count}, {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        if not norm:
            shapes[f"{name}.bias"] = (outputs,)

    def normalise(name: str, width: int) -> None:
        if norm:
            shapes[f"{name}.norm.weight"] = shapes[f"{name}.norm.bias"] = (width,)

    for number, block in enumerate(genotype["blocks"], start=1):
        base, width, count = f"blocks.{number - 1}", block["dense_dim"], block["sparse_dim"]
        fields_in = sum(fields[i] for i in block["sparse_inputs"])
        if block["dense_op"]:
            name = f"{base}.{block['dense_op']}"
            dense_in = sum(dense[i] for i in block["dense_inputs"])
            pair_in = max((dense[i] for i in (block["dense_left"], block["dense_right"]) if i is not None), default=0)
            for part, outputs, inputs in _DENSE_OPERATORS[block["dense_op"]][0](width, dense_in, fields_in, pair_in, dim):
                linear(f"{name}{part}", outputs, inputs)
            normalise(name, width)
        if block["sparse_op"]:
            linear(f"{base}.{block['sparse_op']}", count, fields_in)
            normalise(f"{base}.{block['sparse_op']}", count)
            own = _SPARSE_OPERATORS[block["sparse_op"]][0](dim)
            shapes |= {f"{base}.{block['sparse_op']}{part}": shape for part, shape in own.items()}
        merged = MERGER_FIELDS if block["interact"] else 0
        if merged:
            if width != merged * dim:
                linear(f"{base}.interact.out", merged * dim, width)
            normalise(f"{base}.interact", merged * dim)
        if block["fm"]:
            if dim != width:
                linear(f"{base}.fm.out", width, dim)
            normalise(f"{base}.fm", width)
        dense[number], fields[number] = width, count + merged
    last = len(genotype["blocks"])
    shapes["head.weight"], shapes["head.bias"] = (1, dense[last] + fields[last] * dim), (1,)
    return shapes


def transformer_shapes(dim: int) -> dict:
    """Parameters of a transformer behind its projection; they are the same whatever the number of fields."""
    shapes = {}
    for part, outputs in (("qkv", 3 * dim), ("out", dim), ("inner", dim), ("outer", dim)):
        shapes |= {f".{part}.weight": (outputs, dim), f".{part}.bias": (outputs,)}
    for part in ("attention_norm", "output_norm"):
        shapes |= {f".{part}.weight": (dim,), f".{part}.bias": (dim,)}
    return shapes


def attention_shapes(dim: int) -> dict:
    """Parameters of an attention interaction behind its projection."""
    return {f".{part}.weight": (dim, dim) for part in ("query", "key", "value")}


def _fc_parts(width, dense_in, fields_in, pair_in, dim):
    return [("", width, dense_in)]


def _dot_product_parts(width, dense_in, fields_in, pair_in, dim):
    vectors = round(math.sqrt(2 * width))
    pairs = vectors * (vectors + 1) // 2
    parts = [] if dense_in == dim else [(".dense", dim, dense_in)]
    parts += [] if fields_in == vectors else [(".fields", vectors, fields_in)]
    return parts + ([] if pairs == width else [(".out", width, pairs)])


def _pair_parts(*square):
    return lambda width, dense_in, fields_in, pair_in, dim: (
        [(part, pair_in, pair_in) for part in square] + ([] if pair_in == width else [(".out", width, pair_in)])
    )


def quantise(x: torch.Tensor, bits: int, axis: int = -1) -> torch.Tensor:
    """The values that a precision holds, in x's own type; gradients pass straight through.

    32 bits: all; 16: IEEE half; 8 and 4: symmetric integers with one scale for each vector along the axis, the axis that a matrix
    product sums over: of a weight (out, in) one an output channel, of a table one a row, of an activation one a sample's vector.
    """
    if bits == 32:
        return x
    with torch.no_grad():
        if bits == 16:
            held = x.half().to(x.dtype)
        else:
            levels = 2 ** (bits - 1) - 1
            scale = x.abs().amax(axis, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny * levels) / levels
            held = (x / scale).round_().mul_(scale)
    return held + (x - x.detach()) if x.requires_grad and torch.is_grad_enabled() else held


def linear(weights: dict, name: str, x: torch.Tensor, bits: int = 32) -> torch.Tensor:
    """Linear layer over the last axis, x at a precision; x itself where the projection is skipped."""
    weight = weights.get(f"{name}.weight")
    return x if weight is None else functional.linear(quantise(x, bits), weight, weights.get(f"{name}.bias"))


def field_linear(weights: dict, name: str, x: torch.Tensor, bits: int = 32) -> torch.Tensor:
    """Linear layer over the first axis of (fields, rows, dim), x at a precision; x itself where the projection is skipped."""
    weight, bias = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
    if weight is None:
        return x
    flat = quantise(x, bits, axis=0).flatten(1)
    made = torch.mm(weight, flat) if bias is None else torch.addmm(bias.unsqueeze(1), weight, flat)
    return made.unflatten(1, x.shape[1:])


def field_norm(weights: dict, name: str, x: torch.Tensor, relu: bool = False) -> torch.Tensor:
    """LayerNorm over the first axis of (fields, rows, dim), if the network has it, then ReLU where asked."""
    gain, bias = weights.get(f"{name}.norm.weight"), weights.get(f"{name}.norm.bias")
    if gain is not None and _fusible("norm", x):
        return FUSED["norm"](x, gain, bias, relu)
    if gain is not None:
        x = functional.layer_norm(x.movedim(0, 2), gain.shape, gain, bias).movedim(2, 0)
    return x.relu() if relu else x


def norm(weights: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    """LayerNorm over the true width of the last axis; x itself in a network without LayerNorm."""
    gain = weights.get(f"{name}.norm.weight")
    return x if gain is None else functional.layer_norm(x, gain.shape, gain, weights[f"{name}.norm.bias"])


def _fc(weights, name, bits, dense, fields, left, right):
    return norm(weights, name, linear(weights, name, dense, bits)).relu()


def _dot_product(weights, name, bits, dense, fields, left, right):
    vector, few = linear(weights, f"{name}.dense", dense, bits), field_linear(weights, f"{name}.fields", fields, bits)
    products = pairs(quantise(vector, bits), quantise(few, bits))
    return norm(weights, name, linear(weights, f"{name}.out", products, bits))


def _gating(weights, name, bits, dense, fields, left, right):
    left, right = _same_width(left, right)
    gated = linear(weights, f"{name}.gate", left, bits).sigmoid() * right
    return norm(weights, name, linear(weights, f"{name}.out", gated, bits))


def _cross(weights, name, bits, dense, fields, left, right):
    left, right = _same_width(left, right)
    crossed = right.addcmul(left, linear(weights, f"{name}.cross", right, bits))
    return norm(weights, name, linear(weights, f"{name}.out", crossed, bits))


def _sum(weights, name, bits, dense, fields, left, right):
    left, right = _same_width(left, right)
    return norm(weights, name, linear(weights, f"{name}.out", left + right, bits))


def _same_width(left, right):
    width = max(left.shape[1], right.shape[1])
    return tuple(functional.pad(x, (0, width - x.shape[1])) if x.shape[1] < width else x for x in (left, right))


def _efc(weights, name, bits, fields):
    return field_norm(weights, name, field_linear(weights, name, fields, bits), relu=True)


FUSED: dict = {}
"""Faster equals of functions here, by name. An export runs without any; `supernet.model` puts those of `supernet.kernels` here."""


def attention(qkv: torch.Tensor, heads: int, bits: int = 32) -> torch.Tensor:
    """Self-attention (rows, fields, dim) from queries, keys and values (rows, fields, 3 * dim) at a precision, each head by head."""
    if bits < 32:
        qkv = quantise(qkv.unflatten(2, (3 * heads, -1)), bits).flatten(2)
    if _fusible("attention", qkv):
        return FUSED["attention"](qkv, heads)
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]), dim=3) @ v
    return mixed.transpose(1, 2).flatten(2)


def _fusible(name: str, x: torch.Tensor) -> bool:
    """True when a faster equal may be used: not while something looks at every operation (an export, a compiler, a counter)."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return name in FUSED and plain and not torch.compiler.is_compiling() and not is_in_torch_dispatch_mode()


def pairs(vector: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """Dot products (rows, k * (k + 1) / 2) of every two of a sample's 1 + k vectors: a vector (rows, dim), fields (k, rows, dim)."""
    if _fusible("pairs", vector):
        return FUSED["pairs"](vector, fields)
    together = torch.cat([vector.unsqueeze(0), fields]).transpose(0, 1)  # (rows, k + 1, dim)
    gram = torch.bmm(together, together.transpose(1, 2))
    count = gram.shape[1]
    row, column = torch.tril_indices(count, count, offset=-1, device=gram.device)
    return gram.flatten(1).index_select(1, row * count + column)


def _tokens(weights, name, bits, fields):
    """The joined fields, projected along the field axis: (rows, fields, dim)."""
    return field_norm(weights, name, field_linear(weights, name, fields, bits)).transpose(0, 1).contiguous()


def _transformer(weights, name, bits, fields):
    tokens = _tokens(weights, name, bits, fields)
    mixed = attention(linear(weights, f"{name}.qkv", tokens, bits), math.gcd(HEADS, tokens.shape[2]), bits)
    tokens = _own_norm(weights, f"{name}.attention_norm", tokens + linear(weights, f"{name}.out", mixed, bits))
    inner = linear(weights, f"{name}.inner", tokens, bits).relu()
    return _own_norm(weights, f"{name}.output_norm", tokens + linear(weights, f"{name}.outer", inner, bits)).transpose(0, 1)


def _attention(weights, name, bits, fields):
    tokens = _tokens(weights, name, bits, fields)
    qkv = torch.cat([weights[f"{name}.{part}.weight"] for part in ("query", "key", "value")])
    mixed = attention(functional.linear(quantise(tokens, bits), qkv), math.gcd(INTERACTION_HEADS, tokens.shape[2]), bits)
    return (mixed + tokens).relu().transpose(0, 1)


def _own_norm(weights, name, x):
    gain = weights.get(f"{name}.weight")
    return x if gain is None else functional.layer_norm(x, gain.shape, gain, weights[f"{name}.bias"])


_SPARSE_OPERATORS = {
    "efc": (lambda dim: {}, _efc),
    "transformer": (transformer_shapes, _transformer),
    "attention": (attention_shapes, _attention),
}
"""By name: the shapes of its parameters behind the projection, its arithmetic."""
_DENSE_OPERATORS = {
    "fc": (_fc_parts, _fc),
    "dot_product": (_dot_product_parts, _dot_product),
    "gating": (_pair_parts(".gate"), _gating),
    "cross": (_pair_parts(".cross"), _cross),
    "sum": (_pair_parts(), _sum),
}


def features(genotype: dict, weights: dict, dense: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
    """The head's input (rows, dense + fields * dim), from dense (rows, count) and embedded (rows, fields, dim)."""
    vectors, sets = outputs(genotype, weights, dense, embedded)
    last = len(genotype["blocks"])
    return torch.cat([vectors[last], sets[last].transpose(0, 1).flatten(1)], dim=1)


def outputs(genotype: dict, weights: dict, dense: torch.Tensor, embedded: torch.Tensor) -> tuple[dict, dict]:
    """Every source's dense vector (rows, width) and fields (fields, rows, dim) by its number, where it has them."""
    if dense.shape[1] == 0:
        dense = embedded.new_zeros(embedded.shape[0], 1)  # no dense fields: one pseudo column of zeros
    vectors, sets = {0: dense}, {0: embedded.transpose(0, 1).contiguous()}
    for number, block in enumerate(genotype["blocks"], start=1):
        base = f"blocks.{number - 1}"
        x = _joined([vectors[i] for i in block["dense_inputs"]], 1)
        fields = _joined([sets[i] for i in block["sparse_inputs"]], 0)
        left, right = vectors.get(block["dense_left"]), vectors.get(block["dense_right"])
        dense_bits, sparse_bits = (block.get(f"{kind}_activation_bits") or 32 for kind in ("dense", "sparse"))
        if op := block["dense_op"]:
            out = vectors[number] = _DENSE_OPERATORS[op][1](weights, f"{base}.{op}", dense_bits, x, fields, left, right)
        kept = []
        if op := block["sparse_op"]:
            kept.append(_SPARSE_OPERATORS[op][1](weights, f"{base}.{op}", sparse_bits, fields))
        if block["fm"]:
            crossed = kept[0].sum(0).square() - kept[0].square().sum(0)
            vectors[number] = out + norm(weights, f"{base}.fm", linear(weights, f"{base}.fm.out", crossed, sparse_bits))
        if block["interact"]:
            more = norm(weights, f"{base}.interact", linear(weights, f"{base}.interact.out", out, dense_bits))
            kept.append(more.unflatten(1, (MERGER_FIELDS, -1)).transpose(0, 1))
        if kept:
            sets[number] = _joined(kept, 0)
    return vectors, sets


def _joined(parts, axis):
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


class Model(nn.Module):
    """A network of its own.

    Args:
        genotype: canonical genotype as a JSON tree (`Genotype.canonical().model_dump(mode="json")`).
        schema: {"dense": names, "sparse": names, "cardinalities": rows of each table}.
        generator: source of the initial weights.
    """

    def __init__(self, genotype: dict, schema: dict, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.genotype, self.schema = genotype, schema
        rows = schema["cardinalities"]
        self.embedding = _tables(genotype, rows)
        offsets = [sum(rows[:i]) for i in range(len(rows))]
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.long), persistent=False)
        for name, shape in parameter_shapes(genotype, len(schema["dense"]), len(rows)).items():
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_parameter(leaf, nn.Parameter(torch.empty(shape)))
        self.reset(generator)

    def reset(self, generator: torch.Generator | None = None) -> None:
        """Draws new initial weights."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                initialise(name, parameter, generator)

    def embed(self, sparse: torch.Tensor) -> torch.Tensor:
        """Table rows (rows, fields, dim) of field-local indices (rows, fields)."""
        if isinstance(self.embedding, nn.Embedding):
            return self.embedding(sparse.long() + self.offsets)
        vectors = [table(sparse[:, i].long()) for i, table in enumerate(self.embedding)]
        return torch.stack([functional.pad(x, (0, self.genotype["embedding_dim"] - x.shape[1])) for x in vectors], dim=1)

    def features(self, dense: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """The head's input."""
        return features(self.genotype, dict(self.named_parameters()), dense, embedded)

    def forward(self, dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
        """Logits (rows,) of the click."""
        return self.logits(dense, self.embed(sparse))

    def logits(self, dense: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Logits (rows,) from already looked-up embeddings."""
        return self.head_of(self.features(dense, embedded))

    def head_of(self, head_input: torch.Tensor) -> torch.Tensor:
        """Logits (rows,) of the last linear layer."""
        return functional.linear(head_input, self.head.weight, self.head.bias).squeeze(1)


def _tables(genotype, rows):
    """All tables in one, or a list of them where the genotype tells one from another."""

    def table(count, dim):
        return nn.Embedding(count, dim, device="meta").to_empty(device="cpu")

    if not genotype.get("embedding_dims") and not genotype.get("table_bits"):
        return table(sum(rows), genotype["embedding_dim"])
    dims = genotype.get("embedding_dims") or [genotype["embedding_dim"]] * len(rows)
    return nn.ModuleList(table(count, dim) for count, dim in zip(rows, dims, strict=True))


def initialise(name: str, tensor: torch.Tensor, generator: torch.Generator | None = None) -> None:
    """Initial weights in place: tables N(0, 0.03), gains 1, biases and head 0, other linear layers Glorot-uniform.

    The gains of a transformer's own norms start at 0.17, as NASRec publishes it: with 1 they would drown the other inputs.
    """
    if name.startswith("embedding."):
        tensor.normal_(0.0, 0.03, generator=generator)
    elif name.endswith(("attention_norm.weight", "output_norm.weight")):
        tensor.fill_(0.17)
    elif tensor.dim() == 1 or name.startswith("head"):
        tensor.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    else:
        bound = math.sqrt(6.0 / (tensor.shape[0] + tensor.shape[1]))
        tensor.uniform_(-bound, bound, generator=generator)


def load(folder: str) -> Model:
    """The exported model of a folder, ready to predict."""
    with open(f"{folder}/model.json", encoding="utf-8") as handle:
        description = json.load(handle)
    model = Model(description["genotype"], description["schema"])
    model.load_state_dict(torch.load(f"{folder}/weights.pt", weights_only=True))
    return model.eval()
