"""The pre-filter before shipped algorithms on a tabulated problem, and in a real small search."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from cosearch.algorithms import find_algorithm
from cosearch.cli import app
from cosearch.cli import main as main_cli
from cosearch.prefilter import Prefiltered, Promise, proposing
from cosearch.testing.algorithms import AlgorithmConformance, TabulatedSpace

DRAW = 3


def promise(space):
    """A proxy that knows the second objective, with the first as size."""
    return lambda genome: Promise(*(sign * value for sign, value in zip((1, -1), space.result(genome).objectives, strict=True)))


class Conformance(AlgorithmConformance):
    """The suite, with the algorithm behind a pre-filter."""

    def make(self, space, seed=3):
        kind = find_algorithm(self.name)
        settings = kind.Settings(name=self.name, **self.settings)
        first = space.__dict__.setdefault("promise", promise(TabulatedSpace(space.genes_count, space.choices)))
        return Prefiltered(kind(space, proposing(settings, DRAW), seed), DRAW, first)

    def test_one_objective_is_enough(self):
        space = TabulatedSpace()
        assert len(self.drive(self.make(space), space, self.candidates, scalar=True)) >= self.candidates

    def test_small_space_ends(self):
        space = TabulatedSpace(genes=2, choices=3)
        asked = self.drive(self.make(space), space, 1000)
        assert 3 <= len(set(asked)) == len(asked) <= 9


class TestEvolution(Conformance):
    name = "evolution"
    settings = {"population": 24, "sample": 8, "children": 4}  # noqa: RUF012


class TestNSGA2(Conformance):
    name = "nsga2"
    settings = {"population": 24, "children": 4}  # noqa: RUF012


class TestRandom(Conformance):
    name = "random"
    settings = {"children": 4}  # noqa: RUF012


class Listed:
    """Proposes what it is given and remembers what it is told."""

    def __init__(self, genomes):
        self.genomes, self.told = genomes, None

    def ask(self):
        return list(self.genomes)

    def tell(self, results):
        self.told = results


def test_the_best_of_every_group_of_similar_size_is_sent_and_the_others_are_told_none():
    known = {"a": Promise(10, 1), "b": Promise(90, 9), "c": Promise(12, 2), "d": Promise(80, 8), "e": Promise(11, 3), "f": Promise(85, 7)}
    algorithm = Listed(known)
    filtered = Prefiltered(algorithm, 3, known.__getitem__)
    assert filtered.ask() == ["b", "e"]  # b leads the large three, e the small three, though all the large ones promise more
    filtered.tell([(2.0,), None])
    assert algorithm.told == [None, (2.0,), None, None, None, None]


def test_equal_promises_send_the_first_proposed_and_a_rest_sends_one():
    algorithm = Listed(["a", "b", "c"])
    assert Prefiltered(algorithm, 2, lambda genome: Promise(1, 1)).ask() == ["a", "c"]


def test_a_proxy_that_knows_something_makes_a_random_search_better():
    space = TabulatedSpace()

    def best(make):
        asked = Conformance().drive(make, space, 60)[:60]
        return np.mean(sorted(space.result(genome).objectives[1] for genome in asked)[:10])

    kind = find_algorithm("random")
    settings = kind.Settings(name="random", children=4)
    plain = [best(kind(space, settings, seed)) for seed in range(5)]
    helped = [best(Prefiltered(kind(space, proposing(settings, DRAW), seed), DRAW, promise(space))) for seed in range(5)]
    assert np.mean(helped) < np.mean(plain)


def search(folder, *more):
    quick = {"algorithm.population": 8, "algorithm.children": 2, "algorithm.sample": 2, "supernet.epochs": 0.2, "final.training.epochs": 1}
    quick |= {"algorithm.candidates": 10, "prefilter": "{proxy: naswot, draw: 3}", "final.seeds": 2, "final.baselines": "[lr]"}
    sets = [part for key, value in quick.items() for part in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(app, ["run", "tiny", "--out", str(folder), *sets, *more])
    assert done.exit_code == 0, done.output
    assert "Trained alone with 2 seeds" in done.output
    return (folder / "pareto.csv").read_bytes(), (folder / "final" / "result.json").read_bytes()


def test_a_resumed_search_ends_with_the_same_front_and_final_figures(tmp_path, monkeypatch):
    monkeypatch.setenv("COSEARCH_CACHE", str(tmp_path / "cache"))
    search(tmp_path / "one", "--max-candidates", "5")
    assert search(tmp_path / "one") == search(tmp_path / "two")


def test_bad_settings_are_one_line(tmp_path, monkeypatch, capsys):
    for text, parts in (("{proxy: synflw}", "did you mean 'synflow'"), ("{proxy: zico, draw: 1}", "prefilter.draw")):
        monkeypatch.setattr(sys, "argv", ["cosearch", "run", "tiny", "--out", str(tmp_path / "x"), "--set", f"prefilter={text}"])
        with pytest.raises(SystemExit) as end:
            main_cli()
        error = capsys.readouterr().err
        assert end.value.code == 2 and parts in error and len(error.splitlines()) == 1, error
