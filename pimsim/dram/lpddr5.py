"""LPDDR5 SDRAM: one 16-bit channel in bank-group mode, activation in two steps, a data clock (WCK) that is started by CAS.

Timing values are clocks of CK, a quarter of WCK: eight data beats of a pin in one clock. ACT is ACT1; its row opens with ACT2, at
most nAAD clocks later. A column command finds WCK running for nWCKPST clocks after the last burst; later, a CAS goes first.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Organisation, PartialRefresh, SpeedBin, Standard

ACT, PRE, PREA, REF, REFPB = Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFPB
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES, COLUMNS = (RD, RDA), (WR, WRA), (RD, RDA, WR, WRA)

CONSTRAINTS = (
    Constraint("channel", READS, READS, "nBL_min"),
    Constraint("channel", WRITES, WRITES, "nBL_min"),
    Constraint("bank", (Command.CAS_RD,), READS, "max(nCAS, 1)"),
    Constraint("bank", (Command.CAS_WR,), WRITES, "max(nCAS, 1)"),
    Constraint("rank", READS, READS, "nCCDS"),
    Constraint("rank", WRITES, WRITES, "nCCDS_WR"),
    Constraint("rank", READS, WRITES, "nCL + nBL_min + 2 - nCWL"),
    Constraint("rank", WRITES, READS, "nCWL + nBL_min + nWTRS"),
    Constraint("rank", READS, COLUMNS, "nBL_min + nCS", sibling=True),
    Constraint("rank", WRITES, READS, "nCL + nBL_min + nCS - nCWL", sibling=True),
    Constraint("rank", (RD,), (PREA,), "nRTP"),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL_min + nWR"),
    Constraint("rank", (ACT,), (ACT,), "nRRDS"),
    Constraint("rank", (ACT,), (ACT,), "nFAW", window=4),
    Constraint("rank", (ACT,), (PREA,), "nRAS"),
    Constraint("rank", (PREA,), (ACT,), "nRPab"),
    Constraint("rank", (PRE, PREA), (PRE, PREA), "nPPD"),
    Constraint("rank", (ACT,), (REF,), "nRC"),
    Constraint("rank", (PRE, PREA), (REF,), "nRP"),
    Constraint("rank", (RDA,), (REF,), "nRTP + nRP"),
    Constraint("rank", (WRA,), (REF,), "nCWL + nBL_min + nWR + nRP"),
    Constraint("rank", (REF,), (ACT, PREA, REF, REFPB), "nRFC"),
    Constraint("rank", (REFPB,), (REFPB,), "nPBR2PBR"),
    Constraint("rank", (REFPB,), (REF,), "nRFCpb"),
    Constraint("rank", (REFPB,), (ACT,), "nPBR2ACT"),
    Constraint("rank", (ACT,), (REFPB,), "nRRDS"),
    Constraint("bankgroup", READS, READS, "nCCDL"),
    Constraint("bankgroup", WRITES, WRITES, "nCCDL_WR"),
    Constraint("bankgroup", WRITES, READS, "nCWL + nBL_max + nWTRL"),
    Constraint("bankgroup", (ACT,), (ACT,), "nRRDL"),
    Constraint("bank", (ACT,), (ACT,), "nRC"),
    Constraint("bank", (ACT,), COLUMNS, "nRCD"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), "nRTP"),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL_min + nWR"),
    Constraint("bank", (RDA,), (ACT,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL_min + nWR + nRP"),
    Constraint("bank", (REFPB,), (ACT,), "nRFCpb"),
    Constraint("bank", (ACT,), (REFPB,), "nRC"),
    Constraint("bank", (PRE,), (REFPB,), "nRP"),
    Constraint("bank", (RDA,), (REFPB,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (REFPB,), "nCWL + nBL_min + nWR + nRP"),
)

PRESET = "JESD209-5B as in Ramulator 2.1's LPDDR5_6400 preset (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/lpddr5.py)"
DERIVED = (
    "latencies RL 15 and WL 8 of JESD209-5B's 5500 Mb/s column (recalled); the rest the nanoseconds that give the 6400 preset, "
    "rounded up to clocks of 1.454 ns"
)


def _bin(rate: int, source: str, **different: int) -> SpeedBin:
    shared = {
        "nBL_min": 2,
        "nBL_max": 4,
        "nRTP": 8,
        "nPPD": 2,
        "nCCDS": 2,
        "nCCDL": 4,
        "nCCDS_WR": 2,
        "nCCDL_WR": 4,
        "nWTRS": 5,
        "nWCKPST": 1,
        "nCAS": 0,
        "nAAD": 8,
        "nCS": 2,
        "nRRDS": 4,
        "nRRDL": 4,
        "nFAW": 16,
    }
    return SpeedBin(rate, shared | different, source)


def _organisation(density_mb: int, rows: int) -> Organisation:
    return Organisation(density_mb, 16, 16, bankgroups=4, banks_per_group=4, rows=rows, columns=64, burst_bytes=32)


STANDARD = Standard(
    title="LPDDR5 SDRAM (one 16-bit channel)",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL_min",
    organisations={"8Gb_x16": _organisation(8192, 1 << 15), "16Gb_x16": _organisation(16384, 1 << 16)},
    speeds={
        "5500": _bin(5500, DERIVED, nCL=15, nCWL=8, nRCD=13, nRP=13, nRPab=15, nRAS=29, nRC=42, nWR=24, nWTRL=9, tCK_ps=1454),
        "6400": _bin(6400, PRESET, nCL=17, nCWL=9, nRCD=15, nRP=15, nRPab=17, nRAS=34, nRC=49, nWR=28, nWTRL=10, tCK_ps=1250),
    },
    refresh_ns={
        "nRFC": {8192: 210, 16384: 280},
        "nRFCpb": {8192: 120, 16384: 140},
        "nREFI": 3906,
        "nREFIpb": 488,
        "nPBR2PBR": 90,
        "nPBR2ACT": 7.5,
    },
    source=PRESET + "; per-bank refresh takes a pair of banks each tREFIpb, as JESD209-5B has it in bank-group mode; its spacing from "
    "ACT (nRRDS) and from an auto-precharge is ours; no public currents",
    beats_per_clock=8,
    common={"nBL": "nBL_min", "nRPab": "nRPab"},
    banks_refreshed={"per-bank": PartialRefresh(REFPB, "pair", "nREFIpb", "nRFCpb")},
    act2_within="nAAD",
    data_clock=("nCL + nBL_min + nWCKPST", "nCWL + nBL_min + nWCKPST"),
)
