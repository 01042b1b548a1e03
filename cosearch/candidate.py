"""One joint genome: a recommender network and the hardware it runs on, with the space both are drawn from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from cosearch.problem import Choice
from pimsim.errors import ConfigError
from pimsim.graph import Gather, MatMul, Table, Workload
from pimsim.spec.device import DeviceSpec
from supernet.genotype import Genotype


@dataclass(frozen=True)
class Candidate:
    """A network and the values of every hardware gene.

    Attributes:
        model: The network's genotype, as drawn.
        hardware: (dotted device key, value) for every gene, sorted by key.
    """

    model: Genotype
    hardware: tuple[tuple[str, Choice], ...]

    def digest(self) -> str:
        """Sixteen hex digits, equal for equal functions (canonical genotypes) on equal hardware."""
        text = json.dumps([self.model.digest(), self.hardware])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back."""
        return {"model": self.model.model_dump(mode="json"), "hardware": dict(self.hardware)}

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Candidate:
        """Reads what `to_json` wrote."""
        return cls(Genotype.model_validate(tree["model"]), tuple(sorted(tree["hardware"].items())))


PROBE = Workload(
    name="probe",
    operators=(
        Gather(name="embedding", tables=(Table(name="t", rows=16, dim=16),)),
        MatMul(name="fc", inputs=("embedding",), out_features=16, in_features=16),
    ),
)
"""One look-up and one small matrix: what no device of a combination can run is refused before it is proposed."""


class HardwareSpace:
    """Choices for dotted keys of a base device. Combinations that make no valid device are never drawn.

    Args:
        device: Base device.
        genes: Choices by dotted key.
        needed: Metrics that every device must give.

    Raises:
        ConfigError: a key or a choice that no device file could have, no valid combination at all, or a needed metric that the base
            device does not model.
    """

    ATTEMPTS = 1000

    def __init__(self, device: str, genes: dict[str, tuple[Choice, ...]], needed: tuple[str, ...] = ()) -> None:
        self.base, self.needed = device, needed
        self.genes = {key: genes[key] for key in sorted(genes)}
        self._devices: dict[tuple[tuple[str, Choice], ...], DeviceSpec | None] = {}
        self._refusal = ""
        self._load({})
        for key, choices in self.genes.items():
            for choice in choices:
                self._check(key, choice)
        self.sample(np.random.default_rng(0))  # a space without a device is known before anything is trained

    def _load(self, overrides: dict[str, Choice]) -> DeviceSpec:
        """A device that runs the probe and gives every needed metric."""
        from cosearch.evaluator import hardware_metrics
        from pimsim.api import load_device, simulate

        device = load_device(self.base, overrides)
        given = hardware_metrics(simulate(device, PROBE))
        for name in self.needed:
            if name in given and given[name] is None:
                where = "objectives or constraints"
                raise ConfigError(f"{where}: {name!r}: not modelled for device {device.name}; leave it out or take another device")
        return device

    def _check(self, key: str, choice: Choice) -> None:
        """A choice that no file could hold is a mistake; one that only the rest of the device refuses may fit elsewhere."""
        from pimsim.api import load_device

        try:
            load_device(self.base, {key: choice})
        except ConfigError as error:
            if f": {key}: " in str(error):
                raise ConfigError(f"hardware.{key}: {str(error).rpartition(f': {key}: ')[2]}") from None

    def device(self, hardware: tuple[tuple[str, Choice], ...]) -> DeviceSpec | None:
        """The device of one combination, or None if there is no such device."""
        if hardware not in self._devices:
            try:
                self._devices[hardware] = self._load(dict(hardware))
            except ConfigError as error:
                self._devices[hardware], self._refusal = None, str(error)
        return self._devices[hardware]

    def sample(self, rng: np.random.Generator) -> tuple[tuple[str, Choice], ...]:
        """A valid combination, uniform over the valid ones."""
        for _ in range(self.ATTEMPTS):
            drawn = tuple((key, choices[int(rng.integers(len(choices)))]) for key, choices in self.genes.items())
            if self.device(drawn) is not None:
                return drawn
        raise ConfigError(f"hardware: no valid combination of genes in {self.ATTEMPTS} draws, the last for: {self._refusal}")

    def mutate(self, hardware: tuple[tuple[str, Choice], ...], rng: np.random.Generator) -> tuple[tuple[str, Choice], ...]:
        """Another value for one gene; the combination as it was if no valid neighbour turns up."""
        free = [i for i, (key, _) in enumerate(hardware) if len(self.genes[key]) > 1]
        for _ in range(self.ATTEMPTS if free else 0):
            place = free[int(rng.integers(len(free)))]
            key, value = hardware[place]
            others = [choice for choice in self.genes[key] if choice != value]
            changed = (*hardware[:place], (key, others[int(rng.integers(len(others)))]), *hardware[place + 1 :])
            if self.device(changed) is not None:
                return changed
        return hardware

    def crossover(self, first: Any, second: Any, rng: np.random.Generator) -> tuple[tuple[str, Choice], ...]:
        """Every gene from either parent; the first parent if no valid mix turns up."""
        for _ in range(8):
            mixed = tuple(a if keep else b for a, b, keep in zip(first, second, rng.random(len(first)) < 0.5, strict=True))
            if self.device(mixed) is not None:
                return mixed
        return first


class JointSpace:
    """The space that algorithms search: a model space times a hardware space.

    A mutation changes one gene of the hardware with probability `hardware_share`, else one gene of the model.
    """

    def __init__(self, models: Any, hardware: HardwareSpace, hardware_share: float = 0.5) -> None:
        self.models, self.hardware = models, hardware
        self.hardware_share = hardware_share if any(len(choices) > 1 for choices in hardware.genes.values()) else 0.0

    def sample(self, rng: np.random.Generator) -> Candidate:
        """Model and hardware drawn independently."""
        return Candidate(self.models.sample(rng), self.hardware.sample(rng))

    def mutate(self, genome: Candidate, rng: np.random.Generator) -> Candidate:
        """One gene of the hardware or of the model re-drawn."""
        if rng.random() < self.hardware_share:
            return Candidate(genome.model, self.hardware.mutate(genome.hardware, rng))
        return Candidate(self.models.mutate(genome.model, rng), genome.hardware)

    def crossover(self, first: Candidate, second: Candidate, rng: np.random.Generator) -> Candidate:
        """Model and hardware mixed separately."""
        model = self.models.crossover(first.model, second.model, rng)
        return Candidate(model, self.hardware.crossover(first.hardware, second.hardware, rng))

    def genes(self) -> dict[str, tuple[Any, ...]]:
        """Choices of every gene: those of the hardware first, fewest choices first, then those of the model.

        Genes of a network are conditional: some matter only while others have certain values (a dead block's, the inputs of an operator
        that does not read them). Networks that differ in such genes alone have the same digest.
        """
        few = sorted((key for key, values in self.hardware.genes.items() if len(values) > 1), key=lambda key: len(self.hardware.genes[key]))
        hardware = {f"hardware.{key}": self.hardware.genes[key] for key in few}
        return hardware | {f"model.{name}": values for name, values in self.models.genes().items()}

    def to_flat(self, genome: Candidate) -> dict[str, Any]:
        """The value of every gene of `genes()`."""
        hardware = {f"hardware.{key}": value for key, value in genome.hardware if len(self.hardware.genes[key]) > 1}
        return hardware | {f"model.{name}": value for name, value in self.models.to_flat(genome.model).items()}

    def from_flat(self, flat: dict[str, Any]) -> Candidate | None:
        """The candidate with these values, or None where there is no such device."""
        hardware = tuple((key, flat.get(f"hardware.{key}", choices[0])) for key, choices in self.hardware.genes.items())
        if self.hardware.device(hardware) is None:
            return None
        model = {name.removeprefix("model."): value for name, value in flat.items() if name.startswith("model.")}
        return Candidate(self.models.from_flat(model), hardware)

    def digest(self, genome: Candidate) -> str:
        """See `Candidate.digest`."""
        return genome.digest()
