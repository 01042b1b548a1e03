"""GDDR6 SGRAM: one of the two 16-bit channels of a device, four bank groups of four banks, single-cycle commands.

Timing values are clocks of CK (a quarter of WCK at double data rate): eight data beats of a pin in one clock. The speed bin of SK hynix's
AiM adds the timing of its own commands, which `pimsim/units/aim_timing.py` uses and the constraints here do not.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Currents, Organisation, PartialRefresh, SpeedBin, Standard

ACT, PRE, PREA, REF, REFPB = Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFPB
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES = (RD, RDA), (WR, WRA)

CONSTRAINTS = (
    Constraint("channel", READS, READS, "nBL"),
    Constraint("channel", WRITES, WRITES, "nBL"),
    Constraint("channel", READS, READS, "nCCDS"),
    Constraint("channel", WRITES, WRITES, "nCCDS"),
    Constraint("channel", READS, WRITES, "nCL + 1"),
    Constraint("channel", WRITES, READS, "nCWL + nBL + nWTRS"),
    Constraint("rank", (RD,), (PREA,), "nRTP"),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL + nWR"),
    Constraint("rank", (ACT,), (ACT,), "nRRDS"),
    Constraint("rank", (ACT,), (ACT, REFPB), "nFAW", window=4),
    Constraint("rank", (REFPB,), (ACT, REFPB), "nFAW", window=4),
    Constraint("rank", (ACT,), (PREA,), "nRAS"),
    Constraint("rank", (PREA,), (ACT,), "nRP"),
    Constraint("rank", (PRE, PREA), (PRE, PREA), "nPPD"),
    Constraint("rank", (ACT,), (REF,), "nRC"),
    Constraint("rank", (PRE, PREA), (REF,), "nRP"),
    Constraint("rank", (RDA,), (REF,), "nRTP + nRP"),
    Constraint("rank", (WRA,), (REF,), "nCWL + nBL + nWR + nRP"),
    Constraint("rank", (REF,), (ACT, PRE, PREA, RD, RDA, WR, WRA, REF, REFPB), "nRFCab"),
    Constraint("rank", (ACT,), (REFPB,), "nRRDS"),
    Constraint("rank", (PREA,), (REFPB,), "nRP"),
    Constraint("rank", (REFPB,), (ACT, REFPB), "nRREFD"),
    Constraint("rank", (REFPB,), (REF,), "nRFCpb"),
    Constraint("bankgroup", READS, READS, "nCCDL"),
    Constraint("bankgroup", WRITES, WRITES, "nCCDL"),
    Constraint("bankgroup", WRITES, READS, "nCWL + nBL + nWTRL"),
    Constraint("bankgroup", (ACT,), (ACT, REFPB), "nRRDL"),
    Constraint("bank", (ACT,), (ACT,), "nRC"),
    Constraint("bank", (ACT,), READS, "nRCDRD"),
    Constraint("bank", (ACT,), WRITES, "nRCDWR"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), "nRTP"),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL + nWR"),
    Constraint("bank", (RDA,), (ACT,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (ACT,), (REFPB,), "nRC"),
    Constraint("bank", (PRE,), (REFPB,), "nRP"),
    Constraint("bank", (RDA,), (REFPB,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (REFPB,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (REFPB,), (ACT, REFPB), "nRFCpb"),
)

PRESETS = "JESD250 as in Ramulator 2.1's GDDR6 presets (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/gddr6.py)"
CURRENTS = Currents(
    1.35,
    {"IDD0": 71, "IDD2N": 60, "IDD3N": 61, "IDD4R": 248, "IDD4W": 231, "IDD5AB": 286},
    16,
    "currents published for 12 Gb/s, one x16 device for one 16-bit channel; VDD only: no VPP, no I/O, no termination",
    "DRAMsim3 GDDR6_8Gb_x16.ini (umd-memsys/DRAMsim3 2981759)",
)
SHARED = {
    "nBL": 2,
    "nCL": 24,
    "nRTP": 4,
    "nCWL": 6,
    "nCCDS": 2,
    "nCCDL": 4,
    "nWTRS": 9,
    "nWTRL": 11,
    "nRFCpb": 106,
    "nRFCab": 211,
    "nREFI": 3333,
    "tCK_ps": 570,
}
FAST = {
    "nRCDRD": 27,
    "nRCDWR": 16,
    "nRP": 27,
    "nRAS": 53,
    "nRC": 79,
    "nWR": 27,
    "nRRDS": 8,
    "nRRDL": 8,
    "nFAW": 29,
    "nRREFD": 15,
    "nPPD": 1,
}
SLOW = {
    "nRCDRD": 30,
    "nRCDWR": 20,
    "nRP": 30,
    "nRAS": 60,
    "nRC": 90,
    "nWR": 30,
    "nRRDS": 11,
    "nRRDL": 11,
    "nFAW": 43,
    "nRREFD": 22,
    "nPPD": 2,
}

AIM = {
    "nBL": 2,
    "nCL": 50,
    "nRCDRD": 36,
    "nRCDRDMAC": 56,
    "nRCDEWMUL": 25,
    "nRCDRDAF": 86,
    "nRCDRDCP": 66,
    "nRCDWR": 28,
    "nRCDWRCP": 48,
    "nRP": 32,
    "nRAS": 54,
    "nRC": 89,
    "nWR": 33,
    "nRTP": 12,
    "nCWL": 6,
    "nCCDS": 2,
    "nCCDL": 2,
    "nRRDS": 11,
    "nRRDL": 11,
    "nWTRS": 9,
    "nWTRL": 11,
    "nFAW": 42,
    "nRREFD": 21,
    "nPPD": 2,
    "nRFCpb": 105,
    "nRFCab": 210,
    "nREFI": 3333,
    "nCLREG": 0,
    "nCWLREG": 1,
    "nCWLGB": 1,
    "nWPRE": 1,
    "nMODCH": 32,
    "tCK_ps": 500,
}
AIM_SOURCE = "GDDR6_AiM_timing of arkhadem/aim_simulator (0f28a07, src/dram/impl/GDDR6.cpp); nPPD as in the 1250 mV bin"
AIM_CURRENTS = Currents(
    1.25,
    {"IDD0": 234, "IDD2N": 147, "IDD3N": 211, "IDD4R": 562, "IDD4W": 654, "IDD5AB": 436},
    16,
    "one channel of AiM, turned back from the powers at 1.25 V that the source gives: ACT 66.3, RD 438, WR 553, standby 264 (a row open) "
    "and 183 mW; IDD5AB is an estimate: 225 mA over IDD3N, as in the currents of the 1350 mV bin; VDD only: no VPP, no I/O, no termination",
    "CENT's power script (arkhadem/aim_simulator 0f28a07, scripts/cellar_power_calculator.py)",
)


def _organisation(density_mb: int, columns: int) -> Organisation:
    return Organisation(density_mb, 16, 16, bankgroups=4, banks_per_group=4, rows=1 << 14, columns=columns, burst_bytes=32)


STANDARD = Standard(
    title="GDDR6 SGRAM (one 16-bit channel)",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL",
    organisations={"8Gb_x16": _organisation(4096, 64), "16Gb_x16": _organisation(8192, 128)},
    speeds={
        "14000_1350mV": SpeedBin(14000, SHARED | FAST, PRESETS),
        "14000_1250mV": SpeedBin(14000, SHARED | SLOW, PRESETS),
        "16000_AiM": SpeedBin(16000, AIM, AIM_SOURCE),
    },
    refresh_ns={},
    currents={("8Gb_x16", "14000_1350mV"): CURRENTS, ("8Gb_x16", "16000_AiM"): AIM_CURRENTS},
    source=PRESETS + "; PRE to REF nRP is JEDEC's and not in that file; per-bank refresh visits every bank once each nREFI",
    beats_per_clock=8,
    common={"nRCD": "nRCDRD", "nRFC": "nRFCab"},
    banks_refreshed={"per-bank": PartialRefresh(REFPB, "one", "nREFI // banks", "nRFCpb")},
)
