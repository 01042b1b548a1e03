"""DDR5 SDRAM: one 32-bit subchannel, ranks of eight (x16: four) bank groups, two-cycle commands, same-bank refresh.

A channel here is one of the two independent subchannels of a DIMM. Activate, read and write take two clocks of the command bus.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Organisation, PartialRefresh, SpeedBin, Standard

ACT, PRE, PREA, REF, REFSB = Command.ACT, Command.PRE, Command.PREA, Command.REF, Command.REFSB
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES, COLUMNS = (RD, RDA), (WR, WRA), (RD, RDA, WR, WRA)

CONSTRAINTS = (
    Constraint("channel", READS, READS, "nBL"),
    Constraint("channel", WRITES, WRITES, "nBL"),
    Constraint("rank", READS, READS, "nCCDS"),
    Constraint("rank", WRITES, WRITES, "nCCDS_WR"),
    Constraint("rank", READS, WRITES, "nCL + nBL + 2 - nCWL + 2"),
    Constraint("rank", WRITES, READS, "nCWL + nBL + nWTRS"),
    Constraint("rank", READS, COLUMNS, "nBL + nCS", sibling=True),
    Constraint("rank", WRITES, READS, "nCWL + nBL + nCS - nCL", sibling=True),
    Constraint("rank", (RD,), (PREA,), "nRTP"),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL + nWR"),
    Constraint("rank", (ACT,), (ACT,), "nRRDS"),
    Constraint("rank", (ACT,), (ACT,), "nFAW", window=4),
    Constraint("rank", (ACT,), (PREA,), "nRAS"),
    Constraint("rank", (PREA,), (ACT,), "nRP"),
    Constraint("rank", (PRE, PREA), (PRE, PREA), "nPPD"),
    Constraint("rank", (ACT,), (REF,), "nRC"),
    Constraint("rank", (PRE, PREA), (REF,), "nRP"),
    Constraint("rank", (RDA,), (REF,), "nRTP + nRP"),
    Constraint("rank", (WRA,), (REF,), "nCWL + nBL + nWR + nRP"),
    Constraint("rank", (REF,), (ACT, PREA, REF), "nRFC"),
    Constraint("rank", (ACT,), (REFSB,), "nRRDS"),
    Constraint("rank", (REFSB,), (ACT,), "nREFSBRD"),
    Constraint("rank", (REFSB,), (REFSB,), "nRFCsb"),
    Constraint("bankgroup", READS, READS, "nCCDL"),
    Constraint("bankgroup", WRITES, WRITES, "nCCDL_WR"),
    Constraint("bankgroup", WRITES, READS, "nCWL + nBL + nWTRL"),
    Constraint("bankgroup", (ACT,), (ACT,), "nRRDL"),
    Constraint("bank", (ACT,), (ACT,), "nRC"),
    Constraint("bank", (ACT,), COLUMNS, "nRCD"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), "nRTP"),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL + nWR"),
    Constraint("bank", (RDA,), (ACT,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (ACT,), (REFSB,), "nRC"),
    Constraint("bank", (PRE,), (REFSB,), "nRP"),
    Constraint("bank", (RDA,), (REFSB,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (REFSB,), "nCWL + nBL + nWR + nRP"),
    Constraint("bank", (REFSB,), (ACT,), "nRFCsb"),
)

JEDEC = "JESD79-5 as in Ramulator 2.1's DDR5 presets (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/ddr5.py)"


def _organisation(density_mb: int, width: int, groups: int, banks: int, rows: int) -> Organisation:
    columns = 128 if width == 4 else 64
    return Organisation(density_mb, width, 32, bankgroups=groups, banks_per_group=banks, rows=rows, columns=columns, burst_bytes=64)


def _bin(
    rate: int,
    tck_ps: int,
    cl: int,
    ras: int,
    wr: int,
    rtp: int,
    ccdl: int,
    ccdl_wr: int,
    wtrs: int,
    wtrl: int,
    rrdl: int,
    faw: tuple[int, int],
) -> SpeedBin:
    timing = {
        "nBL": 8,
        "nCL": cl,
        "nRCD": cl,
        "nRP": cl,
        "nRAS": ras,
        "nRC": ras + cl,
        "nWR": wr,
        "nRTP": rtp,
        "nCWL": cl - 2,
        "nPPD": 2,
        "nCCDS": 8,
        "nCCDL": ccdl,
        "nCCDS_WR": 8,
        "nCCDL_WR": ccdl_wr,
        "nWTRS": wtrs,
        "nWTRL": wtrl,
        "nCS": 2,
        "nRRDS": 8,
        "nRRDL": rrdl,
        "tCK_ps": tck_ps,
    }
    by_width = {width: {"nFAW": faw[1] if width == 16 else faw[0]} for width in (4, 8, 16)}
    return SpeedBin(rate, timing, JEDEC, by_width)


STANDARD = Standard(
    title="DDR5 SDRAM (one subchannel)",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL",
    organisations={
        "8Gb_x8": _organisation(8192, 8, 8, 2, 1 << 16),
        "16Gb_x4": _organisation(16384, 4, 8, 4, 1 << 16),
        "16Gb_x8": _organisation(16384, 8, 8, 4, 1 << 16),
        "16Gb_x16": _organisation(16384, 16, 4, 4, 1 << 16),
        "32Gb_x8": _organisation(32768, 8, 8, 4, 1 << 17),
    },
    speeds={
        "3200AN": _bin(3200, 625, 24, 52, 48, 12, 8, 32, 6, 16, 8, (32, 40)),
        "3200BN": _bin(3200, 625, 26, 52, 48, 12, 8, 32, 6, 16, 8, (32, 40)),
        "4800AN": _bin(4800, 416, 34, 77, 72, 18, 12, 48, 6, 24, 12, (48, 60)),
        "4800BN": _bin(4800, 416, 36, 77, 72, 18, 12, 48, 6, 24, 12, (48, 60)),
        "4800C": _bin(4800, 416, 38, 77, 72, 18, 12, 48, 6, 24, 12, (48, 60)),
        "5600AN": _bin(5600, 357, 40, 90, 84, 20, 12, 56, 5, 28, 14, (56, 70)),
    },
    refresh_ns={
        "nRFC": {8192: 195, 16384: 295, 32768: 410},
        "nREFI": 3900,
        "nRFCsb": {8192: 115, 16384: 130, 32768: 190},
        "nREFSBRD": 30,
        "nREFIsb": {8192: 1950 / 2, 16384: 1950 / 4, 32768: 1950 / 4},
    },
    source=JEDEC + "; nRRDL of DDR5-3200 is JESD79-5's max(8, 5 ns), which the preset's 5 never binds below nRRDS either; same-bank "
    "refresh (tRFCsb, tREFSBRD 30 ns, tREFI2 / banks per group between commands) JESD79-5, recalled; no public currents",
    two_cycle={ACT: 2, RD: 2, RDA: 2, WR: 2, WRA: 2},
    banks_refreshed={"same-bank": PartialRefresh(REFSB, "group", "nREFIsb", "nRFCsb")},
)
