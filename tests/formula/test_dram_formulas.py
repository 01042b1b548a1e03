"""Closed forms beside the engine: latency, bandwidth, refresh, row cycle, activation window, energy by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pimsim.dram.standard import common_timing, evaluate, resolve_organisation, resolve_timing, standard_of
from pimsim.energy.dram import background_power_mw, command_energy_pj, energy_per_command_pj
from pimsim.engine.check import checks
from pimsim.engine.dram import peak_bandwidth_gbps, replay
from pimsim.errors import ConfigError
from pimsim.mapping.address import compose
from pimsim.spec.device import load_device
from pimsim.spec.dram import ControllerSpec, DramSpec
from pimsim.testing.legality import standards

DDR4 = DramSpec(standard="ddr4", organisation="8Gb_x8", speed="3200AA", controller=ControllerSpec(refresh="off"))
HBM2 = DramSpec(standard="hbm2", organisation="4Gb", speed="2000", controller=ControllerSpec(refresh="off"))
PRESETS = [(name, o, s) for name, standard in standards().items() for o in standard.organisations for s in standard.speeds]


@pytest.mark.parametrize("preset", PRESETS, ids="-".join)
def test_every_preset_meets_its_closed_forms(preset):
    dram = DramSpec(standard=preset[0], organisation=preset[1], speed=preset[2])
    device = load_device("ddr4_3200").model_copy(update={"dram": dram})
    failed = [check for check in checks(device) if not check.ok]
    assert failed == []


@pytest.mark.parametrize("name", ["ddr4_3200", "ddr5_4800", "gddr6_14000", "hbm2_2000", "hbm3_5200", "lpddr5_6400"])
def test_shipped_devices_meet_their_closed_forms(name):
    assert [check for check in checks(load_device(name)) if not check.ok] == []


@pytest.mark.parametrize("name", ["ddr4_3200", "ddr5_4800", "lpddr5_6400"])
def test_two_ranks_meet_their_closed_forms(name):
    assert [check for check in checks(load_device(name, {"dram.ranks": 2})) if not check.ok] == []


@pytest.mark.parametrize("override", ["nRCD", "nCL", "nBL"])
def test_unloaded_latency_follows_each_parameter(override):
    base = replay(DDR4, np.zeros(1, np.uint64), np.zeros(1, bool)).mean_read_latency_cycles
    longer = DDR4.model_copy(update={"timing": {override: resolve_timing(DDR4)[override] + 5}})
    assert base == 1 + 22 + 22 + 4
    assert replay(longer, np.zeros(1, np.uint64), np.zeros(1, bool)).mean_read_latency_cycles == base + 5


def _departures(spec: DramSpec, bank, row, column, write) -> list[int]:
    address = compose(spec, channel=0, bank=np.array(bank), row=np.array(row), column=np.array(column))
    return replay(spec, address, np.array(write, bool)).departed.tolist()


def test_turnarounds_by_hand():
    """Write then read of the same row: CWL + BL/2 + WTR_L; of another group: WTR_S; read then write: CL + BL/2 + 2 - CWL."""
    assert _departures(DDR4, [0, 0], [5, 5], [0, 1], [1, 0])[1] == 23 + (16 + 4 + 12) + 26
    assert _departures(DDR4, [0, 4], [5, 5], [0, 1], [1, 0])[1] == 23 + (16 + 4 + 4) + 26


def test_faw_limits_five_activations():
    departed = _departures(DDR4, [0, 4, 8, 12, 1], [5] * 5, [0] * 5, [0] * 5)
    assert departed == [49, 53, 57, 61, 36 + 22 + 26]  # legal at 35, where a read owns the command slot


def test_nccdl_binds_within_a_bank_group():
    slow = DDR4.model_copy(update={"timing": {"nCCDL": 16}})
    hits = ([0] * 64, [5] * 64, list(range(64)), [0] * 64)
    assert np.diff(_departures(DDR4, *hits)).tolist() == [8] * 63
    assert np.diff(_departures(slow, *hits)).tolist() == [16] * 63


def test_peak_bandwidth():
    assert peak_bandwidth_gbps(DDR4) == pytest.approx(25.6)
    assert peak_bandwidth_gbps(HBM2.model_copy(update={"channels": 16})) == pytest.approx(256)


def test_ddr4_energy_by_hand():
    """DDR4-3200, a rank of eight devices, from the currents: 6720, 4454.4 and 1094860.8 mA V clocks times 0.625 ns."""
    energy = energy_per_command_pj(DDR4)
    assert energy["ACT"] == pytest.approx(1.2 * (57 * 74 - 52 * 52 - 37 * 22) * 8 * 0.625) == pytest.approx(4200.0)
    assert energy["RD"] == pytest.approx(1.2 * (168 - 52) * 4 * 8 * 0.625) == pytest.approx(2784.0)
    assert energy["REF"] == pytest.approx(1.2 * (250 - 52) * 576 * 8 * 0.625) == pytest.approx(684288.0)
    assert background_power_mw(DDR4) == pytest.approx((1.2 * 52 * 8, 1.2 * 37 * 8))


def test_hbm2_energy_by_hand():
    """Half of a 128-bit legacy channel: 828 / 2 pJ an activation, 804 / 2 pJ a burst of 32 bytes."""
    energy = energy_per_command_pj(HBM2)
    assert energy["ACT"] == pytest.approx(1.2 * (65 * 48 - 55 * 34 - 40 * 14) / 2) == pytest.approx(414.0)
    assert energy["RD"] == pytest.approx(1.2 * (390 - 55) * 2 / 2) == pytest.approx(402.0)


def test_energy_breakdown_adds_up():
    """Counts times energy each, and standing power by the clocks that the rank is open: here from the ACT at 1 to the end."""
    spec = DDR4.model_copy(update={"io_pj_per_bit": 5.0})
    result = replay(spec, np.zeros(1, np.uint64), np.zeros(1, bool))
    energy = result.energy_nj
    assert energy["activate"] == pytest.approx(4.2) and energy["read"] == pytest.approx(2.784) and energy["write"] == 0
    assert energy["io"] == pytest.approx(64 * 8 * 5e-3)
    assert energy["background"] == pytest.approx((48 * 52 + 1 * 37) * 1.2 * 8 * 0.625e-3)
    assert energy["total"] == pytest.approx(sum(value for part, value in energy.items() if part != "total"))


def test_energy_without_public_currents_is_none():
    spec = DDR4.model_copy(update={"organisation": "8Gb_x16"})
    assert command_energy_pj(spec) is None
    result = replay(spec, np.zeros(1, np.uint64), np.zeros(1, bool))
    assert set(result.energy_nj.values()) == {None}
    with pytest.raises(ConfigError, match="no public currents"):
        energy_per_command_pj(spec)


@pytest.mark.parametrize("name", sorted(standards()))
def test_standards_are_consistent(name):
    """Every latency evaluates with every speed bin, every bin has a source and a clock that fits its data rate."""
    standard = standards()[name]
    assert standard.source and len(standard.speeds) >= 2 and len(standard.organisations) >= 2
    for (organisation, speed), currents in standard.currents.items():
        assert organisation in standard.organisations and speed in standard.speeds and currents.source and currents.scope
    for organisation in standard.organisations:
        for speed, details in standard.speeds.items():
            spec = DramSpec(standard=name, organisation=organisation, speed=speed)
            timing, geometry = common_timing(spec), resolve_organisation(spec)
            beats, ticks = standard.beats_per_clock, standard.ticks_per_clock
            assert details.source
            assert details.rate_mtps * timing["tCK_ps"] * ticks == pytest.approx(beats * 1e6, rel=3e-3)
            assert all(evaluate(c.latency, timing) > 0 for c in standard_of(spec).constraints if not c.sibling)
            assert evaluate(standard.read_latency, timing) > 0
            assert geometry.channel_bytes * 8 == geometry.density_mb * 2**20 * geometry.channel_bits // geometry.device_bits
            assert geometry.burst_bytes * 8 == geometry.channel_bits * timing["nBL"] * beats // ticks
