"""pimsim: a cycle-approximate, event-driven simulator of processing-in-memory systems."""

from pimsim.errors import PimsimError

__version__ = "0.1.0"
__all__ = ["PimsimError", "__version__"]
