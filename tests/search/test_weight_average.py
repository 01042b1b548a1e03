"""Weights averaged over the steps: the lazy average of table rows is the plain one, and survives a checkpoint."""

from __future__ import annotations

import torch

from supernet.optim import RowSparseTable, average_share


def _train(table: RowSparseTable, steps: range, average: torch.Tensor) -> None:
    """Random updates of a few rows each; `average` follows the whole table step by step."""
    for step in steps:
        noise = torch.Generator().manual_seed(step)
        embedded, leaf = table.look_up(torch.randint(0, len(table.weight), (2, 2), generator=noise))
        (embedded * torch.randn(embedded.shape, generator=noise)).sum().backward()
        table.update(leaf, 0.1)
        average.lerp_(table.weight, average_share(step))


def _table(weight: torch.Tensor) -> RowSparseTable:
    return RowSparseTable(weight.clone(), "adam", l2=0.0, averaged=True)


def test_the_lazy_average_of_rows_is_the_average_over_all_steps() -> None:
    weight = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    table, average = _table(weight), weight.clone()
    _train(table, range(1, 60), average)
    table.settle()
    assert torch.allclose(table.average, average, atol=1e-6)
    assert not torch.allclose(table.average, table.weight, atol=1e-3)


def test_an_average_goes_on_after_a_checkpoint() -> None:
    weight = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    whole, resumed = _table(weight), _table(weight)
    _train(whole, range(1, 30), weight.clone())
    _train(resumed, range(1, 12), weight.clone())
    again = _table(torch.zeros_like(weight))
    again.load_state_dict({key: tensor.clone() for key, tensor in resumed.state_dict().items()})
    _train(again, range(12, 30), weight.clone())
    whole.settle(), again.settle()
    assert torch.equal(whole.average, again.average)


def test_the_average_favours_the_last_tenth_of_the_steps() -> None:
    average, steps = 0.0, 1000
    for step in range(1, steps + 1):
        average += average_share(step) * ((step > 0.9 * steps) - average)
    assert 0.5 < average < 0.7
