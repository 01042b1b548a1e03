"""Optimisers that touch only what a step used: slices of shared weights, and single rows of embedding tables.

Adagrad's state moves only where there is a gradient, so this is Adagrad exactly. Its row-wise form, for tables, keeps one sum a row: the
mean square of the row's gradient (FBGEMM's `EXACT_ROWWISE_ADAGRAD`), a sixteenth of the memory at 16 elements.

Adam's moments are bias-corrected by the number of updates *of that element* (row, for a table), so a weight that is rarely part
of the sampled network takes a first step of the usual length. With every element in every step this is plain Adam.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch.optim.adam import adam

from supernet import kernels
from supernet.distributed import Ranks

Name = Literal["adagrad", "adam"]
TableName = Literal["adagrad", "adam", "rowwise_adagrad"]
State = dict[str, torch.Tensor]

_BETA1, _BETA2 = 0.9, 0.999
_EPS = {"adagrad": 1e-7, "adam": 1e-8, "rowwise_adagrad": 1e-7}


def new_state(name: TableName, like: torch.Tensor, count: Literal["element", "row", "tensor"] = "element") -> State:
    """Zeroed state of one tensor; `count` says what Adam counts the updates of."""
    if name == "adagrad":
        return {"squares": _zeros(like.shape, like)}
    if name == "rowwise_adagrad":
        return {"squares": _zeros((like.shape[0], 1), like)}
    shape = {"element": like.shape, "row": (like.shape[0], 1), "tensor": ()}[count]
    return {"mean": _zeros(like.shape, like), "squares": _zeros(like.shape, like), "count": _zeros(shape, like)}


def _zeros(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Zeros that take memory only where they are written: a shared weight's widest parts may never be drawn."""
    return torch.from_numpy(np.zeros(shape, dtype=np.float32)).to(like)


def rate(step_index: int, steps: int, warm_up: float, cosine: bool) -> float:
    """Share of the peak learning rate: linear warm-up over a share of all steps, then constant or a cosine down to 1 %."""
    warm = warm_up * steps
    if step_index < warm:
        return (step_index + 1) / (warm + 1)
    if not cosine:
        return 1.0
    return max(0.01, 0.5 * (1 + math.cos(math.pi * step_index / steps)))


def clip(gradients: list[torch.Tensor], limit: float) -> None:
    """Scales gradients in place so that their joint Euclidean norm is at most `limit`."""
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
    if norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)


def step(name: TableName, value: torch.Tensor, state: State, gradient: torch.Tensor, rate: float) -> None:
    """One update in place; `value` and `state` may be views of larger tensors."""
    if name != "adam":
        squared = gradient.square()
        state["squares"].add_(squared if name == "adagrad" else squared.mean(1, keepdim=True))
        value.addcdiv_(gradient, state["squares"].sqrt().add_(_EPS[name]), value=-rate)
        return
    count = state["count"].add_(1)
    mean = state["mean"].lerp_(gradient, 1 - _BETA1)
    squares = state["squares"].mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
    first = -torch.expm1(count * math.log(_BETA1))  # 1 - beta1^count
    second = -torch.expm1(count * math.log(_BETA2))
    value.addcdiv_(mean / first, (squares / second).sqrt_().add_(_EPS[name]), value=-rate)


def step_all(name: Name, values: list[torch.Tensor], states: list[State], gradients: list[torch.Tensor], rate: float) -> None:
    """One update in place of whole tensors, whose updates Adam counts by tensor: one pass over each."""
    if name == "adagrad":
        for value, state, gradient in zip(values, states, gradients, strict=True):
            step_slice(name, value, state, gradient, (), rate)
        return
    means, squares, counts = ([state[key] for state in states] for key in ("mean", "squares", "count"))
    betas = {"beta1": _BETA1, "beta2": _BETA2}
    plain = {"amsgrad": False, "weight_decay": 0.0, "maximize": False}
    adam(values, gradients, means, squares, [], counts, fused=True, lr=rate, eps=_EPS[name], **betas, **plain)


def step_slice(
    name: Name, value: torch.Tensor, state: State, gradient: torch.Tensor, columns: tuple[tuple[int, int], ...], rate: float
) -> None:
    """One update in place of the first rows of some columns.

    Args:
        name: the optimiser.
        value: the whole shared weight.
        state: its whole state.
        gradient: (rows, columns in all), or (length,) of a vector.
        columns: ranges [start, stop) in the gradient's order; empty for a vector.
        rate: learning rate.
    """
    if name == "adagrad" and value.device.type == "cpu" and value.dtype == torch.float32:
        kernels.adagrad(value, state["squares"], gradient, columns, rate, _EPS[name])
        return
    done = 0
    for start, stop in columns or ((0, gradient.shape[-1]),):
        part, place = gradient[..., done : done + stop - start], (slice(len(gradient)), slice(start, stop))[2 - gradient.dim() :]
        step(name, value[place], {key: tensor[place] for key, tensor in state.items()}, part, rate)
        done += stop - start


AVERAGE_EXPONENT = 8


def average_share(step: int) -> float:
    """Weight of step `step` (1 for the first) in the polynomial-decay average of all steps so far, (e + 1) / (step + e).

    Source: Shamir and Zhang, ICML 2013, equation 3, with e = 8: about the last tenth of the steps counts, however many there are.
    """
    return (AVERAGE_EXPONENT + 1) / (step + AVERAGE_EXPONENT)


class RowSparseTable:
    """An embedding table of which a step reads, differentiates and updates only the rows in the batch.

    L2 regularisation is a lazy row-wise decay: every step multiplies each row by exp(-rate * l2), which is applied to a row when
    it is next read (and to all rows by `settle`). The gradient is never as large as the table.

    With `averaged`, `average` is the polynomial-decay average of the table over all updates (see `average_share`). It is lazy, too: a row
    that was not updated over some steps counts in them as it was last written (decay that it has not seen yet left out), in closed form.
    """

    _TENSORS = ("weight", "average", "averaged", "decayed")

    def __init__(
        self, weight: torch.Tensor, name: TableName, l2: float, count: Literal["element", "row"] = "row", averaged: bool = False
    ) -> None:
        self.weight, self.name, self.l2 = weight, name, l2
        self.state = new_state(name, weight, count=count)
        self.average = weight.clone() if averaged else weight.new_zeros(0)
        self.averaged = torch.zeros(weight.shape[0] if averaged else 0, 1, dtype=torch.float64, device=weight.device)
        """Updates that each row's average has seen."""
        self.updates = 0
        self.decayed = torch.zeros(weight.shape[0] if l2 else 0, 1, dtype=torch.float64, device=weight.device)
        """Decay exponent that each row has already seen; empty without L2."""
        self.decay = 0.0
        """Decay exponent so far: sum over steps of rate * l2."""

    def look_up(self, ids: torch.Tensor, width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the batch: (embedded (rows, fields, dim), the leaf (unique rows, dim) whose gradient `update` takes).

        Args:
            ids: row numbers (rows, fields).
            width: only the first so many elements of each row are read, differentiated and updated (the decay is the whole row's).
        """
        self._ids, inverse = torch.unique(ids, return_inverse=True)
        self._rows = self._read(self._ids)
        leaf = self._rows[:, :width].requires_grad_()
        return torch.nn.functional.embedding(inverse, leaf), leaf

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        """A copy of some rows, their decay brought up to date."""
        rows = self.weight.index_select(0, ids)
        if self.l2:
            rows *= torch.exp(self.decayed.index_select(0, ids) - self.decay).float()
        return rows

    def update(self, leaf: torch.Tensor, rate: float, ranks: Ranks | None = None) -> None:
        """Applies the gradient of the rows that `look_up` gave; with `ranks` that of the rows which any process looked up."""
        ids, rows, gradient, width = self._ids, self._rows, leaf.grad, leaf.shape[1]
        if ranks and ranks.count > 1:
            ids, gradient = ranks.add_rows(ids, gradient)
            rows = self._read(ids)
        state = {key: tensor.index_select(0, ids) for key, tensor in self.state.items()}
        step(self.name, rows[:, :width], {key: tensor[:, :width] for key, tensor in state.items()}, gradient, rate)
        if len(self.average):
            self._average(ids, rows)
        self.weight.index_copy_(0, ids, rows)
        for key, tensor in state.items():
            self.state[key].index_copy_(0, ids, tensor)
        if self.l2:
            self.decayed.index_fill_(0, ids, self.decay)
            self.decay += rate * self.l2

    def _average(self, ids: torch.Tensor, values: torch.Tensor) -> None:
        """Brings the average of these rows up to this update, which gives them `values`."""
        caught_up = self._caught_up(self.average.index_select(0, ids), self.weight.index_select(0, ids), self.averaged.index_select(0, ids))
        self.updates += 1
        self.average.index_copy_(0, ids, caught_up.lerp_(values, average_share(self.updates)))
        self.averaged.index_fill_(0, ids, self.updates)

    def _caught_up(self, average: torch.Tensor, rows: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Averages that saw `seen` updates, after further ones that left `rows` as they are."""
        kept = torch.ones_like(seen)
        for j in range(AVERAGE_EXPONENT + 1):  # the product of 1 - average_share(s) over the steps s between
            kept *= (seen + j) / max(1, self.updates + j)
        return torch.lerp(rows, average, kept.float())

    def settle(self) -> torch.Tensor:
        """The table with every row's decay, and its average, brought up to date."""
        if len(self.average):
            self.average.copy_(self._caught_up(self.average, self.weight, self.averaged))
            self.averaged.fill_(self.updates)
        if self.l2:
            self.weight *= torch.exp(self.decayed - self.decay).float()
            self.decayed.fill_(self.decay)
        return self.weight

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on; tensors are not copied."""
        scalars = {"decay": torch.tensor(self.decay, dtype=torch.float64), "updates": torch.tensor(self.updates)}
        return {**{key: getattr(self, key) for key in self._TENSORS}, **scalars, **self.state}

    def load_state_dict(self, saved: dict[str, torch.Tensor]) -> None:
        """Goes on from `state_dict`."""
        for key in self._TENSORS:
            getattr(self, key).copy_(saved[key])
        self.decay, self.updates = float(saved["decay"]), int(saved["updates"])
        for key in self.state:
            self.state[key].copy_(saved[key])
