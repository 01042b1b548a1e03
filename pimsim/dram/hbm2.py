"""HBM2: one 64-bit pseudo-channel of four bank groups of four banks, with separate row and column command buses.

A channel here is one pseudo-channel. ACT takes two clocks on the row bus.

Two timing names are no JEDEC parameters: `nBTA`, the idle clocks of the data bus between a read and a write; and `nDRAMSim`, 1 for the
rules of DRAMSim2 and the simulators made from it (a precharge waits for a read's burst and for what of nRTPL exceeds nCCDL; a refresh
follows the last precharge directly), 0 for the standard's.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Currents, Organisation, PartialRefresh, SpeedBin, Standard

ACT, PRE, PREA, REF, REFPB = Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFPB
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES = (RD, RDA), (WR, WRA)
READ_TO_PRECHARGE = "nRTPL + nDRAMSim * (nBL - nRTPL + max(nRTPL, nCCDL) - nCCDL)"

CONSTRAINTS = (
    Constraint("rank", READS, READS, "nBL"),
    Constraint("rank", WRITES, WRITES, "nBL"),
    Constraint("rank", READS, READS, "nCCDS"),
    Constraint("rank", WRITES, WRITES, "nCCDS"),
    Constraint("rank", READS, WRITES, "nCL + nBL + nBTA - nCWL"),
    Constraint("rank", WRITES, READS, "nCWL + nBL + nWTRS"),
    Constraint("rank", (RD,), (PREA,), READ_TO_PRECHARGE),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL + nWR"),
    Constraint("rank", (ACT,), (ACT,), "nRRDS"),
    Constraint("rank", (ACT,), (ACT,), "nFAW", window=4),
    Constraint("rank", (ACT,), (PREA,), "nRAS"),
    Constraint("rank", (PREA,), (ACT,), "nRP"),
    Constraint("rank", (ACT,), (REF,), "nRC - nDRAMSim * nRC"),
    Constraint("rank", (PRE, PREA), (REF,), "nRP - nDRAMSim * (nRP - 1)"),
    Constraint("rank", (RDA,), (REF,), f"{READ_TO_PRECHARGE} + nRP"),
    Constraint("rank", (WRA,), (REF,), "nCWL + nBL + nWR + nRP"),
    Constraint("rank", (REF,), (ACT, PREA, REF), "nRFC"),
    Constraint("rank", (REFPB,), (ACT,), "nRREFD"),
    Constraint("rank", (ACT,), (REFPB,), "nRRDS"),
    Constraint("bankgroup", READS, READS, "nCCDL"),
    Constraint("bankgroup", WRITES, WRITES, "nCCDL"),
    Constraint("bankgroup", WRITES, READS, "nCWL + nBL + nWTRL"),
    Constraint("bankgroup", (ACT,), (ACT,), "nRRDL"),
    Constraint("bank", (ACT,), (ACT,), "nRC"),
    Constraint("bank", (ACT,), READS, "nRCDRD"),
    Constraint("bank", (ACT,), WRITES, "nRCDWR"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), READ_TO_PRECHARGE),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL + nWR"),
    Constraint("bank", (RDA,), (ACT,), f"{READ_TO_PRECHARGE} + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (REFPB,), (ACT,), "nRFCpb"),
    Constraint("bank", (ACT,), (REFPB,), "nRC"),
    Constraint("bank", (PRE,), (REFPB,), "nRP"),
)

PRESETS = (
    "JESD235 as in Ramulator 2.1's HBM2 presets (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/hbm2.py); nFAW 15 ns is its estimate"
)
CURRENTS = Currents(
    1.2,
    {"IDD0": 65, "IDD2N": 40, "IDD3N": 55, "IDD4R": 390, "IDD4W": 500, "IDD5AB": 250},
    128,
    "currents of a 128-bit legacy channel at 1 GHz, half of them charged to a 64-bit pseudo-channel; no I/O, PHY or interposer",
    "DRAMsim3 HBM2_8Gb_x128.ini (umd-memsys/DRAMsim3 2981759)",
)


def _organisation(density_mb: int, rows: int) -> Organisation:
    return Organisation(density_mb, 64, 64, bankgroups=4, banks_per_group=4, rows=rows, columns=32, burst_bytes=32)


STANDARD = Standard(
    title="HBM2 (one pseudo-channel)",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL",
    organisations={"2Gb": _organisation(2048, 1 << 14), "4Gb": _organisation(4096, 1 << 15), "8Gb": _organisation(8192, 1 << 16)},
    speeds={
        "1600": SpeedBin(
            1600,
            {
                "nBL": 2,
                "nCL": 10,
                "nRCDRD": 10,
                "nRCDWR": 8,
                "nRP": 10,
                "nRAS": 24,
                "nRC": 34,
                "nWR": 12,
                "nRTPL": 4,
                "nCWL": 4,
                "nCCDS": 2,
                "nCCDL": 4,
                "nWTRS": 5,
                "nWTRL": 6,
                "nRRDS": 4,
                "nRRDL": 4,
                "nFAW": 12,
                "nBTA": 2,
                "nDRAMSim": 0,
                "tCK_ps": 1250,
            },
            PRESETS,
        ),
        "2000": SpeedBin(
            2000,
            {
                "nBL": 2,
                "nCL": 14,
                "nRCDRD": 14,
                "nRCDWR": 12,
                "nRP": 14,
                "nRAS": 34,
                "nRC": 48,
                "nWR": 16,
                "nRTPL": 5,
                "nCWL": 5,
                "nCCDS": 2,
                "nCCDL": 4,
                "nWTRS": 6,
                "nWTRL": 8,
                "nRRDS": 4,
                "nRRDL": 4,
                "nFAW": 15,
                "nBTA": 2,
                "nDRAMSim": 0,
                "tCK_ps": 1000,
            },
            PRESETS,
        ),
    },
    refresh_ns={
        "nRFC": {2048: 160, 4096: 260, 8192: 350},
        "nRFCpb": {2048: 160, 4096: 160, 8192: 160},
        "nRREFD": 8,
        "nREFI": 3900,
        "nREFIpb": 3900 / 16,
    },
    currents={("4Gb", "2000"): CURRENTS, ("8Gb", "2000"): CURRENTS},
    source=PRESETS,
    two_cycle={ACT: 2},
    dual_bus=True,
    common={"nRCD": "nRCDRD", "nRTP": READ_TO_PRECHARGE},
    banks_refreshed={"per-bank": PartialRefresh(REFPB, "one", "nREFIpb", "nRFCpb")},
)
