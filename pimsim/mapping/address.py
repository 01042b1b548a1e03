"""Address maps: which bits of a byte address select channel, rank, bank group, bank, row and column.

A map is the order of the fields from the most significant down, joined by `-`, for example
`row-bank-bankgroup-rank-column-channel`; below the last field lie the bytes of one burst. `bank^row` after a `;` XORs the
bank with the low bits of the row (bank hashing), for example `row-bank-bankgroup-rank-column-channel;bank^row`. Some maps
also have a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import Organisation, resolve_organisation
from pimsim.errors import ConfigError, TraceError, unknown_name
from pimsim.spec.dram import DramSpec

FIELDS = ("row", "bank", "bankgroup", "rank", "column", "channel")
NAMED_MAPS = {
    "RoBaRaCoCh": "row-bank-bankgroup-rank-column-channel",
    "bankgroup-interleave": "row-bank-rank-column-bankgroup-channel",
    "ChRaBaRoCo": "channel-rank-bankgroup-bank-row-column",
    "bank-hash": "row-bank-bankgroup-rank-column-channel;bank^row,bankgroup^row",
}


@dataclass(frozen=True)
class AddressMap:
    """An order of fields with their sizes, and the fields that are hashed.

    Attributes:
        order: Field names from the most significant down.
        sizes: Number of values of each field, in the same order.
        hashes: (field, other field): the field is XORed with the low bits of the other one.
        burst_bytes: Bytes below the last field.
    """

    order: tuple[str, ...]
    sizes: tuple[int, ...]
    hashes: tuple[tuple[str, str], ...]
    burst_bytes: int

    def decode(self, address: NDArray[np.uint64], first: int = 0) -> dict[str, NDArray[np.int64]]:
        """Field values of byte addresses; `first` is the number of the first one in its trace.

        Raises:
            TraceError: an address beyond the capacity, with its number.
        """
        line = np.asarray(address).astype(np.uint64) // np.uint64(self.burst_bytes)
        capacity = int(np.prod([int(size) for size in self.sizes], dtype=object))
        beyond = line >= np.uint64(capacity)
        if beyond.any():
            at = int(beyond.argmax())
            value = int(np.asarray(address)[at])
            raise TraceError(f"request {first + at}: address {value:#x} is beyond the capacity of {capacity * self.burst_bytes:#x} bytes")
        rest = line.astype(np.int64)
        fields: dict[str, NDArray[np.int64]] = {}
        for name, size in zip(reversed(self.order), reversed(self.sizes), strict=True):
            if size & (size - 1) == 0:
                fields[name] = rest & (size - 1)
                rest = rest >> (size.bit_length() - 1)
            else:
                fields[name] = rest % size
                rest = rest // size
        return self._hash(fields)

    def encode(self, fields: dict[str, NDArray[np.int64]]) -> NDArray[np.uint64]:
        """Byte addresses of field values; the inverse of `decode`.

        Raises:
            ConfigError: a value outside of its field.
        """
        for name, size in zip(self.order, self.sizes, strict=True):
            value = np.asarray(fields[name])
            if value.size and (value.min() < 0 or value.max() >= size):
                raise ConfigError(f"{name} {int(value.max() if value.max() >= size else value.min())}: must be in 0..{size - 1}")
        fields = self._hash({name: np.asarray(fields[name], np.int64) for name in self.order})
        line: Any = np.int64(0)
        for name, size in zip(self.order, self.sizes, strict=True):
            line = line * size + fields[name]
        return (np.asarray(line) * self.burst_bytes).astype(np.uint64)

    def _hash(self, fields: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
        sizes = dict(zip(self.order, self.sizes, strict=True))
        return fields | {name: fields[name] ^ (fields[other] & (sizes[name] - 1)) for name, other in self.hashes}


def _parse(text: str) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    expression = NAMED_MAPS.get(text, text)
    order_text, _, hash_text = expression.partition(";")
    order = tuple(order_text.split("-"))
    if len(order) == 1 and order[0] not in FIELDS:
        raise ConfigError(unknown_name("address map (dram.address_map)", text, (*NAMED_MAPS, "-".join(FIELDS))))
    for name in order:
        if name not in FIELDS:
            raise ConfigError(f"dram.address_map: {text!r}: {unknown_name('field', name, FIELDS)}")
    if sorted(order) != sorted(FIELDS):
        raise ConfigError(f"dram.address_map: {text!r}: each of {', '.join(FIELDS)} must stand exactly once")
    hashes = []
    for item in filter(None, hash_text.split(",")):
        name, mark, other = item.partition("^")
        if not mark or name not in FIELDS or other not in FIELDS or name == other:
            raise ConfigError(f"dram.address_map: {text!r}: hash {item!r}: expected FIELD^FIELD, for example bank^row")
        hashes.append((name, other))
    if {name for name, _ in hashes} & {other for _, other in hashes}:
        raise ConfigError(f"dram.address_map: {text!r}: a hashed field cannot hash another field")
    return order, tuple(hashes)


def address_map(text: str, organisation: Organisation) -> AddressMap:
    """The address map that an expression or a name describes, for one organisation.

    Raises:
        ConfigError: unknown field or name, a field missing or twice, a hash over a field that is no power of two.
    """
    order, hashes = _parse(text)
    sizes = {
        "row": organisation.rows,
        "bank": organisation.banks_per_group,
        "bankgroup": organisation.bankgroups,
        "rank": organisation.ranks,
        "column": organisation.columns,
        "channel": organisation.channels,
    }
    for name, _ in hashes:
        if sizes[name] & (sizes[name] - 1):
            raise ConfigError(f"dram.address_map: {text!r}: {name} has {sizes[name]} values; hashing needs a power of two")
    return AddressMap(order, tuple(sizes[name] for name in order), hashes, organisation.burst_bytes)


def map_of(spec: DramSpec) -> AddressMap:
    """The address map of a specification."""
    return address_map(spec.address_map, resolve_organisation(spec))


def flat_bank(organisation: Organisation, fields: dict[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Bank number within the channel: rank, then bank group, then bank within the group."""
    group = fields["rank"] * organisation.bankgroups + fields["bankgroup"]
    return group * organisation.banks_per_group + fields["bank"]


def compose(spec: DramSpec, *, channel: Any, bank: Any, row: Any, column: Any) -> NDArray[np.uint64]:
    """Byte addresses from channel, bank within the channel (all ranks), row and column (in bursts).

    Raises:
        ConfigError: a coordinate outside of the organisation.
    """
    organisation = resolve_organisation(spec)
    channel, bank, row, column = np.broadcast_arrays(*(np.asarray(a, np.int64) for a in (channel, bank, row, column)))
    if bank.size and (bank.min() < 0 or bank.max() >= organisation.banks):
        raise ConfigError(f"bank {int(bank.max())}: must be in 0..{organisation.banks - 1}")
    group, within = np.divmod(bank, organisation.banks_per_group)
    rank, group = np.divmod(group, organisation.bankgroups)
    fields = {"channel": channel, "rank": rank, "bankgroup": group, "bank": within, "row": row, "column": column}
    return map_of(spec).encode(fields)
