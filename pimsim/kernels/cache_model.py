"""A set-associative cache with least-recently-used replacement, access by access, and look-ups dealt to the least loaded node."""

from __future__ import annotations

from pimsim.kernels.timing import kernel


@kernel
def lru(line, allocate, tags, hit):
    """Serves accesses in order.

    Args:
        line: (n,) line numbers; a line lives in set `line % sets`.
        allocate: (n,) bool; a miss without it is read past the cache.
        tags: (sets, ways) lines in the cache, the most recently used first, -1 = empty; updated.
        hit: (n,) bool, filled.
    """
    sets, ways = tags.shape
    for i in range(len(line)):
        s = line[i] % sets
        at = 0
        while at < ways and tags[s, at] != line[i]:
            at += 1
        hit[i] = at < ways
        if not hit[i]:
            if not allocate[i]:
                continue
            at = ways - 1
        for w in range(at, 0, -1):
            tags[s, w] = tags[s, w - 1]
        tags[s, 0] = line[i]


@kernel
def least_loaded(node, work, load):
    """Gives each item without a node (-1), in order, to the node with the least work so far, the first of equals.

    Args:
        node: (n,) node of each item or -1; updated.
        work: (n,) work of each item.
        load: (nodes,) work of each node; updated.
    """
    for i in range(len(node)):
        if node[i] < 0:
            best = 0
            for n in range(1, len(load)):
                if load[n] < load[best]:
                    best = n
            node[i] = best
        load[node[i]] += work[i]
