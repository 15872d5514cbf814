"""How evenly keys fall on hosts: L3, and shares of small rings.

No ring is needed: a position is where ``ids.position_id`` says, a key where
its hash says, and the owner is the next position.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections.abc import Sequence

from figures.rows import Row, mean, percentile
from peerstore import ids

__all__ = ["L3", "keys_per_host", "largest_share", "rows_of_l3", "rows_of_shares", "sorted_keys"]

#: C01, Fig. 9: positions: (p1, p99) of keys per host.
L3 = {1: (0, 477), 2: (7, 347), 5: (24, 220), 10: (38, 186), 20: (50, 161)}
L3_NODES, L3_KEYS = 10_000, 1_000_000
SHARES = (5, 10, 50)
POSITIONS = 8


def sorted_keys(count: int, seed: int = 1) -> list[int]:
    """So many keys, as chunks have them, in order."""
    hashes = (hashlib.sha256(b"%d/key/%d" % (seed, number)).digest() for number in range(count))
    return sorted(ids.from_bytes(ids.chunk_ring_id(digest)) for digest in hashes)


def keys_per_host(hosts: int, keys: Sequence[int], positions: int, seed: int = 1) -> list[int]:
    """How many of these keys, which are in order, each host owns."""
    places = []
    for number in range(hosts):
        spki = hashlib.sha512(f"{seed}/host/{number}".encode()).digest() * 2
        places += [(ids.position_id(spki, index), number) for index in range(positions)]
    places.sort()
    counts = [0] * hosts
    begin = 0
    for place, number in places:
        end = bisect_left(keys, place + 1, begin)
        counts[number] += end - begin
        begin = end
    # Keys after the last position belong to the first.
    counts[places[0][1]] += len(keys) - begin
    return counts


def rows_of_l3(hosts: int = L3_NODES, keys: int = L3_KEYS, tries: int = 1) -> list[Row]:
    """L3: p1 within 3 keys, p99 within 8 %; each the mean of some tries."""
    found: dict[int, list[list[int]]] = {positions: [] for positions in L3}
    for seed in range(1, tries + 1):
        sample = sorted_keys(keys, seed)
        for positions, counts in found.items():
            counts.append(keys_per_host(hosts, sample, positions, seed))
    rows = []
    scale = keys / hosts / 100
    for positions, (low, high) in L3.items():
        p1 = mean([percentile(counts, 0.01) for counts in found[positions]]) / scale
        p99 = mean([percentile(counts, 0.99) for counts in found[positions]]) / scale
        case = f"v = {positions}"
        rows.append(Row("L3", case, "1st percentile, keys", low, p1, "within 3", abs(p1 - low) <= 3, 1))
        rows.append(Row("L3", case, "99th percentile, keys", high, p99, "within 8 %", abs(p99 / high - 1) <= 0.08, 1))
    return rows


def largest_share(hosts: int, positions: int, rng: random.Random) -> float:
    """The largest part of the circle that one host owns, over the mean."""
    places = sorted((rng.getrandbits(ids.ID_BITS), number) for number in range(hosts) for _ in range(positions))
    shares = [0] * hosts
    for at, (place, number) in enumerate(places):
        shares[number] += ids.distance(places[at - 1][0], place)
    return max(shares) * hosts / ids.RING_SIZE


def rows_of_shares(rings: int) -> list[Row]:
    """Largest share over mean in small rings of eight positions a host."""
    rows = []
    for hosts in SHARES:
        rng = random.Random(f"shares/{hosts}")
        found = [largest_share(hosts, POSITIONS, rng) for _ in range(rings)]
        case = f"{hosts} hosts, v = {POSITIONS}"
        rows.append(Row("shares", case, "largest over mean: median ring", None, percentile(found, 0.5)))
        rows.append(Row("shares", case, "largest over mean: worst of 20", None, percentile(found, 0.95)))
    return rows
