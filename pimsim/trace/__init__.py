"""Memory traces: one reader that sniffs the format, one writer a format."""

from pimsim.trace.files import Trace, read_trace, write_trace

__all__ = ["Trace", "read_trace", "write_trace"]
