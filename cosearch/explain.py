"""Why a candidate is as it is: where its time and energy go, what each other choice of hardware would change, what each part is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cosearch.calibrate import expected
from cosearch.candidate import Candidate
from cosearch.evaluator import CandidateEvaluator
from cosearch.loop import MODEL_METRICS
from cosearch.progress import Progress
from cosearch.runfolder import RunFolder
from cosearch.store import Trial
from pimsim.errors import ConfigError

if TYPE_CHECKING:
    from supernet.genotype import Block, Genotype
    from supernet.space import Space

WHAT_IF = ("latency_us", "energy_uj", "area_mm2")
ABLATED = ("logloss", "latency_us", "energy_uj", "macs")


def explain(run: RunFolder, trial: Trial, progress: Progress) -> dict[str, Any]:
    """Explains one candidate of a run.

    Returns:
        `id`, `digest`, `tables` (name, rows, dim and bits of each), `metrics` (as this version of the simulator gives them), `stored` (as
        the search kept them); `operators` (a row for each operator of a lone batch), `utilisation` and `bottleneck`; `hardware`: for every
        other value of every hardware gene the figures with it, or why there is no such device; `model`: for every part that can be taken
        away or made smaller within the space, the figures without it, log loss by the supernet as in the search;
        `expected_alone`: where the run has a calibration, the expected `logloss` alone, its `error`, and whether the network lies
        `inside` the range that was calibrated on.
    """
    from pimsim.api import simulate

    evaluator = CandidateEvaluator(run.problem, run.path, run.resolved["dataset"])
    candidate, alone = trial.candidate, expected(run, [trial])
    workload = evaluator.workload(candidate.model)
    report = simulate(evaluator.device(candidate), workload, costs=evaluator.costs)
    return {
        "id": trial.id,
        "digest": trial.digest,
        "tables": [table.model_dump(mode="json", exclude={"pooling"}) for gather in workload.gathers for table in gather.tables],
        "metrics": evaluator.evaluate(candidate, _score(trial)),
        "stored": trial.metrics,
        "expected_alone": asdict(alone[trial.id]) if alone else None,
        "operators": [asdict(row) for row in report.operators],
        "utilisation": report.utilisation,
        "bottleneck": report.bottleneck,
        "hardware": _what_if(run, evaluator, trial, progress),
        "model": _ablation(evaluator, run, trial, progress),
    }


def _what_if(run: RunFolder, evaluator: CandidateEvaluator, trial: Trial, progress: Progress) -> list[dict[str, Any]]:
    """Every device that differs in one gene."""
    own = dict(trial.candidate.hardware)
    others = [(key, choice) for key, choices in run.problem.hardware.items() for choice in choices if choice != own[key]]
    rows = []
    with progress.phase("what if", len(others)) as update:
        for number, (key, choice) in enumerate(others, start=1):
            row: dict[str, Any] = {"gene": key, "value": own[key], "other": choice, "error": None}
            changed = Candidate(trial.candidate.model, tuple(sorted((own | {key: choice}).items())))
            try:
                found = evaluator.evaluate(changed, _score(trial))
                row |= {name: found[name] for name in WHAT_IF}
            except ConfigError as error:
                row |= dict.fromkeys(WHAT_IF) | {"error": str(error)}
            rows.append(row)
            update(number)
    return rows


def _score(trial: Trial) -> dict[str, float | None]:
    """What the supernet said of the trial's network."""
    return {name: trial.metrics[name] for name in MODEL_METRICS}


def _ablation(evaluator: CandidateEvaluator, run: RunFolder, trial: Trial, progress: Progress) -> list[dict[str, Any]]:
    """Every smaller network that differs in one live gene."""
    from supernet.space import load_space

    names = evaluator.dataset.schema.sparse
    smaller = list(smaller_networks(trial.candidate.model, load_space(run.problem.space).for_tables(len(names)), names))
    rows = []
    with progress.phase("ablation", len(smaller)) as update:
        for number, (what, model) in enumerate(smaller, start=1):
            found = evaluator.evaluate(Candidate(model, trial.candidate.hardware), {})
            rows.append({"change": what, "genotype_digest": model.digest(), **{name: found[name] for name in ABLATED}})
            update(number)
    return rows


def smaller_networks(model: Genotype, space: Space, tables: Sequence[str] = ()) -> Iterator[tuple[str, Genotype]]:
    """Networks of the space that lack one part of this one or have it smaller, with what changed; dead genes do not count.

    Args:
        model: the network.
        space: its space.
        tables: names of the tables; their numbers, from 1, without it.
    """
    for gene, values in (("weight_bits", space.weight_bits), ("embedding_bits", space.embedding_bits)):
        bits = getattr(model, gene)
        lower = _below(bits, values)
        if lower is not None:
            yield from _if_other(model, model.model_copy(update={gene: lower}), f"{gene.replace('_', ' ')} {bits} to {lower}")
    for gene, what, values in (("embedding_dims", "dim", space.table_dims), ("table_bits", "bits", space.table_bits)):
        own = getattr(model, gene) or ()
        for number, value in enumerate(own):
            lower = _below(value, values or ())
            if lower is not None:
                changed = model.model_copy(update={gene: (*own[:number], lower, *own[number + 1 :])})
                yield from _if_other(model, changed, f"table {tables[number] if tables else number + 1}: {what} {value} to {lower}")
    for number, block in enumerate(model.blocks, start=1):
        for what, update in _smaller_blocks(block, space):
            changed = block.model_copy(update=update)
            blocks = (*model.blocks[: number - 1], changed, *model.blocks[number:])
            yield from _if_other(model, model.model_copy(update={"blocks": blocks}), f"block {number}: {what}")


def _smaller_blocks(block: Block, space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    for gene, values, what in (("fm", space.fm, "without FM onto dense"), ("interact", space.interact, "without dense onto fields")):
        if getattr(block, gene) and False in values:
            yield what, {gene: False}
    weights, activations = space.operator_weight_bits or (), space.activation_bits or ()
    for gene, sizes, what in (
        ("dense_dim", space.dense_dims, "dense width"),
        ("sparse_dim", space.sparse_dims, "fields"),
        ("dense_bits", weights, "dense operator's weight bits"),
        ("sparse_bits", weights, "sparse operator's weight bits"),
        ("dense_activation_bits", activations, "dense operator's activation bits"),
        ("sparse_activation_bits", activations, "sparse operator's activation bits"),
    ):
        lower = _below(getattr(block, gene), sizes) if sizes else None
        if lower is not None:
            yield f"{what} {getattr(block, gene)} to {lower}", {gene: lower}
    for gene, what in (("dense_inputs", "dense"), ("sparse_inputs", "fields")):
        inputs = getattr(block, gene)
        for source in inputs if len(inputs) > 1 else ():
            read = "the input" if source == 0 else f"block {source}"
            yield f"does not read {what} of {read}", {gene: tuple(i for i in inputs if i != source)}


def _below(value: int, values: tuple[int, ...]) -> int | None:
    """The next smaller value of a gene."""
    return max((other for other in values if other < value), default=None)


def _if_other(model: Genotype, changed: Genotype, what: str) -> Iterator[tuple[str, Genotype]]:
    """The change, if it changes what is computed."""
    if changed.digest() != model.digest():
        yield what, changed
