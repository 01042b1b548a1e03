"""The examples of docs/supernet.md run."""

from __future__ import annotations

import re
from pathlib import Path


def test_examples_run(capsys):
    text = (Path(__file__).parents[2] / "docs" / "supernet.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) >= 3
    exec("\n".join(examples), {})
    assert "live blocks" in capsys.readouterr().out
