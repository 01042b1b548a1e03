"""Published numbers and reference simulators beside our own figures; `pimsim validate` runs them.

One file in `references/` for each system: what was claimed, where, with which status, and the function in `cases/` that answers with our
figure. It may import every package; only the command imports it.
"""
