"""SK hynix GDDR6-AiM's own commands on one channel: in order, each at its earliest legal clock, refresh included.

The host hands the channel instructions (`MAC_ABK`, `WR_GB` ...); each is a run of one column command, to which the channel adds what
that command needs first: mode switch, precharge, activation. Constraints and names are those of arkhadem/aim_simulator (GDDR6.cpp,
AiM_dram_controller.cpp, aim_DRAM_system.cpp at 0f28a07), against which the clocks were checked.

Modelling decisions:
    * One command a clock. The host decodes one instruction a clock into a queue that never runs dry.
    * Commands that read or write registers (global buffer, MAC and activation registers) need the register mode; a switch to or from
      it (TMOD) is issued when the command behind it could have gone and delays every command by nMODCH.
    * RD_MAC and RD_AF block: the next instruction arrives one clock after their data.
    * A run of n equal commands has a steady gap, so that its clocks are a closed form; runs are cut at refreshes.
    * When nREFI falls due before the next command, the channel leaves the register mode, closes all banks (PREA), refreshes (REF)
      and opens the row again when a command asks for it.
    * Rows stay open until another row is needed or a refresh comes. All-bank activation (ACT16) is not held to nFAW.
    * Units with a clock of their own take one column, one product or one table look-up a cycle (nLOGIC): the next one, and reads and
      writes of their registers, wait for its end (a clock less where the public simulator asks for no gap, so that a cycle of nCCDL
      changes nothing). A row may close before, for the units hold the burst that they work on.

Not modelled: commands that mix with plain reads and writes of the host, the two register threads, activation of one bank group (ACT4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Literal

from pimsim.dram.standard import evaluate, resolve_organisation, resolve_timing
from pimsim.errors import ConfigError, unknown_name
from pimsim.spec.dram import DramSpec


class AimCommand(IntEnum):
    """Commands of a channel; a name that ends in 16 reaches all banks."""

    ACT = 0
    ACT16 = 1
    PRE = 2
    PREA = 3
    MAC = 4
    MAC16 = 5
    AF16 = 6
    EWMUL16 = 7
    RDCP = 8
    WRCP = 9
    WRGB = 10
    RDMAC16 = 11
    RDAF16 = 12
    WRMAC16 = 13
    WRA16 = 14
    TMOD = 15
    REF = 16


ACT, ACT16, PRE, PREA, MAC, MAC16, AF16, EWMUL16 = (AimCommand(code) for code in range(8))
RDCP, WRCP, WRGB, RDMAC16, RDAF16, WRMAC16, WRA16, TMOD, REF = (AimCommand(code) for code in range(8, 17))
Level = Literal["channel", "bankgroup", "bank"]
READ_REGISTER, WRITE_BUS = (RDMAC16, RDAF16), (WRA16, WRGB, WRMAC16)
READS, WRITES = (MAC, MAC16, RDCP, *READ_REGISTER), (WRCP, *WRITE_BUS)
ALL_READS, ALL_WRITES = (*READ_REGISTER, MAC16, EWMUL16), (WRA16, WRMAC16, EWMUL16)
ACTS, OTHERS = (ACT, ACT16), tuple(c for c in AimCommand if c != TMOD)
TURN = "nCLREG + nBL + 3 + nWPRE - "
WRITTEN = "nCWL + nBL + nWR"
ALL_MACS = (MAC16, EWMUL16)

CONSTRAINTS: tuple[tuple[Level, tuple[AimCommand, ...], tuple[AimCommand, ...], str], ...] = (
    ("channel", READ_REGISTER, READ_REGISTER, "nBL"),
    ("channel", WRITE_BUS, WRITE_BUS, "nBL"),
    ("channel", READS, READS, "nCCDS"),
    ("channel", WRITES, WRITES, "nCCDS"),
    ("channel", (MAC, RDCP, *ALL_READS), ALL_READS, "nCCDL"),
    ("channel", ALL_READS, (MAC, RDCP, *ALL_READS), "nCCDL"),
    ("channel", (WRCP, *ALL_WRITES), ALL_WRITES, "nCCDL"),
    ("channel", ALL_WRITES, (WRCP, *ALL_WRITES), "nCCDL"),
    ("channel", READ_REGISTER, (WRA16,), TURN + "nCWL"),
    ("channel", READ_REGISTER, (WRGB,), TURN + "nCWLGB"),
    ("channel", READ_REGISTER, (WRMAC16,), TURN + "nCWLREG"),
    ("channel", (WRA16,), READ_REGISTER, "nCWL + nBL + max(nWTRS, nWTRL)"),
    ("channel", (WRGB,), READ_REGISTER, "nCWLGB + nBL + nWTRS"),
    ("channel", (WRMAC16,), READ_REGISTER, "nCWLREG + nBL + max(nWTRS, nWTRL)"),
    ("channel", (RDCP, MAC, MAC16, AF16, EWMUL16), (PREA,), "nRTP"),
    ("channel", (MAC16, AF16, EWMUL16), (PRE,), "nRTP"),
    ("channel", (WRCP,), (PREA,), WRITTEN),
    ("channel", (EWMUL16,), (PRE, PREA), "nCWL + nWR"),
    ("channel", (ACT,), (ACT,), "nRRDS"),
    ("channel", ACTS, (ACT16,), "max(nRRDL, nRC)"),
    ("channel", (ACT16,), (ACT,), "max(nRRDL, nRC)"),
    ("channel", ACTS, (PREA,), "nRAS"),
    ("channel", (ACT16,), (PRE,), "nRAS"),
    ("channel", (PRE, PREA), (ACT16,), "nRP"),
    ("channel", (PREA,), (ACT, PRE, PREA), "nRP"),
    ("channel", (PRE,), (PREA,), "nRP"),
    ("channel", ACTS, (MAC16,), "nRCDRDMAC"),
    ("channel", ACTS, (AF16,), "nRCDRDAF"),
    ("channel", ACTS, (EWMUL16,), "nRCDEWMUL"),
    ("channel", ACTS, (WRA16,), "nRCDWR"),
    ("channel", (ACT16,), (MAC,), "nRCDRDMAC"),
    ("channel", (ACT16,), (RDCP,), "nRCDRDCP"),
    ("channel", (ACT16,), (WRCP,), "nRCDWRCP"),
    ("channel", (WRA16,), (ACT, ACT16, REF), WRITTEN + " + nRP"),
    ("channel", ACTS, (REF,), "nRC"),
    ("channel", (PRE, PREA), (REF,), "nRP"),
    ("channel", (REF,), tuple(AimCommand), "nRFCab"),
    ("channel", (TMOD,), OTHERS, "nMODCH"),
    ("channel", ALL_MACS, (MAC, *ALL_MACS, *READ_REGISTER), "nLOGIC"),
    ("channel", (MAC,), (*ALL_MACS, *READ_REGISTER), "nLOGIC"),
    ("bank", (MAC,), (MAC,), "nLOGIC"),
    ("channel", (MAC, *ALL_MACS), (AF16, WRMAC16), "nLOGIC - 1"),
    ("channel", (AF16,), (MAC, *ALL_MACS, AF16, *READ_REGISTER, WRMAC16), "nLOGIC - 1"),
    ("bankgroup", (MAC, RDCP), (MAC, RDCP), "nCCDL"),
    ("bankgroup", (WRCP,), (WRCP,), "nCCDL"),
    ("bankgroup", (ACT,), (ACT,), "nRRDL"),
    ("bank", (ACT,), (MAC,), "nRCDRDMAC"),
    ("bank", (ACT,), (RDCP,), "nRCDRDCP"),
    ("bank", (ACT,), (WRCP,), "nRCDWRCP"),
    ("bank", (MAC, RDCP), (PRE,), "nRTP"),
    ("bank", (WRCP,), (PRE,), WRITTEN),
    ("bank", (ACT,), (ACT,), "nRC"),
    ("bank", (ACT,), (PRE,), "nRAS"),
    ("bank", (PRE,), (ACT, PRE), "nRP"),
)
DURATION = {
    WRGB: "nCWLGB + nBL",
    WRMAC16: "nCWLREG + nBL",
    RDMAC16: "nCLREG + nBL",
    RDAF16: "nCLREG + nBL",
    WRA16: "nCWL + nBL + nRP",
}
"""Clocks until a command's data has moved; 1 for the others."""
INSTRUCTIONS: dict[str, AimCommand | None] = {
    "W_CFR": None,
    "WR_GB": WRGB,
    "WR_BIAS": WRMAC16,
    "WR_ABK": WRA16,
    "RD_MAC": RDMAC16,
    "RD_AF": RDAF16,
    "MAC_ABK": MAC16,
    "MAC_SBK": MAC,
    "AF": AF16,
    "EWMUL": EWMUL16,
    "COPY_BKGB": RDCP,
    "COPY_GBBK": WRCP,
}
"""What the host may ask for, and the command that does it; W_CFR writes a register of the host's own DMA engine."""
REGISTER_MODE = frozenset((WRGB, WRMAC16, RDMAC16, RDAF16))
ONE_BANK = frozenset((ACT, PRE, MAC, RDCP, WRCP))
NEEDS_ROW = frozenset((MAC, MAC16, AF16, EWMUL16, RDCP, WRCP, WRA16))
LOOKUP_ROW = 1 << 29
"""First row of the look-up tables of activation functions, beyond the rows of a bank."""
CLOSED = -1


@dataclass(frozen=True)
class Instruction:
    """One instruction of the host to a channel.

    Attributes:
        name: One of `INSTRUCTIONS`.
        count: Columns that it covers (opsize).
        row: Row that it works on, where it has one; for `AF` the number of the activation function.
        bank: Bank, for `MAC_SBK`, `COPY_BKGB` and `COPY_GBBK`.
    """

    name: str
    count: int = 1
    row: int = 0
    bank: int = 0


@dataclass(frozen=True)
class AimResult:
    """What a program took on one channel.

    Attributes:
        cycles: Clocks until the host knows of the program's end.
        counts: Commands issued, by name of `AimCommand`.
    """

    cycles: int
    counts: dict[str, int]


def issue_program(spec: DramSpec, program: Iterable[Instruction], begin: int = 0, logic_clocks: int = 0) -> AimResult:
    """Runs a program on one channel.

    Args:
        spec: A GDDR6 memory whose speed bin has AiM's timing; `spec.controller.refresh` turns periodic refresh on or off.
        program: The host's instructions, in order.
        begin: Clock at which it starts, for the phase of the refreshes.
        logic_clocks: Clocks of one cycle of the units; 0: they keep step with the columns.

    Raises:
        ConfigError: a memory without AiM's timing, or a refresh mode other than on and off.
        ValueError: an unknown instruction, or a count, row or bank out of range.
    """
    timing, organisation = resolve_timing(spec) | {"nLOGIC": logic_clocks}, resolve_organisation(spec)
    if "nRCDRDMAC" not in timing:
        raise ConfigError(f"dram.speed: {spec.speed!r} of {spec.standard}: has no timing of AiM commands (allowed: gddr6 16000_AiM)")
    if spec.controller.refresh not in ("on", "off"):
        raise ConfigError(f"dram.controller.refresh: {spec.controller.refresh!r}: AiM command streams know on and off")
    rules, duration = _lowered(tuple(sorted(timing.items())))
    every = timing["nREFI"] if spec.controller.refresh == "on" else None
    channel = _Channel(rules, duration, organisation.bankgroups, organisation.banks_per_group, every, begin)
    for instruction in program:
        command = _checked(instruction, organisation.columns, organisation.rows, organisation.banks)
        if command is None:
            channel.arrival += 1
        else:
            row = LOOKUP_ROW + instruction.row if command == AF16 else instruction.row
            channel.run(command, instruction.count, row, instruction.bank)
    counts = {command.name: count for command, count in zip(AimCommand, channel.counts, strict=True) if count}
    return AimResult(channel.end() - begin, counts)


def _checked(instruction: Instruction, columns: int, rows: int, banks: int) -> AimCommand | None:
    if instruction.name not in INSTRUCTIONS:
        raise ValueError(unknown_name("AiM instruction", instruction.name, INSTRUCTIONS))
    command = INSTRUCTIONS[instruction.name]
    if not 1 <= instruction.count <= (1 << 31 if command in REGISTER_MODE else columns):
        raise ValueError(f"{instruction}: count must be in 1..{columns}")
    if not (0 <= instruction.row < rows and 0 <= instruction.bank < banks):
        raise ValueError(f"{instruction}: row must be in 0..{rows - 1} and bank in 0..{banks - 1}")
    return command


Rules = dict[str, list[list[tuple[int, int]]]]


@lru_cache(maxsize=64)
def _lowered(timing: tuple[tuple[str, int], ...]) -> tuple[Rules, list[int]]:
    """For each level and command the commands that it delays and by how much; and the duration of each command."""
    values = dict(timing)
    longest: dict[tuple[str, int, int], int] = {}
    for level, preceding, following, latency in CONSTRAINTS:
        clocks = evaluate(latency, values)
        for first in preceding:
            for then in following:
                key = (level, first, then)
                longest[key] = max(longest.get(key, 0), clocks)
    rules: Rules = {level: [[] for _ in AimCommand] for level in ("channel", "bankgroup", "bank")}
    for (where, before, after), clocks in longest.items():
        rules[where][before].append((after, clocks))
    return rules, [evaluate(DURATION.get(command, "1"), values) for command in AimCommand]


class _Channel:
    """State of one channel: earliest clock of each command at each node, open rows, mode, and when the next instruction arrives."""

    def __init__(self, rules: Rules, duration: list[int], groups: int, per_group: int, refresh: int | None, begin: int) -> None:
        self.rules, self.duration, self.per_group = rules, duration, per_group
        self.all = [begin] * len(AimCommand)
        self.group = [[begin] * len(AimCommand) for _ in range(groups)]
        self.bank = [[begin] * len(AimCommand) for _ in range(groups * per_group)]
        self.rows = [CLOSED] * (groups * per_group)
        self.counts = [0] * len(AimCommand)
        self.register_mode = False
        self.clock, self.arrival, self.moved = begin, begin + 1, begin
        self.refresh_every = refresh
        self.next_refresh = refresh or 0
        while refresh and self.next_refresh <= begin:
            self.next_refresh += refresh

    def run(self, command: AimCommand, count: int, row: int, bank: int) -> None:
        """Issues `count` equal commands and whatever they need first."""
        clock = self._request(command, row, bank)
        left = count - 1
        while left:
            gap = self._earliest(command, bank) - clock
            fit = 0 if command == WRA16 else left  # WRA16 closes the rows that the next one needs
            if fit and self.refresh_every:
                fit = min(left, (self.next_refresh - 1 - clock) // gap)
            if fit <= 0:
                clock, left = self._request(command, row, bank), left - 1
                continue
            clock += fit * gap
            self._issue(command, row, bank, clock, fit)
            left -= fit
        if command not in READ_REGISTER:
            self.arrival += 1

    def end(self) -> int:
        """Clock at which the host has been told of the end: one clock to ask, one to answer, all data moved before."""
        return max(max(self.clock + 1, self.arrival) + 1, self.moved + 1)

    def _request(self, command: AimCommand, row: int, bank: int) -> int:
        """Issues one command after mode switch, precharge and activation, as it needs them; returns its clock."""
        while True:
            needed = self._needed(command, row, bank)
            clock = self._earliest(needed, bank)
            if self.refresh_every and clock >= self.next_refresh:
                self._refresh()
            elif (command in REGISTER_MODE) != self.register_mode:
                self._switch(clock)
            else:
                self._issue(needed, row, bank, clock)
                if needed == command:
                    return clock

    def _needed(self, command: AimCommand, row: int, bank: int) -> AimCommand:
        if command not in NEEDS_ROW:
            return command
        if command in ONE_BANK:
            return command if self.rows[bank] == row else ACT if self.rows[bank] == CLOSED else PRE
        opened = set(self.rows)
        if opened - {row, CLOSED}:
            return PREA
        return ACT16 if CLOSED in opened else command

    def _earliest(self, command: AimCommand, bank: int) -> int:
        clock = max(self.clock + 1, self.arrival, self.all[command])
        if command in ONE_BANK:
            clock = max(clock, self.group[bank // self.per_group][command], self.bank[bank][command])
        return clock

    def _issue(self, command: AimCommand, row: int, bank: int, clock: int, count: int = 1) -> None:
        """Records `count` commands, the last of them at `clock` (only the last one can still delay anything)."""
        self.counts[command] += count
        self.clock = clock
        _delay(self.all, self.rules["channel"][command], clock)
        banks = range(len(self.rows))
        if command in ONE_BANK:
            banks = range(bank, bank + 1)
            _delay(self.group[bank // self.per_group], self.rules["bankgroup"][command], clock)
            _delay(self.bank[bank], self.rules["bank"][command], clock)
        if command in (ACT, ACT16):
            for i in banks:
                self.rows[i] = row
        elif command in (PRE, PREA, WRA16):
            for i in banks:
                self.rows[i] = CLOSED
        done = clock + self.duration[command]
        self.moved = max(self.moved, done)
        if command in READ_REGISTER:
            self.arrival = done + 1

    def _switch(self, clock: int) -> None:
        self.register_mode = not self.register_mode
        self._issue(TMOD, 0, 0, clock)

    def _refresh(self) -> None:
        """Leaves the register mode, closes all banks and refreshes, from the clock at which the refresh falls due."""
        assert self.refresh_every is not None
        due, self.next_refresh = self.next_refresh, self.next_refresh + self.refresh_every
        close = [PREA] if any(row != CLOSED for row in self.rows) else []
        for command in (*close, REF):
            clock = max(due, self.clock + 1, self.all[command])
            if self.register_mode:
                self._switch(clock)
                clock = max(self.clock + 1, self.all[command])
            self._issue(command, 0, 0, clock)


def _delay(ready: list[int], rules: list[tuple[int, int]], clock: int) -> None:
    for command, latency in rules:
        if clock + latency > ready[command]:
            ready[command] = clock + latency
