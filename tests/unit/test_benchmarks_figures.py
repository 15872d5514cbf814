"""The published figures: small runs of each, and how they are judged.

Nothing is timed, and no figure is compared with a paper's here: that is what
the program is for.
"""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.support.benchmarks import load

bare_ring, rows, svg = load("bare_ring"), load("figures.rows"), load("figures.svg")
standing, keys, churn = load("figures.standing"), load("figures.keys"), load("figures.churn")
pages, chord_figures = load("figures.pages"), load("chord_figures")
walks = load("figures.walks")
SVG = "{http://www.w3.org/2000/svg}"


class RowTests(SynchronousTestCase):
    """Verdicts."""

    def test_within(self) -> None:
        """A difference of exactly the tolerance holds, more does not."""
        self.assertTrue(rows.within("P1", "n = 8", "mean", 3.39, 3.29, 0.1).holds)
        self.assertFalse(rows.within("P1", "n = 8", "mean", 3.39, 3.28, 0.1).holds)

    def test_what_is_told_is_what_is_judged(self) -> None:
        """A mean of many digits is rounded first."""
        row = rows.within("P1", "n = 8", "mean", 3.39, 3.2851, 0.1)
        self.assertEqual(row.cells()[3:], ("3.29", "within 0.1", "yes"))

    def test_cells(self) -> None:
        """A miss shows, and what was not asked for has no verdict."""
        self.assertEqual(
            rows.Row("C2", "R", "f", 2, 3.0, "no more", False, 1).cells()[2:], ("2.0", "3.0", "no more", "NO")
        )
        self.assertEqual(rows.Row("C2", "R", "f", None, 3.0).cells()[2:], ("", "3.00", "", ""))

    def test_percentile(self) -> None:
        """The smallest value that so many do not exceed."""
        values = list(range(1, 101))
        self.assertEqual([rows.percentile(values, share) for share in (0.01, 0.5, 0.99, 1.0)], [1, 50, 99, 100])
        self.assertEqual(rows.percentile([7], 0.01), 7)

    def test_mean(self) -> None:
        """Of nothing it is 0."""
        self.assertEqual((rows.mean([]), rows.mean([1, 2])), (0.0, 1.5))


class StandingRingTests(SynchronousTestCase):
    """Rings that are made, not grown."""

    def test_it_is_ideal(self) -> None:
        """Lists, predecessors and fingers are right."""
        net = bare_ring.BareNet(3, list_size=4)
        hosts = net.stand(20)
        self.assertEqual(net.wrong(), 0)
        points = sorted(host.ring.positions[0].id for host in hosts)
        for host in hosts:
            place = host.ring.positions[0]
            at = points.index(place.id)
            self.assertEqual([entry.id for entry in place.successors], [points[(at + n) % 20] for n in range(1, 5)])
            for number, finger in place.fingers._fingers.items():
                wanted = walks.owner_index(points, (place.id + (1 << number)) % 2**160)
                self.assertEqual(finger.id, points[wanted])

    def test_wrong_ones_are_counted(self) -> None:
        """A member that is dead makes two of its neighbours wrong."""
        net = bare_ring.BareNet(3, list_size=4)
        hosts = net.stand(20)
        net.kill(hosts[4])
        self.assertEqual(net.wrong(), 2)

    def test_lookups_find_the_owner_by_each_rule(self) -> None:
        """With and without the short cut, and by the papers' end."""
        net = bare_ring.BareNet(5, list_size=4, table_kind=walks.FingersOnly)
        hosts = sorted(net.stand(30), key=lambda host: host.ring.positions[0].id)
        points = [host.ring.positions[0].id for host in hosts]
        rng = random.Random(1)
        for _ in range(20):
            asker, key = rng.choice(hosts), rng.getrandbits(160)
            owner = hosts[walks.owner_index(points, key)].fp
            for kind, shortcut in ((walks.Search, True), (walks.Search, False), (walks.ListSearch, True)):
                self.assertEqual(walks.result_of(walks.walk(asker, key, kind, shortcut)).owner.fp, owner)

    def test_the_dead_cost_a_timeout_each(self) -> None:
        """Counted, and not as hops."""
        net = bare_ring.BareNet(5, list_size=8, table_kind=walks.FingersOnly)
        hosts = sorted(net.stand(12), key=lambda host: host.ring.positions[0].id)
        hosts[5].alive = False
        key = hosts[5].ring.positions[0].id
        found = walks.result_of(walks.walk(hosts[4], key, walks.ListSearch))
        self.assertEqual((found.owner.fp, found.asked, found.timeouts), (hosts[6].fp, 1, 1))

    def test_path_length(self) -> None:
        """The owner's own answer does not count, and one step is the least."""
        self.assertEqual([walks.path_length(asked, False) for asked in (1, 2, 5)], [1, 1, 4])
        self.assertEqual(walks.path_length(3, True), 3)


class SmallRunTests(SynchronousTestCase):
    """Each figure, with hardly any hosts: all its rows are there."""

    def made(self, figure: str) -> list:
        """The rows of a tiny run."""
        made = chord_figures.parts(chord_figures.TINY)[figure]
        return [row for make in made.values() for row in make()]

    def of(self, made: list, what: str) -> list[float]:
        """What was found under that name, case by case."""
        return [row.ours for row in made if row.what == what]

    def test_p1(self) -> None:
        """Two sizes; path lengths of one step at least; nobody is wrong."""
        made = self.made("P1")
        self.assertEqual(len(made), 2 * 4)
        self.assertTrue(all(1 <= length <= 4 for length in self.of(made, "mean path length")))
        self.assertEqual(self.of(made, "wrong owners"), [0, 0])

    def test_l3(self) -> None:
        """More positions, and the keys are spread more evenly."""
        made = self.made("L3")
        low, high = self.of(made, "1st percentile, keys"), self.of(made, "99th percentile, keys")
        self.assertEqual((len(low), len(high)), (5, 5))
        self.assertGreater(low[-1], low[0])
        self.assertLess(high[-1], high[0])

    def test_every_key_has_a_host(self) -> None:
        """None is lost or counted twice, the one behind the last position either."""
        sample = keys.sorted_keys(500)
        self.assertEqual(sample, sorted(sample))
        for positions in (1, 3):
            self.assertEqual(sum(keys.keys_per_host(7, sample, positions)), 500)

    def test_keys_fall_where_the_ring_says(self) -> None:
        """One host of two positions and one more: counted by hand."""
        sample = keys.sorted_keys(200)
        counts = keys.keys_per_host(5, sample, 1)
        places = sorted(
            (keys.ids.position_id(keys.hashlib.sha512(f"1/host/{n}".encode()).digest() * 2, 0), n) for n in range(5)
        )
        by_hand = [0] * 5
        for key in sample:
            by_hand[next((n for place, n in places if place >= key), places[0][1])] += 1
        self.assertEqual(counts, by_hand)

    def test_shares(self) -> None:
        """At least the mean, at most everything."""
        for row in self.made("shares"):
            self.assertTrue(1 <= row.ours <= 50)
        self.assertAlmostEqual(keys.largest_share(1, 8, random.Random(1)), 1.0)

    def test_f1(self) -> None:
        """The ring mends itself, and nobody is taken for an owner wrongly."""
        death = churn.mass_death(30, 0.1, 20)
        self.assertEqual(death.wrong, 0)
        self.assertIsNotNone(death.rest)
        self.assertTrue(0 <= death.failed <= 0.5)

    def test_f2(self) -> None:
        """Six fractions; by neither rule is an answer wrong."""
        made = self.made("F2")
        self.assertEqual(len(made), 6 * 6)
        self.assertEqual(sum(self.of(made, "wrong answers")), 0)
        self.assertEqual(sum(self.of(made, "wrong answers, owners asked")), 0)
        self.assertEqual(self.of(made, "mean timeouts")[0], 0)

    def test_c2(self) -> None:
        """All lookups are accounted for."""
        found = churn.churn(0.5, 20, 0.1, n=20, warm_up=5.0)
        self.assertEqual(found.lookups, 20)
        self.assertEqual(len(found.walks) + found.nobody + found.wrong, 20)

    def test_c2_as_shipped(self) -> None:
        """With attempts and the table of all hosts, each is found."""
        found = churn.churn(0.2, 20, 0.1, n=20, warm_up=5.0, shipped=True)
        self.assertEqual((found.failed, len(found.walks)), (0, 20))

    def test_all_known(self) -> None:
        """One question, or none for a key of one's own."""
        self.assertTrue(set(standing.known_walks(30, 30)) <= {0, 1})


class PageTests(SynchronousTestCase):
    """Tables and plots."""

    def rows(self) -> list:
        """Two cases of a figure."""
        return [
            rows.within("P1", "n = 128", "mean path length", 3.39, 3.4, 0.1),
            rows.within("P1", "n = 256", "mean path length", 3.88, 4.1, 0.1),
        ]

    def test_markdown(self) -> None:
        """A table with as many cells in each line."""
        lines = [line for line in pages.markdown(self.rows()).splitlines() if line.startswith("|")]
        self.assertEqual({line.count("|") for line in lines}, {7})
        self.assertIn("| n = 256 | mean path length | 3.88 | 4.10 | within 0.1 | NO |", lines)

    def test_a_plot_stands_above_its_table(self) -> None:
        """Of its own figure, and of no other."""
        text = pages.markdown(self.rows(), ["ring-figure-p1.svg", "ring-figure-l3.svg"])
        self.assertIn("](ring-figure-p1.svg)", text)
        self.assertNotIn("l3.svg", text)

    def test_plots(self) -> None:
        """Well-formed, with both series and every point."""
        made = pages.plots(self.rows())
        self.assertEqual(list(made), ["ring-figure-p1.svg"])
        tree = ElementTree.fromstring(made["ring-figure-p1.svg"])
        self.assertEqual(len(tree.findall(f"{SVG}polyline")), 2)
        self.assertEqual(len(tree.findall(f"{SVG}circle")), 4)

    def test_points_lie_inside(self) -> None:
        """Whatever the numbers."""
        for points in ([(0.0, 0.0), (1.0, 0.0)], [(0.01, 0.009), (0.2, 0.2006)], [(3.0, 5.0)]):
            tree = ElementTree.fromstring(svg.plot("t", "x", "y", [svg.Series("s & t", points)]))
            for circle in tree.findall(f"{SVG}circle"):
                self.assertTrue(svg.LEFT <= float(circle.get("cx")) <= svg.WIDTH - svg.RIGHT)
                self.assertTrue(svg.TOP <= float(circle.get("cy")) <= svg.HEIGHT - svg.BOTTOM)

    def test_ticks(self) -> None:
        """Round, inside, not too many."""
        self.assertEqual(svg.ticks(0, 0.21), [0.0, 0.05, 0.1, 0.15, 0.2])
        self.assertEqual(svg.ticks(0, 477 * 1.08), [0, 200, 400])
        self.assertLessEqual(len(svg.ticks(0, 6.3)), 6)

    def test_rows_are_kept(self) -> None:
        """A file of rows is read back as it was written."""
        path = Path(self.mktemp())
        kept = {"P1": {"all": self.rows()}}
        path.write_text(chord_figures.json.dumps(kept), encoding="utf-8")
        self.assertEqual(chord_figures._kept(path), kept)
        self.assertEqual(chord_figures._kept(Path(self.mktemp())), {})

    def test_parts_stand_in_order(self) -> None:
        """Whichever was there first; what is missing is left out."""
        every = chord_figures.parts(chord_figures.QUICK)
        names = list(every["C2"])
        self.assertEqual(names[:2], ["R = 0.05", "R = 0.05, shipped"])
        first, second = self.rows()
        kept = {"C2": {names[3]: [second], names[1]: [first]}}
        self.assertEqual(chord_figures._rows("C2", kept, every), [first, second])
        self.assertEqual(chord_figures._rows("F1", kept, every), [])

    def test_what_docs_show_is_there(self) -> None:
        """Every plot that can be made has a figure that is explained."""
        self.assertEqual(set(pages.ABOUT), set(chord_figures.FIGURES))
        self.assertEqual(set(pages.ABOUT), set(chord_figures.parts(chord_figures.FULL)))
