"""Walks through the controller's window by hand and beside the engine, on the same look-ups and in samples of them."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.analytic.table import memory_facts
from pimsim.analytic.window import MOST, PIECE, PIECES, WHOLE, Due, Sample, rules, sample, slowest, walked
from pimsim.api import load_device
from pimsim.dram.standard import resolve_organisation, resolve_timing
from pimsim.engine.dram import replay
from pimsim.engine.memory import address_stream
from pimsim.engine.reducers import read_rank
from pimsim.mapping.placement import Coordinates
from pimsim.spec.dram import DramSpec

QUIET = {"dram.controller.refresh": "off", "dram.channels": 1}
EXACT = ("ddr4_3200", "ddr5_4800", "gddr6_14000", "hbm3_5200")


def memory(name: str, **override: object) -> DramSpec:
    return load_device(name, QUIET | {f"dram.{key.replace('__', '.')}": value for key, value in override.items()}).dram


def reads(bank: np.ndarray, row: np.ndarray, bursts: int | np.ndarray = 1) -> Sample:
    return sample(bank, row, np.zeros(len(bank), np.int64) + bursts, np.ones(len(bank), bool))


def drawn(dram: DramSpec, count: int, bursts: int, seed: int = 0) -> Coordinates:
    """Look-ups all over one channel; few rows, so that some are open."""
    rng, organisation = np.random.default_rng(seed), resolve_organisation(dram)
    return Coordinates(
        channel=np.zeros(count, np.int64),
        bank=rng.integers(0, organisation.banks, count),
        row=rng.integers(0, 40, count),
        column=rng.integers(0, organisation.columns // bursts, count) * bursts,
        bursts=np.full(count, bursts),
    )


def simulated(dram: DramSpec, where: Coordinates) -> tuple[int, int]:
    """Clocks and activations of the engine."""
    address = address_stream(dram, resolve_organisation(dram), where)
    result = replay(dram, address, np.zeros(len(address), bool))
    return result.cycles, result.commands["ACT"]


def test_one_bank_by_hand() -> None:
    """DDR4-3200: a row cycle of 74 clocks for each row of one bank; the last row's data come 22 + 22 + 4 clocks after its ACT."""
    dram, count = memory("ddr4_3200"), 100
    found = walked(rules(dram), reads(np.zeros(count, np.int64), np.arange(count)))
    assert found.clocks == 1 + (count - 1) * 74 + 22 + 22 + 4 and found.reopened == 1
    alike = walked(rules(dram), reads(np.zeros(count, np.int64), np.zeros(count, np.int64)))
    assert alike.clocks == 1 + 22 + (count - 1) * 8 + 22 + 4  # one row: a burst each nCCDL


def test_what_comes_late_is_served_late() -> None:
    dram = memory("ddr4_3200")
    lone = memory_facts(dram)["unloaded"]
    found = walked(rules(dram), reads(np.arange(10), np.arange(10)), Due.at(np.arange(10) * 1000))
    assert found.clocks == 9000 + lone


@pytest.mark.parametrize("bursts", [1, 4])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", [*EXACT, "hbm2_2000", "lpddr5_6400"])
def test_walks_beside_the_engine(name: str, ranks: int, bursts: int) -> None:
    """The same clocks and activations; HBM2's two command buses and LPDDR5's two-step activations are a little simplified."""
    dram = memory(name, **({"ranks": ranks} if name not in ("gddr6_14000", "hbm2_2000") else {}))
    where = drawn(dram, MOST, bursts)
    cycles, activations = simulated(dram, where)
    of_all = sample(where.bank, where.row, where.bursts, np.ones(MOST, bool))
    found = walked(rules(dram), of_all)
    assert not of_all.skipped
    if name in EXACT:
        assert (found.clocks, round(found.reopened * MOST)) == (cycles, activations)
    assert found.clocks == pytest.approx(cycles, rel=0.015)


@pytest.mark.parametrize("name", ["ddr4_3200", "gddr6_14000", "lpddr5_6400"])
def test_a_sample_stands_for_all(name: str) -> None:
    dram = memory(name)
    where = drawn(dram, 4000, 2)
    part = sample(where.bank, where.row, where.bursts, np.ones(4000, bool))
    size = PIECE * PIECES
    assert len(part.bank) == size and part.skipped == 2 * (4000 - size) and part.at[0] == 0 and part.at[-1] == 3999
    assert walked(rules(dram), part).clocks == pytest.approx(simulated(dram, where)[0], rel=0.005)  # as all of them: no override
    for override in ({"timing__nRP": 40}, {"timing__nCCDL": 12}, {"timing__nFAW": 60}):
        other = memory(name, **override)
        assert walked(rules(other), part).clocks == pytest.approx(simulated(other, where)[0], rel=0.06)


def test_of_very_many_the_long_walk_is_a_sample_too() -> None:
    dram = memory("ddr4_3200")
    where = drawn(dram, 3 * WHOLE, 2)
    part = sample(where.bank, where.row, where.bursts, np.ones(3 * WHOLE, bool))
    assert part.whole is not None and len(part.whole.bank) == WHOLE and part.whole.skipped == 2 * 2 * WHOLE
    assert walked(rules(dram), part).clocks == pytest.approx(simulated(dram, where)[0], rel=0.03)


@pytest.mark.parametrize("level", ["rank", "bankgroup", "bank"])
def test_reads_that_end_at_reducers(level: str) -> None:
    """One rank on its own, instructions at intervals: the clocks of the engine's ranks."""
    dram, rng, piece = memory("ddr5_4800", ranks=2), np.random.default_rng(3), 1 if level == "rank" else 4
    bank, row, due = rng.integers(0, 32, 200), rng.integers(0, 900, 200), np.arange(200) * 5
    expected = read_rank(dram, level, piece, bank, row, np.zeros(200, np.int64), due).ready.max()  # type: ignore[arg-type]
    assert walked(rules(dram, level, piece, alone=True), reads(bank, row), Due.at(due)).clocks == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("key", "more"), [("nRP", 20), ("nRCD", 20), ("nCCDL", 6), ("nFAW", 60), ("nRC", 60)])
def test_overrides_of_timing_act_by_their_constraints(key: str, more: int) -> None:
    plain, bank = memory("ddr4_3200"), np.arange(200) % 16
    slow = memory("ddr4_3200", **{f"timing__{key}": resolve_timing(plain)[key] + more})
    of = reads(bank, np.arange(200), 2)
    assert rules(slow).key != rules(plain).key
    assert walked(rules(slow), of).clocks > walked(rules(plain), of).clocks


def test_the_slowest_channel_counts() -> None:
    """A channel of fewer bursts but one bank is slower; nothing takes no time."""
    by = rules(memory("ddr4_3200"))
    busy, longest = reads(np.arange(400) % 16, np.arange(400)), reads(np.zeros(300, np.int64), np.arange(300))
    assert slowest(by, [busy, longest]).clocks == walked(by, longest).clocks > walked(by, busy).clocks
    assert slowest(by, []).clocks == walked(by, reads(np.empty(0, np.int64), np.empty(0, np.int64))).clocks == 0
