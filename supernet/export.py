"""Exports a network as a folder that loads without this package: `model.py`, `model.json`, `weights.pt`."""

from __future__ import annotations

import shutil
from pathlib import Path

from supernet import standalone
from supernet.genotype import Genotype
from supernet.model import Schema
from supernet.runs import save_atomically
from supernet.standalone import Model


def export_model(genotype: Genotype, schema: Schema, model: Model, folder: Path) -> None:
    """Writes the three files; `from model import load; load(folder)` in that folder gives the model back.

    Args:
        genotype: the network; its canonical form is written.
        schema: see `supernet.model.schema_dict`.
        model: its weights, already at the genotype's precisions.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(standalone.__file__, folder / "model.py")
    description = {"genotype": genotype.canonical().model_dump(mode="json"), "schema": schema}
    save_atomically(description, folder / "model.json")
    save_atomically({name: tensor.detach().clone() for name, tensor in model.state_dict().items()}, folder / "weights.pt")
