"""HBM3: one 32-bit pseudo-channel of four bank groups of four banks, row and column command buses at half-clock steps.

A channel here is one pseudo-channel; `ranks` are the stack identifiers (SID) that share it. Presets and overrides are clocks of CK
(four data beats). The engine works in half clocks, because a precharge may take the falling edge: ACT takes three half clocks of
the row bus, other row commands one, column commands two, and all but precharges start on the rising edge.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Organisation, PartialRefresh, SpeedBin, Standard

ACT, PRE, PREA, REF, REFPB = Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFPB
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES = (RD, RDA), (WR, WRA)

CONSTRAINTS = (
    Constraint("channel", READS, READS, "nBL"),
    Constraint("channel", WRITES, WRITES, "nBL"),
    Constraint("channel", READS, WRITES, "nRTW"),
    Constraint("channel", WRITES, READS, "nCWL + nBL + nWTRS"),
    Constraint("channel", (ACT,), (ACT,), "nRRDS"),
    Constraint("channel", (ACT,), (ACT,), "nFAW", window=4),
    Constraint("channel", (PRE, PREA), (PRE, PREA), "nPPD"),
    Constraint("channel", (REFPB,), (ACT, REFPB), "nRREFD"),
    Constraint("channel", (ACT,), (REFPB,), "nRRDS"),
    Constraint("rank", READS, READS, "nCCDS"),
    Constraint("rank", WRITES, WRITES, "nCCDS"),
    Constraint("rank", READS, READS, "nCCDR", sibling=True),
    Constraint("rank", (RD,), (PREA,), "nRTP"),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL + nWR"),
    Constraint("rank", (ACT,), (PREA,), "nRAS"),
    Constraint("rank", (PREA,), (ACT,), "nRP"),
    Constraint("rank", (ACT,), (REF,), "nRC"),
    Constraint("rank", (PRE, PREA), (REF,), "nRP"),
    Constraint("rank", (RDA,), (REF,), "nRTP + nRP"),
    Constraint("rank", (WRA,), (REF,), "nCWL + nBL + nWR + nRP"),
    Constraint("rank", (REF,), (ACT, PREA, REF), "nRFC"),
    Constraint("bankgroup", READS, READS, "nCCDL"),
    Constraint("bankgroup", WRITES, WRITES, "nCCDL"),
    Constraint("bankgroup", WRITES, READS, "nCWL + nBL + nWTRL"),
    Constraint("bankgroup", (ACT,), (ACT,), "nRRDL"),
    Constraint("bank", (ACT,), (ACT,), "nRC"),
    Constraint("bank", (ACT,), READS, "nRCDRD"),
    Constraint("bank", (ACT,), WRITES, "nRCDWR"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), "nRTP"),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL + nWR"),
    Constraint("bank", (RDA,), (ACT,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (REFPB,), (ACT, REFPB), "nRFCpb"),
    Constraint("bank", (ACT,), (REFPB,), "nRC"),
    Constraint("bank", (PRE,), (REFPB,), "nRP"),
    Constraint("bank", (RDA,), (REFPB,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (REFPB,), "nCWL + nBL + nWR + nRP"),
)

PRESET = "JESD238 as in Ramulator 2.1's HBM3_6400Mbps preset (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/hbm3.py)"
DERIVED = "the nanoseconds of the 6400 preset, rounded up to clocks of 0.77 ns; bursts and column spacings in clocks as there"


def _organisation(density_mb: int, rows: int) -> Organisation:
    return Organisation(density_mb, 32, 32, bankgroups=4, banks_per_group=4, rows=rows, columns=32, burst_bytes=32)


STANDARD = Standard(
    title="HBM3 (one pseudo-channel)",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL",
    organisations={"2Gb": _organisation(2048, 1 << 14), "4Gb": _organisation(4096, 1 << 15)},
    speeds={
        "5200": SpeedBin(
            5200,
            {
                "nBL": 2,
                "nCL": 17,
                "nRCDRD": 26,
                "nRCDWR": 13,
                "nRP": 22,
                "nRAS": 37,
                "nRC": 59,
                "nWR": 27,
                "nRTP": 8,
                "nCWL": 9,
                "nCCDS": 2,
                "nCCDL": 4,
                "nCCDR": 3,
                "nRRDS": 4,
                "nRRDL": 5,
                "nFAW": 20,
                "nWTRS": 6,
                "nWTRL": 9,
                "nRTW": 17,
                "nRFCpb": 260,
                "nRREFD": 7,
                "nPPD": 2,
                "nREFI": 5065,
                "tCK_ps": 770,
            },
            DERIVED,
        ),
        "6400": SpeedBin(
            6400,
            {
                "nBL": 2,
                "nCL": 20,
                "nRCDRD": 31,
                "nRCDWR": 15,
                "nRP": 26,
                "nRAS": 45,
                "nRC": 72,
                "nWR": 33,
                "nRTP": 9,
                "nCWL": 10,
                "nCCDS": 2,
                "nCCDL": 4,
                "nCCDR": 3,
                "nRRDS": 4,
                "nRRDL": 5,
                "nFAW": 24,
                "nWTRS": 7,
                "nWTRL": 10,
                "nRTW": 20,
                "nRFCpb": 320,
                "nRREFD": 8,
                "nPPD": 2,
                "nREFI": 6240,
                "tCK_ps": 625,
            },
            PRESET,
        ),
    },
    refresh_ns={"nRFC": {2048: 260, 4096: 350}, "nREFIpb": 3900 / 16},
    source=PRESET + "; nRFC by the density of a channel of two pseudo-channels; all-bank refresh goes to each SID on its own; spacing of "
    "a per-bank refresh from an auto-precharge and from itself is ours; no public currents",
    two_cycle={ACT: 3, RD: 2, WR: 2, RDA: 2, WRA: 2},
    dual_bus=True,
    beats_per_clock=4,
    ticks_per_clock=2,
    rising_edge=(ACT, RD, WR, RDA, WRA, REF, REFPB),
    common={"nRCD": "nRCDRD"},
    banks_refreshed={"per-bank": PartialRefresh(REFPB, "one", "nREFIpb", "nRFCpb")},
)
