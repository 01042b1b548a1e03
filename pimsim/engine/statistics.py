"""Statistics and energy of a replay by channel, rank, bank group and bank."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pimsim.dram.standard import resolve_organisation
from pimsim.energy.dram import energy_breakdown_nj
from pimsim.engine.channel import BANK_FIELDS
from pimsim.engine.dram import ReplayResult
from pimsim.spec.dram import DramSpec


def per_channel(spec: DramSpec, result: ReplayResult) -> list[dict[str, Any]]:
    """What every channel, each of its bank groups and each of its banks did.

    Reads answered from the write queue or by another read, and writes merged into a queued one, reach no bank and are left out.

    Returns:
        One entry a channel: its clocks, its counts, `ranks` with their energy by part, `bankgroups` and `banks`, which hold the counts and
        where they are.
    """
    organisation = resolve_organisation(spec)
    groups, within = organisation.bankgroups, organisation.banks_per_group
    found = []
    for number, counts in enumerate(result.per_bank):
        by_group = counts.reshape(organisation.ranks, groups, within, -1).sum(axis=2)
        found.append(
            {
                "channel": number,
                "cycles": int(result.channel_cycles[number]),
                **_counts(counts.sum(axis=0)),
                "ranks": [
                    {"rank": rank, "energy_nj": _known(energy_breakdown_nj(spec, activity))}
                    for rank, activity in enumerate(result.rank_activity[number])
                ],
                "bankgroups": [
                    {"rank": rank, "bankgroup": group, **_counts(by_group[rank, group])}
                    for rank in range(organisation.ranks)
                    for group in range(groups)
                ],
                "banks": [
                    {"rank": at // (groups * within), "bankgroup": at // within % groups, "bank": at % within, **_counts(row)}
                    for at, row in enumerate(counts)
                ],
            }
        )
    return found


def _known(energy: dict[str, float | None]) -> dict[str, float | str]:
    return {part: "n/a" if value is None else value for part, value in energy.items()}


def _counts(values: NDArray[np.int64]) -> dict[str, Any]:
    named: dict[str, Any] = dict(zip(BANK_FIELDS, values.tolist(), strict=True))
    latency, reads = named.pop("read_latency_cycles"), named["reads"]
    return named | {"mean_read_latency_cycles": latency / reads if reads else "n/a"}
