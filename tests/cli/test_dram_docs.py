"""The example of the DRAM page runs."""

from __future__ import annotations

import re
from pathlib import Path


def test_python_blocks_of_the_page_run():
    text = (Path(__file__).parents[2] / "docs" / "dram.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/dram.md", "exec"), {})
