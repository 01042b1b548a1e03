"""What one step of the supernet's training computes: a network of the space, or several operators of each block at once.

Several operators of a block are several blocks with one dense and one sparse operator each, wired into one graph (the n-th dense
operator beside the n-th sparse one, either alone where the other kind has fewer), which use the weights of one shared block. What reads
such a block reads all of them: with columns of its own for each dense operator it reads them joined; where they share columns (fields
always, dense vectors with `dense_columns: source`) it reads the same columns once for each, which is their sum. A gating or a sum has one
left and one right input and reads one maker of each. Mergers belong to a pair: the factorisation machine of a pair's fields is added
to that pair's dense vector. So a path with one operator of each kind a block is a network of the space, weights and all. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from supernet.genotype import Block, Genotype


@dataclass(frozen=True)
class NetworkPath:
    """Operators wired into one graph, and the shared weights they use."""

    genotype: Genotype
    """The live blocks. Of a network of the space: its canonical form."""
    shared: tuple[int, ...]
    """Block of the shared weights (1 for the first) that each of them uses."""

    @classmethod
    def of(cls, genotype: Genotype, blocks: int) -> NetworkPath:
        """A network of a space of so many blocks: its n live blocks use the last n shared ones."""
        canonical = genotype.canonical()
        return cls(canonical, tuple(range(blocks - len(canonical.blocks) + 1, blocks + 1)))

    @property
    def outputs(self) -> tuple[int, ...]:
        """Numbers of the blocks that feed the head: those of the last shared block."""
        return tuple(number for number, shared in enumerate(self.shared, start=1) if shared == self.shared[-1])

    @property
    def heads(self) -> dict[int, str]:
        """Name of the linear layer over each output that has a dense vector; it reads the fields of all outputs."""
        dense = [number for number in self.outputs if self.genotype.blocks[number - 1].dense_op]
        return {number: f"head.{number}" if i else "head" for i, number in enumerate(dense)}


def join(
    genotype: Genotype, dense: Sequence[Sequence[str]], sparse: Sequence[Sequence[str]], blocks: int, rng: np.random.Generator
) -> NetworkPath:
    """The widths, sources and mergers of a genotype with several operators a block.

    Args:
        genotype: a network of the space; its own operators are not used.
        dense: dense operators of each of its blocks, at least one each.
        sparse: likewise its sparse operators.
        blocks: shared blocks of the space.
        rng: draws the maker that each left and right input reads.
    """
    parts: list[Block] = []
    owner: list[int] = []
    vectors, fields = {0: [0]}, {0: [0]}
    for number, block in enumerate(genotype.blocks, start=1):
        wired = block.model_copy(
            update={
                "dense_inputs": tuple(i for source in block.dense_inputs for i in vectors[source]),
                "sparse_inputs": tuple(i for source in block.sparse_inputs for i in fields[source]),
                "dense_left": _one_of(vectors, block.dense_left, rng),
                "dense_right": _one_of(vectors, block.dense_right, rng),
            }
        )
        vectors[number], fields[number] = [], []
        for dense_op, sparse_op in zip_longest(dense[number - 1], sparse[number - 1]):
            interact = block.interact and dense_op is not None
            parts.append(_part(wired, dense_op, sparse_op, interact))
            owner.append(number)
            vectors[number] += [len(parts)] * (dense_op is not None)
            fields[number] += [len(parts)] * (sparse_op is not None or interact)
    last = {part for part, number in enumerate(owner, start=1) if number == len(genotype.blocks)}
    live, kept = genotype.model_copy(update={"blocks": tuple(parts)}).live(last)
    owners = [owner[part - 1] for part in kept]
    left = sorted(set(owners))
    return NetworkPath(live, tuple(blocks - len(left) + 1 + left.index(number) for number in owners))


def _one_of(makers: dict[int, list[int]], source: int | None, rng: np.random.Generator) -> int | None:
    return None if source is None else makers[source][int(rng.integers(len(makers[source])))]


def _part(block: Block, dense_op: str | None, sparse_op: str | None, interact: bool) -> Block:
    """One pair of operators of a block; either may be missing."""
    return block.model_copy(
        update={
            "dense_op": dense_op,
            "sparse_op": sparse_op,
            "dense_dim": block.dense_dim if dense_op else 0,
            "sparse_dim": block.sparse_dim if sparse_op else 0,
            "interact": interact,
            "fm": block.fm and dense_op is not None and sparse_op is not None,
        }
    )
