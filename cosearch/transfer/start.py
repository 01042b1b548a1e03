"""Transfer in a run: the bank as it was when the run began, the run's anchors, and the space that its algorithm then draws from.

All that decides about the prior lies in the run's folder `transfer/`: a copy of the bank, and the anchors as trials of their own. A resumed
run therefore starts from the same prior, whatever has become of the bank, and the anchors are no candidates of the search: one that falls
back asks what it would have asked without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosearch.algorithms import FlatSpace
from cosearch.candidate import Candidate, JointSpace
from cosearch.loop import Search
from cosearch.pool import Metrics, WorkerPool
from cosearch.problem import TransferSection
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.store import TrialStore
from cosearch.transfer.anchors import ANCHORS, AnchorsOnly, anchor_genomes
from cosearch.transfer.bank import Bank, bank_file
from cosearch.transfer.prior import Primed, Similar, compare, designs_of
from pimsim.errors import RunError


def frozen_bank(run: RunFolder) -> Path:
    """The run's own copy of the bank."""
    return run.path / "transfer" / "bank.db"


def source_bank(run: RunFolder) -> Bank | None:
    """The bank that a run reads: its own copy if it has one; None for a run without transfer.

    Raises:
        RunError: there is no such bank.
    """
    section = run.problem.transfer
    if section is None:
        return None
    copy = frozen_bank(run)
    return Bank(copy if copy.is_file() else bank_file(section.bank))


def freeze(run: RunFolder, bank: Bank | None) -> None:
    """Copies the bank into the run folder, once."""
    if bank is not None and not frozen_bank(run).is_file():
        bank.copy_to(frozen_bank(run))


def starting_space(
    run: RunFolder, space: JointSpace, pool: WorkerPool, stop: Callable[[], bool], progress: Progress
) -> FlatSpace[Candidate] | None:
    """The space that the run's algorithm draws from: near the designs of similar tasks, or the space itself where none is similar.

    Without a section `transfer` it is the space, too. None when `stop()` came before all anchors were known.
    """
    section = run.problem.transfer
    if section is None:
        return space
    anchors = anchor_figures(run, space, pool, stop, progress)
    if len(anchors) < ANCHORS:
        return None
    similar = compare(Bank(frozen_bank(run)).tasks(), anchors, run.problem.goal, section.similarity)
    progress.say(told(similar, section))
    designs = designs_of(similar, run.problem.goal)
    return Primed[Candidate](space, designs, section.uniform) if designs else space


def anchor_figures(run: RunFolder, space: JointSpace, pool: WorkerPool, stop: Callable[[], bool], progress: Progress) -> list[Metrics]:
    """Figures of the run's anchors, evaluated as candidates are, or read where they were before; fewer when `stop()` came first.

    Raises:
        RunError: the folder cannot be written, or no anchor can be evaluated.
    """
    folder = run.path / "transfer"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}") from None
    problem, known = run.problem, 0
    with progress.phase("anchors", ANCHORS, done=0) as update:

        def finished(_trial: Any) -> None:
            nonlocal known
            known += 1
            update(known, "")

        store = TrialStore(folder, problem.objectives, create=True)
        search = Search(AnchorsOnly(anchor_genomes(space)), store, pool, problem.goal, problem.hardware, ANCHORS, stop, finished)
        return [trial.metrics for trial in search.run()]


def told(similar: list[Similar], section: TransferSection) -> str:
    """What the search starts from, in one line."""
    used = [f"{one.task.name} on {one.task.dataset} (similarity {one.similarity:.2f})" for one in similar if one.weight]
    if used:
        return f"transfer: starts from the best designs of {', '.join(used)}"
    nearest = f"the nearest, {similar[0].task.name}, has {similar[0].similarity:.2f}" if similar else "the bank is empty"
    return f"transfer: no task of similarity {section.similarity:g} or more ({nearest}): the search is the one without transfer"
