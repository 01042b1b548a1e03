"""The models of `workloads.zoo` as PyTorch modules: the same operators, run by their `forward`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workloads.operators.embedding import Embedding, pooled_rows
from workloads.operators.torch_training import Noise, look_up
from workloads.zoo.base import CtrModel
from workloads.zoo.network import Node


class Look(nn.Module):
    """Embedding tables side by side in one weight; if their dims differ, one weight a dim, in order of size.

    Args:
        operator: The tables.
    """

    def __init__(self, operator: Embedding) -> None:
        super().__init__()
        self.operator = operator
        tables = operator.tables
        self.dims = sorted({table.dim for table in tables})
        self.members = {dim: [i for i, table in enumerate(tables) if table.dim == dim] for dim in self.dims}
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(sum(tables[i].rows for i in self.members[dim]), dim)) for dim in self.dims)
        starts = np.concatenate([np.cumsum([0] + [tables[i].rows for i in self.members[dim]])[:-1] for dim in self.dims])
        order = [i for dim in self.dims for i in self.members[dim]]
        offsets = np.empty(len(tables), np.int64)
        offsets[order] = starts
        pooling = np.array([table.pooling for table in tables])
        self.offsets: torch.Tensor
        self.register_buffer("offsets", torch.from_numpy(np.repeat(offsets, pooling)), persistent=False)
        self.ends = np.cumsum(pooling).tolist()

    def forward(self, sparse: torch.Tensor) -> torch.Tensor:
        """Pooled vectors (rows, *out_shape) of field-local row numbers (rows, look-ups); -1 is no look-up of a multi-valued field."""
        tables = self.operator.tables
        if len(self.dims) == 1 and all(table.pooling == 1 for table in tables):
            rows = sparse.long() + self.offsets
            return look_up(self.weights[0], rows) if self.training else functional.embedding(rows, self.weights[0])
        rows = torch.where(sparse < 0, -1, sparse.long() + self.offsets)
        pooled = []
        for i, table in enumerate(tables):
            weight = self.weights[self.dims.index(table.dim)]
            pooled.append(pooled_rows(weight, rows[:, self.ends[i] - table.pooling : self.ends[i]]))
        return torch.cat(pooled, dim=1).unflatten(1, self.operator.out_shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every table's weights as `<table>.weight`."""
        found = {}
        for dim, weight in zip(self.dims, self.weights, strict=True):
            rows = [self.operator.tables[i].rows for i in self.members[dim]]
            for i, part in zip(self.members[dim], weight.detach().split(rows), strict=True):
                found[f"{self.operator.tables[i].name}.weight"] = part.numpy()
        return found


class ZooModel(nn.Module):
    """A model of the zoo.

    Args:
        model: Its sizes, as `workloads.zoo.provider.model` gives them.
        generator: Source of the initial weights.
        table_std: Spread of the tables' initial values.

    In training mode batch norm works on the batch, and dropout takes `noise`; in evaluation mode the module is the network of the
    simulator's graph, batch norm folded into the weights.
    """

    def __init__(self, model: CtrModel, generator: torch.Generator | None = None, table_std: float = 0.01) -> None:
        super().__init__()
        self.noise = Noise([0])
        """Source of dropout; may be replaced at any time."""
        self.network = model.network()
        nodes = self.network.nodes
        self._looks = {node.name: Look(node.operator) for node in nodes if isinstance(node.operator, Embedding)}
        self._weights = {
            node.name: _Weights(node.operator.parameter_shapes() | node.operator.training_shapes()) for node in self._computing()
        }
        self.tables = nn.ModuleDict({name: look for name, look in self._looks.items()})
        self.layers = nn.ModuleDict({_key(name): weights for name, weights in self._weights.items() if weights.keys})
        self.reset(generator, table_std)

    def reset(self, generator: torch.Generator | None = None, table_std: float = 0.01) -> None:
        """Draws new weights: tables N(0, table_std), matrices Glorot-uniform, biases 0; norms that change nothing."""
        with torch.no_grad():
            for weight in self.tables.parameters():
                weight.normal_(0.0, table_std, generator=generator)
            for weight in self.layers.parameters():
                bound = math.sqrt(6.0 / (weight.shape[-2] + weight.shape[-1])) if weight.dim() > 1 else 0.0
                weight.uniform_(-bound, bound, generator=generator)
            for weights in self._weights.values():
                for name, value in weights.named().items():
                    if name.endswith(("norm.weight", "norm.variance")):
                        value.fill_(1.0)
                    elif name.endswith("norm.mean"):
                        value.zero_()

    def embed(self, sparse: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each look-up's vectors by node name, from row numbers (rows, look-ups), table after table."""
        return {name: look(sparse) for name, look in self._looks.items()}

    def logits(self, dense: torch.Tensor, embedded: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits (rows,), of several outputs (rows, outputs), from dense features (rows, features) and looked-up vectors."""
        if dense.shape[1] == 0 and self.network.dense_features:
            dense = dense.new_zeros(len(dense), self.network.dense_features)  # the pseudo feature of zeros
        values = {"dense": dense, **embedded}
        for node in self._computing():
            weights, inputs = self._weights[node.name].named(), [values[source] for source in node.inputs]
            if self.training:
                values[node.name] = node.operator.train_forward(weights, self.noise, *inputs)
            else:
                values[node.name] = node.operator.forward(node.operator.folded(weights), *inputs)
        return values[self.network.nodes[-1].name].squeeze(1)

    def forward(self, dense: torch.Tensor, sparse: torch.Tensor) -> torch.Tensor:
        """Logits of the click."""
        return self.logits(dense, self.embed(sparse))

    def arrays(self) -> dict[str, np.ndarray]:
        """Every weight under its name in `Network.parameter_shapes`, for `Network.reference`; batch norm is folded."""
        found = {f"{node}.{name}": array for node, look in self._looks.items() for name, array in look.arrays().items()}
        for node in self._computing():
            folded = node.operator.folded(self._weights[node.name].named())
            found |= {f"{node.name}.{name}": value.detach().numpy() for name, value in folded.items()}
        return found

    def _computing(self) -> list[Node]:
        return [node for node in self.network.nodes if not isinstance(node.operator, Embedding)]


class _Weights(nn.Module):
    """An operator's parameters and running statistics by their own names, which may hold dots."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.keys = {name: _key(name) for name in shapes}
        for name, shape in shapes.items():
            if name.endswith((".mean", ".variance")):
                self.register_buffer(self.keys[name], torch.empty(shape))
            else:
                self.register_parameter(self.keys[name], nn.Parameter(torch.empty(shape)))

    def named(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, key) for name, key in self.keys.items()}


def _key(name: str) -> str:
    """A name without dots, which module names may not have."""
    return name.replace(".", "_")
