"""What a device is: memory, compute units beside it, a host, and where things are mapped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, SerializeAsAny, field_validator

from pimsim import configs
from pimsim.discovery import implementations
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.base import Sourced, Spec, validate
from pimsim.spec.dram import DramSpec
from pimsim.spec.interconnect import InterconnectSpec
from pimsim.spec.link import LinkSpec
from pimsim.spec.operating import ScaledLogic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pimsim.graph import AnyPrimitive, Gather, MatMul, Product
    from pimsim.mapping.placement import Coordinates
    from pimsim.units.cost import KernelRun, LookUps, OperatorCost


class UnitSpec(Sourced, ABC):
    """Base of the specs of compute units beside the memory; the subclasses live in `pimsim/units/<kind>.py`."""

    ON_DIE_NETWORK: ClassVar[bool] = False
    """True for units whose inputs and results go over `interconnect`."""
    COMMANDS_OF: ClassVar[str] = "a channel"
    """Whose work the `commands` of a kernel count."""
    kind: str
    """File name in `pimsim/units/`."""

    @abstractmethod
    def area_mm2(self, device: DeviceSpec) -> float:
        """Area of all units of a device."""

    def logic_clock_mhz(self, device: DeviceSpec) -> float | None:
        """Clock of the units' logic, their own or in step with the memory; None where they have none."""
        return getattr(self, "clock_mhz", None)

    def at_clock(self) -> Self:
        """The unit with what its own clock changes beside its time; itself for units without such numbers."""
        return self

    def stripes(self, device: DeviceSpec) -> int:
        """Pieces into which `mapping.tables: striped` cuts a row within one channel."""
        return int(getattr(self, "units_per_channel", 1))

    def matmul(self, item: MatMul, device: DeviceSpec, batch: int) -> OperatorCost:
        """Cost of stationary weights times a batch's vectors, within a model.

        Raises:
            ConfigError: these units do not multiply matrices.
        """
        raise ConfigError(f"mapping.matmul: 'pim': units of kind {self.kind} do not multiply matrices (allowed: host)")

    def product(self, item: Product, device: DeviceSpec, batch: int) -> OperatorCost:
        """Cost of a product of two activations, within a model: operands brought to the units, results read back.

        Raises:
            ConfigError: these units do not multiply activations.
        """
        raise ConfigError(f"mapping.interaction: 'pim': units of kind {self.kind} do not multiply activations (allowed: host)")

    def gather(self, item: Gather, device: DeviceSpec, batch: int, where: Coordinates, bag: NDArray[np.int64]) -> OperatorCost:
        """Cost of an embedding gather-and-reduce, within a model; `bag` numbers the (sample, table) of each look-up, both (n,).

        Raises:
            ConfigError: these units do not gather.
        """
        raise ConfigError(f"mapping.embedding: 'pim': units of kind {self.kind} do not gather embeddings (allowed: host)")

    def run_kernel(
        self, item: AnyPrimitive, device: DeviceSpec, batch: int, lookups: LookUps | None = None, end_to_end: bool = False
    ) -> KernelRun:
        """One kernel alone, from its first command to its last, on all channels of the device.

        Args:
            item: `MatMul`, `Elementwise` or `Gather`, sizes per sample.
            device: The device whose unit this is.
            batch: Samples.
            lookups: The rows to gather, for a `Gather`.
            end_to_end: Count the read-back of results and the host's share of the reduction too; weights are resident either way.

        Raises:
            ConfigError: a kernel or size that these units do not run.
        """
        raise ConfigError(f"kernel {item.op}: units of kind {self.kind} do not run it")

    def compute(self, item: AnyPrimitive, *operands: NDArray[Any]) -> NDArray[Any]:
        """The values that these units compute, in their own arithmetic and order of additions.

        Args:
            item: `MatMul`: operands are weights (out, in) and vectors (batch, in), result (batch, out). `Elementwise`: one array an
                operand. `Gather`: for one table, rows (rows, dim), indices (batch, pooling) and optionally weights of the look-ups
                (batch, pooling), result (batch, dim). `Product`: vectors (batch, m, k) and (batch, n, k), or the first alone for its Gram
                matrix; result (batch, m, n), or (batch, pairs) row by row for a strict lower triangle. `Reduce`: vectors (batch, k,
                outputs), result (batch, outputs).
            *operands: The values; rounded to the unit's formats first.

        Raises:
            ConfigError: a kernel or type that these units do not run.
        """
        raise ConfigError(f"kernel {item.op}: units of kind {self.kind} do not run it")


class HostSpec(ScaledLogic):
    """The processor that the memory serves: a roofline over the same memory, with weights and embedding rows in a last-level cache."""

    peak_gflops: PositiveFloat
    """Peak FP32 arithmetic of the share of the host that serves this model, GFLOP/s (a multiply-accumulate is two)."""
    efficiency: float = Field(default=0.5, gt=0, le=1)
    """Share of the peak that small dense operators reach."""
    llc_bytes: PositiveInt
    """Last-level cache; stationary weights stay in it if all of the model's fit, else they stream from memory each batch."""
    llc_gbps: PositiveFloat
    """Bandwidth of the last-level cache."""
    llc_ways: PositiveInt = 16
    """Lines of one set of the last-level cache."""
    llc_latency_ns: NonNegativeFloat = 0.0
    """From a core's request to data that the last-level cache holds."""
    line_bytes: PositiveInt = 64
    """What one outstanding request fetches: a cache line, or a sector of one."""
    cache_embeddings: bool = True
    """True: the last-level cache serves embedding rows that it holds; false: they always come from memory."""
    llc_embedding_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of the last-level cache that embedding rows may fill while the host gathers; weights and activations have the rest."""
    memory_path_ns: NonNegativeFloat = 0.0
    """What a request that misses the last-level cache takes on the chip and the board beside the DRAM's own latency."""
    max_outstanding_lines: PositiveInt | None = None
    """Requests beyond the private caches that all cores together can wait for (cores x line-fill buffers); none = no limit."""
    dispatch_ns: NonNegativeFloat = 0.0
    """Fixed cost of starting one operator on the host."""
    pj_per_flop: NonNegativeFloat
    """Energy of one FP32 operation, instruction overhead included."""
    pj_per_llc_byte: NonNegativeFloat
    """Energy of one byte read from or written to the last-level cache."""
    static_w: NonNegativeFloat = 0.0
    """Standing power of the share of the host that serves this model."""
    clock_mhz: PositiveFloat | None = None
    """Clock of the cores and the last-level cache; none: the nominal one."""
    nominal_clock_mhz: PositiveFloat | None = None
    """Clock for which `peak_gflops`, `llc_gbps`, `llc_latency_ns` and `dispatch_ns` hold."""


class MappingSpec(Spec):
    """Where tables, weights and operators live."""

    tables: Literal["striped", "table", "row"] = "row"
    """`row`: the rows of every table are spread over all channels and banks; `table`: each table fills one bank after another;
    `striped`: every row is cut over all units of one channel, which read it in lock-step."""
    embedding: Literal["pim", "host"] = "host"
    """Who gathers and reduces embeddings."""
    matmul: Literal["pim", "host"] = "host"
    """Who multiplies stationary weights."""
    interaction: Literal["pim", "host"] = "host"
    """Who multiplies two activations (dot-product interaction, attention)."""
    operators: dict[str, Literal["pim", "host"]] = Field(default_factory=dict)
    """Single operators of a model, by name, that run elsewhere than their kind."""


class DeviceSpec(Spec):
    """One system: `name.yaml` under `configs/devices/`, or the user's own file."""

    name: str
    kind: Literal["memory", "near-bank", "near-rank", "dpu"]
    """`memory`: no compute beside the memory; `near-bank`: units at banks or bank groups; `near-rank`: units on the module, beside its
    ranks; `dpu`: general-purpose processors at the banks."""
    summary: str
    """One line: which part, which public numbers."""
    source: str
    """Main public source of the device."""
    dram: DramSpec
    unit: SerializeAsAny[UnitSpec] | None = None
    """Compute units beside the memory."""
    interconnect: InterconnectSpec | None = None
    """Network on the memory's die between a channel's interface and its units; none: its time and energy are in the other numbers."""
    host: HostSpec
    """The processor; a device file may name a file of `configs/hosts/` instead."""
    link: LinkSpec | None = None
    """Link between host and memory, or the name of a file of `configs/links/`; none: the memory's channels are the host's own."""
    host_memory: DramSpec | None = None
    """The host's own memory, for weights, or the name of a device whose memory it is; none: weights lie in `dram`, behind the link."""
    mapping: MappingSpec = MappingSpec()

    @classmethod
    def model_for(cls, part: str, tree: Any) -> type[UnitSpec] | None:
        """The spec class that a section's own `kind` asks for."""
        if part != "unit" or not isinstance(tree, dict):
            return None
        return implementations("pimsim.units", "UNIT").get(str(tree.get("kind", "")))

    @field_validator("unit", mode="before")
    @classmethod
    def _discover_unit(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found = implementations("pimsim.units", "UNIT")
        kind = value.get("kind")
        if not isinstance(kind, str) or kind not in found:
            raise ValueError(unknown_name("unit kind", kind, found))
        return found[kind].model_validate(value)


def load_device(name_or_path: str | Path, overrides: dict[str, Any] | None = None) -> DeviceSpec:
    """A device by shipped name or file path, with dotted overrides such as `{"dram.channels": 4}`, at its operating points.

    Raises:
        ConfigError: unknown name, unreadable file or invalid value; one line with file, dotted key, value and what is allowed.
    """
    from pimsim.energy.dvfs import at_operating_point

    path = configs.resolve("devices", name_or_path)
    tree = configs.read_yaml(path)
    _read_parts(tree)
    for key, value in (overrides or {}).items():
        configs.set_dotted(tree, key, value)
        _read_parts(tree)
        section, _, field = key.rpartition(".")
        if isinstance(value, int | float) and section in {"dram", "unit", "host", "interconnect", "link", "host_memory"}:
            sources = tree[section].setdefault("source", {})
            if isinstance(sources, dict):
                sources[field] = "override"
    where = str(path) if not overrides else f"{path} with {', '.join(f'{k}={v}' for k, v in overrides.items())}"
    device = validate(DeviceSpec, tree, where)
    mapping = device.mapping
    if device.unit is None and "pim" in (mapping.embedding, mapping.matmul, mapping.interaction, *mapping.operators.values()):
        raise ConfigError(f"{where}: mapping: 'pim' needs a `unit` section")
    if device.interconnect is not None and (device.unit is None or not device.unit.ON_DIE_NETWORK):
        kind = "none" if device.unit is None else device.unit.kind
        raise ConfigError(f"{where}: interconnect: needs units that use it, beside the banks (unit: {kind}; allowed: near_bank)")
    if device.host_memory is not None and device.link is None:
        raise ConfigError(f"{where}: host_memory: needs a `link` section; without one the host's memory is `dram`")
    try:
        return at_operating_point(device)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _read_parts(tree: dict[str, Any]) -> None:
    """Puts the files of a host and a link in the place of their names, and a device's memory in the place of a host memory's."""
    for part in ("host", "link"):
        if isinstance(tree.get(part), str):
            tree[part] = configs.read_yaml(configs.resolve(f"{part}s", tree[part]))
    if isinstance(tree.get("host_memory"), str):
        tree["host_memory"] = configs.read_yaml(configs.resolve("devices", tree["host_memory"])).get("dram")
