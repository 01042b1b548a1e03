"""Kernels of the supernet's steps against plain torch in double precision, and across numbers of threads."""

from __future__ import annotations

import pytest
import torch

import supernet.model  # noqa: F401  puts the kernels where `standalone` finds them
from supernet.optim import new_state, step_all
from supernet.standalone import pairs


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "fields", "dim"), [(1, 1, 16), (33, 7, 16), (70, 4, 5), (40, 45, 16), (5, 3, 20)])
def test_pairs_equal_the_triangle_of_a_gram_matrix_and_its_gradient(rows, fields, dim):
    generator = torch.Generator().manual_seed(rows)
    inputs = [torch.randn(size, generator=generator) for size in ((rows, dim), (fields, rows, dim))]
    seed, found = torch.randn(rows, fields * (fields + 1) // 2, generator=generator), []
    for dtype in (torch.float32, torch.float64):  # only float32 takes the kernel
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in inputs]
        out = pairs(*leaves)
        out.backward(seed.to(dtype))
        found.append([out.detach(), *(leaf.grad for leaf in leaves)])
        assert (type(out.grad_fn).__name__ == "_PairsBackward") == (dtype == torch.float32)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def test_pairs_do_not_depend_on_the_number_of_threads(threads):
    generator, found = torch.Generator().manual_seed(0), []
    vector, fields = torch.randn(101, 16, generator=generator), torch.randn(9, 101, 16, generator=generator)
    for number in (1, 2, 3):
        threads(number)
        leaves = vector.clone().requires_grad_(), fields.clone().requires_grad_()
        out = pairs(*leaves)
        out.square().sum().backward()
        found.append((out.detach(), *(leaf.grad for leaf in leaves)))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(("name", "optimizer"), [("adam", torch.optim.Adam), ("adagrad", torch.optim.Adagrad)])
def test_a_step_of_all_tensors_equals_torch_and_leaves_those_without_gradient(name, optimizer):
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (2, 2))]
    theirs = [value.double().requires_grad_() for value in values]
    plain = optimizer(theirs, lr=0.1, eps=1e-8 if name == "adam" else 1e-7)
    states = [new_state(name, value, count="tensor") for value in values]
    for used in ([0, 1, 2], [0, 2], [1, 2], [0, 1, 2]):
        gradients = [torch.randn(values[i].shape, generator=generator) for i in used]
        step_all(name, [values[i] for i in used], [states[i] for i in used], gradients, 0.1)
        plain.zero_grad()
        for i, gradient in zip(used, gradients, strict=True):
            theirs[i].grad = gradient.double()
        plain.step()
    for value, other in zip(values, theirs, strict=True):
        torch.testing.assert_close(value.double(), other.detach(), rtol=1e-5, atol=1e-6)
