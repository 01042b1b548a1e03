"""An algorithm in a file of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosearch.algorithms import find_algorithm
from cosearch.problem import load_problem
from cosearch.testing.algorithms import AlgorithmConformance
from pimsim.configs import resolve
from pimsim.errors import ConfigError

SOURCE = '''
from cosearch.algorithms import AlgorithmSettings, Unseen, trial_rng

class Climber:
    """Mutates the last candidate that was feasible and not worse in the first objective."""

    class Settings(AlgorithmSettings):
        start: int = 4

    def __init__(self, space, settings, seed):
        self.settings, self.seed, self.asked, self.best = settings, seed, 0, None
        self.unseen = Unseen(space)

    def ask(self):
        rng = trial_rng(self.seed, self.asked)
        genome = self.unseen.breed(lambda: self.best[0], 0.0, rng) if self.best else self.unseen.sample(rng)
        self.asked += 1
        self.generation = [] if genome is None else [genome]
        return self.generation

    def tell(self, results):
        for genome, result in zip(self.generation, results):
            if result and (self.best is None or result <= self.best[1]):
                self.best = (genome, result)

ALGORITHM = Climber
'''


@pytest.fixture
def climber(tmp_path: Path) -> Path:
    path = tmp_path / "climber.py"
    path.write_text(SOURCE)
    return path


def test_a_file_is_found_beside_the_search_file_and_by_override(climber: Path, tmp_path: Path) -> None:
    search = tmp_path / "mine.yaml"
    search.write_text(resolve("searches", "tiny").read_text().split("algorithm:")[0] + "algorithm: {name: climber.py, start: 2}\n")
    problem = load_problem(search)
    assert problem.algorithm.name == str(climber.resolve())
    assert problem.algorithm.start == 2
    section = {"name": str(climber), "candidates": 5}
    assert load_problem("tiny", {"algorithm": section}).algorithm == find_algorithm(str(climber)).Settings(**section)
    with pytest.raises(ConfigError, match=r"algorithm\.stat: unknown key; did you mean 'start'"):
        load_problem("tiny", {"algorithm": {"name": str(climber), "stat": 1}})


def test_it_passes_the_suite_of_the_shipped_ones(climber: Path) -> None:
    suite = AlgorithmConformance()
    suite.name, suite.candidates = str(climber), 60
    for name in (name for name in dir(suite) if name.startswith("test_")):
        getattr(suite, name)()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "not found"),
        ("x = (", "SyntaxError"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("ALGORITHM = 3", "needs ALGORITHM = a class whose nested Settings derives from AlgorithmSettings"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        load_problem("tiny", {"algorithm.name": str(path)})
    assert "\n" not in str(error.value) and "algorithm" in str(error.value) and str(path) in str(error.value)


def test_a_misspelt_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown algorithm 'evolutoin'.*evolution"):
        load_problem("tiny", {"algorithm.name": "evolutoin"})
