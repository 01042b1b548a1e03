"""DDR4 SDRAM: ranks of four (x16: two) bank groups of four banks, one command bus, all-bank refresh.

Timing names and values are those of Ramulator 2.1's presets, which follow JESD79-4; where they differ from JEDEC it is said
in the source.
"""

from __future__ import annotations

from pimsim.dram.standard import Command, Constraint, Currents, Organisation, SpeedBin, Standard

ACT, PRE, PREA, REF = Command.ACT, Command.PRE, Command.PREA, Command.REF
RD, WR, RDA, WRA = Command.RD, Command.WR, Command.RDA, Command.WRA
READS, WRITES, COLUMNS = (RD, RDA), (WR, WRA), (RD, RDA, WR, WRA)

CONSTRAINTS = (
    Constraint("channel", READS, READS, "nBL"),
    Constraint("channel", WRITES, WRITES, "nBL"),
    Constraint("rank", READS, READS, "nCCDS"),
    Constraint("rank", WRITES, WRITES, "nCCDS"),
    Constraint("rank", READS, WRITES, "nCL + nBL + 2 - nCWL"),
    Constraint("rank", WRITES, READS, "nCWL + nBL + nWTRS"),
    Constraint("rank", READS, COLUMNS, "nBL + nCS", sibling=True),
    Constraint("rank", WRITES, READS, "nCWL + nBL + nCS - nCL", sibling=True),
    Constraint("rank", (RD,), (PREA,), "nRTP"),
    Constraint("rank", (WR,), (PREA,), "nCWL + nBL + nWR"),
    Constraint("rank", (ACT,), (ACT,), "nRRDS"),
    Constraint("rank", (ACT,), (ACT,), "nFAW", window=4),
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
    Constraint("bank", (ACT,), COLUMNS, "nRCD"),
    Constraint("bank", (ACT,), (PRE,), "nRAS"),
    Constraint("bank", (PRE,), (ACT,), "nRP"),
    Constraint("bank", (RD,), (PRE,), "nRTP"),
    Constraint("bank", (WR,), (PRE,), "nCWL + nBL + nWR"),
    Constraint("bank", (RDA,), (ACT,), "nRTP + nRP"),
    Constraint("bank", (WRA,), (ACT,), "nCWL + nBL + nWR + nRP"),
)

JEDEC = "JESD79-4C as in Ramulator 2.1's DDR4 presets (CMU-SAFARI/ramulator2 c5b1c3a, python/ramulator/dram/ddr4.py)"


def _organisation(density_mb: int, width: int, groups: int, rows: int) -> Organisation:
    return Organisation(density_mb, width, 64, bankgroups=groups, banks_per_group=4, rows=rows, columns=128, burst_bytes=64)


def _bin(
    rate: int,
    tck_ps: int,
    cl: int,
    ras: int,
    cwl: int,
    ccdl: int,
    wr: int,
    rtp: int,
    wtrs: int,
    wtrl: int,
    by_width: dict[int, dict[str, int]],
) -> SpeedBin:
    timing = {
        "nBL": 4,
        "nCL": cl,
        "nRCD": cl,
        "nRP": cl,
        "nRAS": ras,
        "nRC": ras + cl,
        "nWR": wr,
        "nRTP": rtp,
        "nCWL": cwl,
        "nCCDS": 4,
        "nCCDL": ccdl,
        "nWTRS": wtrs,
        "nWTRL": wtrl,
        "nCS": 2,
        "tCK_ps": tck_ps,
    }
    return SpeedBin(rate, timing, JEDEC, by_width)


WIDTH_2400 = {
    4: {"nRRDS": 4, "nRRDL": 6, "nFAW": 16},
    8: {"nRRDS": 4, "nRRDL": 6, "nFAW": 26},
    16: {"nRRDS": 7, "nRRDL": 8, "nFAW": 36},
}
WIDTH_3200 = {
    4: {"nRRDS": 4, "nRRDL": 8, "nFAW": 16},
    8: {"nRRDS": 4, "nRRDL": 8, "nFAW": 34},
    16: {"nRRDS": 9, "nRRDL": 11, "nFAW": 48},
}
MICRON = "DRAMsim3 DDR4_8Gb_x8_{rate}.ini (currents of Micron's 8 Gb x8 DDR4 data sheet), umd-memsys/DRAMsim3 2981759"
SCOPE = "VDD currents only: no VPP (word-line pump), no termination, no I/O drivers"
CURRENTS_2400 = Currents(  # of the data rate, whatever the CAS latency
    1.2, {"IDD0": 48, "IDD2N": 34, "IDD3N": 43, "IDD4R": 135, "IDD4W": 123, "IDD5AB": 250}, 8, SCOPE, MICRON.format(rate=2400)
)
CURRENTS_4GB_2400 = Currents(
    1.2,
    {"IDD0": 60, "IDD2N": 45, "IDD3N": 60, "IDD4R": 145, "IDD4W": 175, "IDD5AB": 175},
    8,
    SCOPE,
    "DRAMsim3 DDR4_4Gb_x8_2400.ini, umd-memsys/DRAMsim3 0eb6360",
)

STANDARD = Standard(
    title="DDR4 SDRAM",
    constraints=CONSTRAINTS,
    read_latency="nCL + nBL",
    organisations={
        "4Gb_x8": _organisation(4096, 8, 4, 1 << 15),
        "8Gb_x4": _organisation(8192, 4, 4, 1 << 17),
        "8Gb_x8": _organisation(8192, 8, 4, 1 << 16),
        "8Gb_x16": _organisation(8192, 16, 2, 1 << 16),
        "16Gb_x8": _organisation(16384, 8, 4, 1 << 17),
    },
    speeds={
        "2400R": _bin(2400, 833, 16, 39, 12, 6, 18, 9, 3, 9, WIDTH_2400),
        "2400U": _bin(2400, 833, 17, 39, 12, 6, 18, 9, 3, 9, WIDTH_2400),
        "3200W": _bin(3200, 625, 20, 52, 16, 8, 24, 12, 4, 12, WIDTH_3200),
        "3200AA": _bin(3200, 625, 22, 52, 16, 8, 24, 12, 4, 12, WIDTH_3200),
    },
    refresh_ns={"nRFC": {4096: 260, 8192: 360, 16384: 550}, "nREFI": 7800},
    currents={
        ("4Gb_x8", "2400R"): CURRENTS_4GB_2400,
        ("4Gb_x8", "2400U"): CURRENTS_4GB_2400,
        ("8Gb_x8", "2400R"): CURRENTS_2400,
        ("8Gb_x8", "2400U"): CURRENTS_2400,
        ("8Gb_x8", "3200AA"): Currents(
            1.2,
            {"IDD0": 57, "IDD2N": 37, "IDD3N": 52, "IDD4R": 168, "IDD4W": 150, "IDD5AB": 250},
            8,
            SCOPE,
            MICRON.format(rate=3200),
        ),
    },
    source=JEDEC + "; nRFC of 8 Gb is Ramulator's 360 ns (JESD79-4C: 350 ns)",
)
