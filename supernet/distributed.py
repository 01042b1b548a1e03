"""Data-parallel training: processes that draw the same networks, see different rows of each batch, and add up their gradients.

Every process holds all weights and tables and makes the same updates. Gradients of the weights travel as one vector a step; of the tables
only the rows of the batch. Started by `torchrun`; gloo between CPUs, NCCL between GPUs. Only the first process writes files.
"""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
from torch import distributed

from pimsim.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, seen from one of them."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True in the process that writes files and reports."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """This process' share of a batch's rows.

        Raises:
            ConfigError: fewer rows than processes.
        """
        if rows < self.count:
            raise ConfigError(f"training.batch: {rows} rows, allowed: {self.count} (the number of processes) or more")
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def wait(self) -> None:
        """Returns when every process is here."""
        if self.count > 1:
            distributed.barrier()

    def add(self, tensors: list[torch.Tensor]) -> None:
        """Sums each tensor over the processes, in place; the bits are the same in all of them."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def add_rows(self, ids: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The union of all processes' table rows (sorted ids), and the sum of their gradients (rows, dim); only these travel."""
        if self.count == 1:
            return ids, gradient
        lengths = [int(length) for length in self._gathered(ids.new_tensor([len(ids)]))]
        padded = ids.new_zeros(max(lengths)), gradient.new_zeros(max(lengths), gradient.shape[1])
        padded[0][: len(ids)], padded[1][: len(ids)] = ids, gradient
        all_ids, all_rows = (
            torch.cat([part[:length] for part, length in zip(self._gathered(tensor), lengths, strict=True)]) for tensor in padded
        )
        union, places = torch.unique(all_ids, return_inverse=True)
        return union, gradient.new_zeros(len(union), gradient.shape[1]).index_add_(0, places, all_rows)

    def _gathered(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        distributed.all_gather(parts, tensor)
        return parts


def under_torchrun() -> Ranks:
    """This process' place among those that `torchrun` started; alone where it did not."""
    return Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def joined(device: torch.device) -> Ranks:
    """Joins the processes that `torchrun` started, once for the life of this process; alone where there are no others.

    A second group on torchrun's store can meet addresses that the first one left there, and wait for ever.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if under_torchrun().count == 1:
            return Ranks()
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def own_device(kind: str) -> torch.device:
    """The CPU, or the GPU that `torchrun` meant for this process.

    Raises:
        ConfigError: there is no GPU.
    """
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device: cuda, but torch finds no GPU here; allowed: cpu")
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    return device
