"""Numba kernels: integer arrays in and out, nothing else. Importing this package sets the disk cache before the first `@njit`."""

from pimsim.kernels.cache import use_cache

use_cache()
