"""Memory traces: one reader that sniffs the format, one writer a format."""

from pimsim.trace.files import Trace, read_trace, write_trace
from pimsim.trace.parts import read_parts

__all__ = ["Trace", "read_parts", "read_trace", "write_trace"]
