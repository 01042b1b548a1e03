"""Multi-hot look-ups of user histories: what a user did last, when he or she comes again."""

from __future__ import annotations

import numpy as np

from pimsim.errors import ConfigError


def user_histories(
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    pooling: int,
    samples: int | None = None,
    seed: int = 0,
    shortest: int | None = None,
) -> np.ndarray:
    """The last items of the user of each event, in the order of the events.

    Events of users with fewer than `shortest` earlier ones are left out. Samples are consecutive in time, so that popular items and
    returning users make the reuse between neighbours.

    Args:
        user, item: (events,) whole numbers.
        time: (events,) of each event; events of one time keep their order.
        pooling: most items looked up by a sample.
        samples: consecutive samples wanted, from a start that `seed` chooses; all when None.
        seed: of the start.
        shortest: fewest items looked up by a sample; `pooling` when None.

    Returns:
        (samples, pooling) int64 items, the oldest first; -1, no look-up, before those of a history shorter than `pooling`.

    Raises:
        ConfigError: no user has that many events, fewer samples than wanted, or a `shortest` that is not 1 to `pooling`.
    """
    by_user = np.lexsort((time, user))  # stable
    starts = np.flatnonzero(np.r_[True, np.diff(user[by_user]) != 0])
    position = np.arange(len(by_user)) - np.repeat(starts, np.diff(np.r_[starts, len(by_user)]))
    least = pooling if shortest is None else shortest
    if not 1 <= least <= pooling:
        raise ConfigError(f"history of {pooling}: shortest {least}, allowed 1 to {pooling}")
    ends = np.flatnonzero(position >= least)
    if not len(ends) or (samples or 0) > len(ends):
        raise ConfigError(f"history of {least}: {len(ends)} events have that many before them, wanted {samples or 1}")
    ends = ends[np.lexsort((by_user[ends], time[by_user[ends]]))]
    if samples is not None:
        first = int(np.random.default_rng(seed).integers(len(ends) - samples + 1))
        ends = ends[first : first + samples]
    back = np.arange(-pooling, 0)
    items = item[by_user][np.maximum(ends[:, None] + back, 0)].astype(np.int64)
    return np.where(position[ends, None] + back >= 0, items, -1)
