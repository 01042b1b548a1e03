"""Files in the format of the published NASRecNets, whatever they hold: counted as PyTorch counts the network that they describe."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cosearch.commands.genotype import describe
from supernet.genotype import Genotype
from supernet.provider import schema_of
from workloads.zoo.datasets import dataset_fields

DENSE = {"xlarge": (0, 1, 2, 3), "autoctr": (0, 1)}
SPARSE = {"xlarge": (4, 5), "autoctr": (2,)}
FIELDS = {"criteo": 26, "avazu": 23, "kdd12": 10}


def published(config: str, rng: np.random.Generator, dense_dims: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 768, 1024)) -> dict:
    """A random file: operators, widths, one to four inputs, mergers; either operator first."""
    micro, macro = [], []
    for number in range(1, 8):

        def inputs(sources: int = number) -> list[int]:
            return rng.choice(sources, size=rng.integers(1, min(sources, 4) + 1), replace=False).tolist()

        active = [int(rng.choice(DENSE[config])), int(rng.choice(SPARSE[config]))]
        micro.append(
            {
                "active_nodes": active[:: rng.choice([-1, 1])],
                "dense_in_dims": int(rng.choice(dense_dims)),
                "sparse_in_dims": int(rng.choice([16, 32, 48, 64])),
                "dense_sparse_interact": int(rng.integers(2)),
                "deep_fm": int(rng.integers(2)),
            }
        )
        left, right = rng.integers(number, size=2).tolist()
        macro.append({"dense_idx": inputs(), "sparse_idx": inputs(), "dense_left_idx": [left], "dense_right_idx": [right]})
    return {"micro": micro, "macro": macro, "num_blocks": 7, "use_layernorm": int(rng.integers(2)), "config": config, "test_loss": 0.39}


@pytest.mark.parametrize("dataset", FIELDS)
@pytest.mark.parametrize("config", DENSE)
def test_live_work_and_parameters_are_those_of_the_torch_network(tmp_path, config, dataset):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from supernet.standalone import Model

    schema = schema_of(dataset_fields(dataset))
    schema["cardinalities"] = [3] * len(schema["cardinalities"])
    assert len(schema["sparse"]) == FIELDS[dataset]
    rng, operators = np.random.default_rng(3), set()
    for dims in ((16, 64, 1024), (128,), (256, 512, 768)):  # 128: as wide as the merger's eight fields of 16
        path = tmp_path / f"{config}.json"
        path.write_text(json.dumps(published(config, rng, dims)))
        facts, genotype = describe(path, dataset), Genotype.load(path)
        model = Model(genotype.canonical().model_dump(mode="json"), schema)
        dense = torch.zeros(1, len(schema["dense"]))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(dense, torch.zeros(1, len(schema["sparse"]), dtype=torch.long))
        assert facts["macs_live"] == counter.get_total_flops() // 2 > 0
        assert facts["parameters_live"] == sum(p.numel() for name, p in model.named_parameters() if name != "embedding.weight")
        assert facts["macs_executed"] >= facts["macs_live"] and facts["live_blocks"] + len(facts["dead_blocks"]) == 7
        operators |= {name for block in genotype.blocks for name in block.operators}
    assert operators >= {"fc", "dot_product", "efc", "fm", "interact"} | ({"gating", "sum", "transformer"} if config == "xlarge" else set())
