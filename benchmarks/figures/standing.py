"""Figures of rings that stand still: P1, F2, and hops where all are known."""

from __future__ import annotations

import random
from typing import NamedTuple

from bare_ring import BareHost, BareNet

from figures.rows import Row, mean, percentile, within
from figures.walks import FingersOnly, ListSearch, Walk, owner_index, path_length, result_of, walk
from peerstore.ring.lookup import Search

__all__ = ["F2", "P1", "Routes", "known_rows", "known_walks", "routes", "rows_of_f2", "rows_of_p1"]

#: C01, Fig. 10a: n: (mean, p1, p99).
P1 = {
    8: (1.72, 1, 3),
    16: (2.09, 1, 4),
    32: (2.49, 1, 5),
    64: (2.96, 1, 5),
    128: (3.39, 1, 6),
    256: (3.88, 1, 7),
    512: (4.38, 1, 7),
    1024: (4.89, 2, 8),
    2048: (5.36, 2, 9),
    4096: (5.85, 2, 10),
}
#: T03, Table II: fraction that crashed: (hops, timeouts).
F2 = {0.0: (3.84, 0.0), 0.1: (4.03, 0.60), 0.2: (4.22, 1.17), 0.3: (4.44, 2.02), 0.4: (4.69, 3.23), 0.5: (5.09, 5.10)}
F2_NODES = 1000
F2_LIST = 20


class Routes(NamedTuple):
    """Lookups in rings of one kind: path lengths, and owners that were wrong."""

    lengths: list[int]
    wrong: int


def routes(n: int, rings: int, lookups: int, seed: int = 1) -> Routes:
    """C01's path lengths: fingers and one successor, no short cut."""
    lengths, wrong = [], 0
    for number in range(rings):
        net = BareNet(seed + number, list_size=1, table_kind=FingersOnly)
        hosts = sorted(net.stand(n), key=lambda host: host.ring.positions[0].id)
        points = [host.ring.positions[0].id for host in hosts]
        rng = random.Random(f"{seed}/{number}/keys")
        for _ in range(lookups):
            asker, key = rng.choice(hosts), rng.getrandbits(160)
            found = result_of(walk(asker, key, shortcut=False))
            owner = hosts[owner_index(points, key)]
            wrong += found.owner is None or found.owner.fp != owner.fp
            lengths.append(path_length(found.asked, owner is asker))
    return Routes(lengths, wrong)


def rows_of_p1(lookups: int, rings: int, largest: int = 4096) -> list[Row]:
    """P1: each size, as published and as ours."""
    rows = []
    for n, (theirs, low, high) in P1.items():
        if n > largest:
            break
        # Small rings differ more from each other, and cost less.
        count = max(rings, min(40, 2048 // n))
        found = routes(n, count, max(1, lookups // count))
        case = f"n = {n}"
        if n >= 128:
            rows.append(within("P1", case, "mean path length", theirs, mean(found.lengths), 0.1))
        else:
            rows.append(Row("P1", case, "mean path length", theirs, mean(found.lengths)))
        rows.append(Row("P1", case, "1st percentile", low, percentile(found.lengths, 0.01), digits=0))
        rows.append(Row("P1", case, "99th percentile", high, percentile(found.lengths, 0.99), digits=0))
        rows.append(Row("P1", case, "wrong owners", None, found.wrong, "0", found.wrong == 0, 0))
    return rows


class Crashed(NamedTuple):
    """Lookups among those that are left, by one rule."""

    walks: list[Walk]
    failed: int
    wrong: int


def crashed(share: float, lookups: int, n: int = F2_NODES, seed: int = 1) -> tuple[Crashed, Crashed]:
    """T03's crash without stabilization: by its rule, and by the shipped one,
    which waits for the owner's own word."""
    net = BareNet(seed, list_size=F2_LIST, table_kind=FingersOnly)
    hosts = net.stand(n)
    rng = random.Random(f"{seed}/{share}/crash")
    for host in rng.sample(hosts, round(share * n)):
        host.alive = False
    left = sorted(net.live(), key=lambda host: host.ring.positions[0].id)
    points = [host.ring.positions[0].id for host in left]
    questions = [(rng.choice(left), rng.getrandbits(160)) for _ in range(lookups)]
    by_list = _crashed(ListSearch, questions, left, points)
    return by_list, _crashed(Search, questions[: max(1, lookups // 4)], left, points)


def _crashed(
    kind: type[Search], questions: list[tuple[BareHost, int]], left: list[BareHost], points: list[int]
) -> Crashed:
    walks, failed, wrong = [], 0, 0
    for asker, key in questions:
        found = result_of(walk(asker, key, kind))
        if found.owner is None:
            failed += 1
        elif found.owner.fp != left[owner_index(points, key)].fp:
            wrong += 1
        else:
            walks.append(found)
    return Crashed(walks, failed, wrong)


def rows_of_f2(lookups: int, n: int = F2_NODES) -> list[Row]:
    """F2: each fraction, as published and as ours."""
    rows = []
    for share, (hops, timeouts) in F2.items():
        theirs_rule, ours_rule = crashed(share, lookups, n)
        case = f"p = {share:g}"
        rows.append(within("F2", case, "mean hops", hops, mean([found.asked for found in theirs_rule.walks]), 0.25))
        rows.append(Row("F2", case, "mean timeouts", timeouts, mean([found.timeouts for found in theirs_rule.walks])))
        bad = theirs_rule.failed
        rows.append(Row("F2", case, "failed lookups", 0, bad, "0", bad == 0, 0))
        bad = theirs_rule.wrong
        rows.append(Row("F2", case, "wrong answers", 0, bad, "0", bad == 0, 0))
        bad = ours_rule.wrong
        rows.append(Row("F2", case, "wrong answers, owners asked", None, bad, "0", bad == 0, 0))
        asked = len(ours_rule.walks) + ours_rule.failed + bad
        rows.append(Row("F2", case, "not found, owners asked", None, ours_rule.failed / max(1, asked)))
    return rows


def known_walks(n: int, lookups: int, seed: int = 1) -> list[int]:
    """Questions of each lookup where everybody knows everybody."""
    net = BareNet(seed, knows_all=True)
    hosts = net.stand(n, table=True)
    rng = random.Random(f"{seed}/known")
    counts = []
    for _ in range(lookups):
        before = net.calls["find-successor"]
        rng.choice(hosts).ring.lookup(rng.getrandbits(160))
        counts.append(net.calls["find-successor"] - before)
    return counts


def known_rows(lookups: int, n: int = 250) -> list[Row]:
    """Mean hops where all peers are known: at most 1.2."""
    found = mean(known_walks(n, lookups))
    return [Row("all peers known", f"n = {n}", "mean hops", None, found, "at most 1.2", found <= 1.2)]
