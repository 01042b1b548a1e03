"""What a unit kind's closed forms answer; `pimsim/analytic/<kind>.py` defines `ANALYTIC`, an instance of a subclass."""

from __future__ import annotations

from pimsim.analytic.cost import Costs
from pimsim.analytic.table import DeviceTable
from pimsim.analytic.trace import Trace
from pimsim.errors import ConfigError
from pimsim.graph import AnyPrimitive, Gather, MatMul, Product


class Analytic:
    """Closed forms of one unit kind; every device of a table has such a unit."""

    def matmul(self, item: MatMul, table: DeviceTable, batch: int) -> Costs:
        """As `UnitSpec.matmul`, on many devices.

        Raises:
            ConfigError: these units do not multiply matrices.
        """
        raise ConfigError("mapping.matmul: 'pim': these units do not multiply matrices (allowed: host)")

    def product(self, item: Product, table: DeviceTable, batch: int) -> Costs:
        """As `UnitSpec.product`, on many devices.

        Raises:
            ConfigError: these units do not multiply activations.
        """
        raise ConfigError("mapping.interaction: 'pim': these units do not multiply activations (allowed: host)")

    def gather(self, item: Gather, table: DeviceTable, batch: int, trace: Trace) -> Costs:
        """As `UnitSpec.gather`, on many devices.

        Raises:
            ConfigError: these units do not gather.
        """
        raise ConfigError("mapping.embedding: 'pim': these units do not gather embeddings (allowed: host)")

    def kernel(self, item: AnyPrimitive, table: DeviceTable, batch: int, trace: Trace | None, end_to_end: bool) -> Costs:
        """As `UnitSpec.run_kernel`, on many devices.

        Raises:
            ConfigError: a kernel that these units do not run.
        """
        raise ConfigError(f"kernel {item.op}: these units do not run it")
