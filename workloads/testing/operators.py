"""The conformance suite of recommender operators.

class TestMyOperator(OperatorConformance):
    cases = (MyOperator(in_features=13, out_features=64), MyOperator(in_features=64, out_features=64))
"""

from __future__ import annotations

import math
from fnmatch import fnmatch
from typing import ClassVar

import numpy as np
import pytest

from pimsim.graph import Input, Product, Workload, WorkloadBuilder
from workloads.operators.base import Operator
from workloads.operators.embedding import Embedding


def random_inputs(operator: Operator, batch: int, rng: np.random.Generator, dtype: type = np.float64) -> list[np.ndarray]:
    """Inputs (batch, *in_shape); row numbers for an embedding, standard normal values otherwise."""
    if isinstance(operator, Embedding):
        return [rng.integers(table.rows, size=(batch, table.pooling)) for table in operator.tables]
    return [rng.standard_normal((batch, *shape)).astype(dtype) for shape in operator.in_shapes]


def random_parameters(operator: Operator, rng: np.random.Generator, dtype: type = np.float64) -> dict[str, np.ndarray]:
    """Standard normal parameters by name, divided by the root of the fan-in."""
    shapes = operator.parameter_shapes().items()
    return {name: (rng.standard_normal(shape) / math.sqrt(shape[-1])).astype(dtype) for name, shape in shapes}


def lowered(operator: Operator, name: str = "operator") -> tuple[Workload, str]:
    """A workload of the operator alone behind inputs of its shapes, and the name of the primitive that produces its output."""
    builder = WorkloadBuilder()
    sources = [
        builder.add(Input(name=f"input{i}", elements=math.prod(shape), bits=operator.activation_bits))
        for i, shape in enumerate(operator.in_shapes)
    ]
    out = operator.lower(builder, name, sources)
    return builder.build("conformance", batch=2), out


def unused_gram_macs(workload: Workload) -> int:
    """Multiply-accumulates that a whole Gram matrix has beyond its strict lower triangle, over a workload's triangle products."""
    triangles = [item for item in workload.operators if isinstance(item, Product) and item.triangle]
    return sum(item.groups * item.m**2 * item.k - item.macs for item in triangles)


class OperatorConformance:
    """What every operator owes the simulator and the training; a subclass sets `cases`."""

    cases: ClassVar[tuple[Operator, ...]] = ()
    element_wise: ClassVar[tuple[str, ...]] = ()
    """Patterns of parameters that element-wise passes apply (a layer norm's gain): not in any primitive's weight bytes."""

    def test_has_cases(self) -> None:
        """A suite without cases would pass in silence."""
        assert self.cases

    def test_primitives_multiply_as_often_as_the_operator_says(self) -> None:
        for case in self.cases:
            assert lowered(case)[0].macs == case.macs, case

    def test_parameters_are_the_products_of_their_shapes(self) -> None:
        for case in self.cases:
            arrays = random_parameters(case, np.random.default_rng(0))
            assert sum(array.size for array in arrays.values()) == case.parameters, case

    def test_weights_lie_in_the_primitives(self) -> None:
        for case in self.cases:
            workload, _ = lowered(case)
            shapes = case.parameter_shapes().items()
            apart = sum(math.prod(shape) for name, shape in shapes if any(fnmatch(name, pattern) for pattern in self.element_wise))
            stored = workload.weight_bytes + sum(gather.table_bytes for gather in workload.gathers)
            assert stored == 4 * (case.parameters - apart), case

    def test_reference_has_the_stated_shape(self) -> None:
        for case in self.cases:
            rng = np.random.default_rng(1)
            for batch in (1, 3):
                out = case.reference(random_parameters(case, rng), *random_inputs(case, batch, rng))
                assert out.shape == (batch, *case.out_shape), case
                assert np.isfinite(out).all(), case

    def test_reference_keeps_samples_apart(self) -> None:
        for case in self.cases:
            rng = np.random.default_rng(2)
            parameters, inputs = random_parameters(case, rng), random_inputs(case, 4, rng)
            whole = case.reference(parameters, *inputs)
            alone = [case.reference(parameters, *(x[i : i + 1] for x in inputs)) for i in range(4)]
            np.testing.assert_allclose(whole, np.concatenate(alone), rtol=1e-10, atol=1e-12)

    def test_torch_equals_the_reference_and_learns(self) -> None:
        torch = pytest.importorskip("torch")
        for case in self.cases:
            rng = np.random.default_rng(3)
            arrays, inputs = random_parameters(case, rng), random_inputs(case, 3, rng)
            parameters = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
            out = case.forward(parameters, *(torch.from_numpy(x) for x in inputs))
            np.testing.assert_allclose(out.detach().numpy(), case.reference(arrays, *inputs), rtol=1e-9, atol=1e-11)
            if parameters:
                (out * torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))).sum().backward()
            for name, tensor in parameters.items():
                assert tensor.grad is not None and torch.isfinite(tensor.grad).all(), (case, name)

    def test_torch_multiplies_as_often(self) -> None:
        """Torch's own count of the matrix products; of a Gram matrix it executes more than the strict lower triangle."""
        torch = pytest.importorskip("torch")
        from torch.utils.flop_counter import FlopCounterMode

        for case in self.cases:
            rng = np.random.default_rng(4)
            parameters = {name: torch.from_numpy(array) for name, array in random_parameters(case, rng).items()}
            with FlopCounterMode(display=False) as counter:
                case.forward(parameters, *(torch.from_numpy(x) for x in random_inputs(case, 1, rng)))
            workload, _ = lowered(case)
            assert counter.get_total_flops() // 2 == workload.macs + unused_gram_macs(workload), case

    def test_lowering_ends_in_the_output(self) -> None:
        for case in self.cases:
            workload, out = lowered(case)
            producer = workload.graph.nodes[out]["operator"]
            assert producer.output_bytes == math.prod(case.out_shape) * case.activation_bits // 8, case

    def test_lowering_reads_every_input_and_wastes_nothing(self) -> None:
        for case in self.cases:
            workload, out = lowered(case)
            unread = [name for name, readers in workload.graph.out_degree() if readers == 0]
            assert unread == [out], case

    def test_names_start_with_the_operator_name(self) -> None:
        for case in self.cases:
            names = [o.name for o in lowered(case, "block1.op")[0].operators if not isinstance(o, Input)]
            assert all(name == "block1.op" or name.startswith("block1.op.") for name in names), names

    def test_weight_bits_change_weights_only(self) -> None:
        for case in self.cases:
            narrow, wide = lowered(case.model_copy(update={"weight_bits": 8}))[0], lowered(case)[0]
            assert narrow.macs == wide.macs
            shapes = case.parameter_shapes().items()
            in_passes = {name for name, _ in shapes if any(fnmatch(name, pattern) for pattern in self.element_wise)}
            biases = 4 * sum(math.prod(shape) for name, shape in shapes if name.endswith("bias") and name not in in_passes)
            if narrow.weight_bytes:
                assert 4 * (narrow.weight_bytes - biases) == wide.weight_bytes - biases, case

    def test_survives_a_file(self, tmp_path) -> None:
        for case in self.cases:
            workload, _ = lowered(case)
            workload.save(tmp_path / "workload.json")
            assert Workload.load(tmp_path / "workload.json").operators == workload.operators
            assert type(case).model_validate(case.model_dump(mode="json")) == case
