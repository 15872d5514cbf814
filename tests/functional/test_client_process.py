"""The command line against real nodes: everything comes back, and whatever
goes wrong is told in a line or two."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from peerstore.files.chunk import MAX_SEALED
from peerstore.items import Kind
from peerstore.storage.listing import list_keys
from tests.support.commands import CommandTestCase, Person, Said, tree
from tests.support.processes import SOAK, free_port, pause, until

MIB = 2**20


def random_files(folder: Path, count: int, size: int, seed: int = 1) -> None:
    """Files of bytes that no compression makes smaller."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for number in range(count):
        (folder / f"{number:04}").write_bytes(rng.randbytes(size))


def at_work(process: subprocess.Popen[Any]) -> bool:
    """Whether a command that writes has locked its home and opened its state."""
    folder = f"/proc/{process.pid}/fd"
    opened = []
    for name in os.listdir(folder):
        # It opens and closes files meanwhile.
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(f"{folder}/{name}"))
    return any("/state-" in place for place in opened)


class RoundTripTests(CommandTestCase):
    """What goes in comes out."""

    timeout = 150 * SOAK

    def papers(self) -> Path:
        """A folder with all that people keep."""
        top = self.folder / "papers"
        random_files(top / "a" / "b" / "c", 3, 100_000)
        (top / "large.bin").write_bytes(random.Random(2).randbytes(9 * MIB))
        (top / "empty folder").mkdir(mode=0o700)
        (top / "empty file").touch()
        (top / "run.sh").write_bytes(b"#!/bin/sh\n")
        (top / "run.sh").chmod(0o4755)
        (top / "secret").write_bytes(b"s")
        (top / "secret").chmod(0o600)
        (top / "to a file").symlink_to("a/b/c/0001")
        (top / "to a folder").symlink_to("a")
        (top / "to nowhere").symlink_to("/no/such/place")
        with (top / "sparse").open("wb") as sparse:
            sparse.seek(50 * MIB)
            sparse.write(b"end")
        raw = os.fsencode(top)
        for name in (b"\xff\xfe.txt", b"new\nline", b"-n", b"*", "größe 日本".encode(), b" "):
            with open(os.path.join(raw, name), "wb") as file:
                file.write(name)
        (top / "a" / "b").chmod(0o555)
        for path in [*top.rglob("*"), top]:
            os.utime(path, ns=(1, 1_400_000_000_123_456_789), follow_symlinks=False)
        os.utime(top / "secret", ns=(1, -1_000_000_007))
        return top

    async def test_everything_that_people_keep(self) -> None:
        """Recursion, empty folders, modes, times in ns, links as links, odd
        names, empty and sparse files; a second backup sends no content."""
        await self.small_ring(3)
        me, source = self.person(), self.papers()
        os.mkfifo(source / "pipe")
        os.link(source / "secret", source / "also secret")
        os.utime(source, ns=(1, 1_400_000_000_123_456_789))
        first = me.asks("backup", str(source))
        self.assertEqual(first["problems"], [])
        self.assertEqual(
            sorted(line for line in first["notes"] if "extended" not in line),
            [
                "also secret: a hard link; kept as a file of its own",
                "pipe: a named pipe; not kept",
                "secret: a hard link; kept as a file of its own",
            ],
        )
        again = me.asks("backup", str(source))
        self.assertEqual((again["sent"], again["changed"], again["changed_folders"]), (0, 0, 0))
        self.assertEqual(again["unchanged"], again["files"])
        for _ in range(2):
            self.assertEqual(me.asks("restore", "papers", "--to", str(self.folder / "back"))["problems"], [])
        (source / "pipe").unlink()
        os.utime(source, ns=(1, 1_400_000_000_123_456_789))
        self.assert_same_tree(source, self.folder / "back")
        self.assertLess((self.folder / "back" / "sparse").stat().st_blocks * 512, 10 * MIB)
        by_name = self.folder / "one"
        me.does("get", "papers/\udcff\udcfe.txt", "--to", str(by_name))
        self.assertEqual(by_name.read_bytes(), b"\xff\xfe.txt")

    async def test_very_many_small_files(self) -> None:
        """A thousand of them, in and out."""
        await self.small_ring(3)
        me, source = self.person(), self.folder / "many"
        count = 1000 * SOAK
        for number in range(count):
            place = source / f"{number % 30:02}" / f"{number:04}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"%d" % number * (number % 300))
        self.assertEqual(me.asks("backup", str(source))["changed"], count)
        again = me.asks("backup", str(source))
        self.assertEqual((again["unchanged"], again["sent"]), (count, 0))
        self.assertEqual(me.asks("restore", "many", "--to", str(self.folder / "back"))["written"], count)
        self.assert_same_tree(source, self.folder / "back")


def files_in(folder: Path) -> int:
    """How many files there are by now, also while others come and go."""
    # Path.rglob raises when a folder goes that it is about to look into.
    return sum(len(names) for _, _, names in os.walk(folder))


class StoppedTests(CommandTestCase):
    """Ctrl-C and kill -9, at several moments."""

    def certain(self) -> int:
        """Bytes of chunks that two nodes or more have on disk by now."""
        held: dict[bytes, list[int]] = {}
        for node in self.nodes:
            for key in list_keys(node.data):
                if key.kind is Kind.CHUNK:
                    held.setdefault(key.element, []).append(key.size)
        return sum(sizes[0] for sizes in held.values() if len(sizes) > 1)

    async def stopped(self, me: Person, number: int, at: int, *arguments: str) -> Said:
        """Run a command, and send it a signal once so much is certain."""
        running = me.start(*arguments)
        try:
            await until("progress", lambda: running.poll() is not None or self.certain() >= at, 60, 0.01)
            running.send_signal(number)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
        return Said(running.returncode, out, err)

    async def test_a_backup(self) -> None:
        """Nothing is broken, the next run goes on from there, and sends only
        what was missing."""
        await self.small_ring(3)
        me, source = self.person(), self.folder / "work"
        random_files(source / "large", 5, 6 * MIB)
        random_files(source / "small", 300, 3000, 2)
        total = 5 * 6 * MIB + 300 * 3000
        moments = ((signal.SIGINT, 1), (signal.SIGKILL, 5 * MIB), (signal.SIGINT, 12 * MIB), (signal.SIGKILL, 20 * MIB))
        for number, at in moments:
            said = await self.stopped(me, number, at, "backup", str(source))
            self.assertNotIn("Traceback", said.err)
            if number == signal.SIGINT and said.status != 0:
                self.assertEqual((said.status, said.out), (130, ""))
                self.assertIn("run the same command again", said.err)
        before = self.certain()
        last = me.asks("backup", str(source))
        self.assertEqual(last["problems"], [])
        # What was on its way and not acknowledged may go twice: the client's
        # budget, and the chunk that overran it.
        self.assertLessEqual(last["sent"], total - before + 8 * MIB + MAX_SEALED)
        self.assertEqual(me.asks("backup", str(source))["unchanged"], 305)
        me.does("restore", "work", "--to", str(self.folder / "back"))
        self.assert_same_tree(source, self.folder / "back")

    async def test_a_restore(self) -> None:
        """Every file that is there is whole; the next run adds the rest, and
        nothing unfinished stays."""
        await self.small_ring(3)
        me, source, to = self.person(), self.folder / "work", self.folder / "back"
        random_files(source / "large", 6, 5 * MIB)
        random_files(source / "small", 300, 3000, 2)
        me.does("backup", str(source))
        expected = tree(source)
        for number, count in ((signal.SIGINT, 1), (signal.SIGKILL, 40), (signal.SIGINT, 120), (signal.SIGKILL, 200)):
            running = me.start("restore", "work", "--to", str(to))
            try:
                await until(
                    "progress",
                    lambda: running.poll() is not None or files_in(to) >= count,  # noqa: B023
                    60,
                    0.005,
                )
                running.send_signal(number)
                _, err = running.communicate(timeout=60)
            finally:
                running.kill()
            self.assertNotIn("Traceback", err)
            if number == signal.SIGINT and running.returncode:
                self.assertEqual(running.returncode, 130)
                self.assertFalse((to / ".peerstore-incoming").exists())
            for path, (kind, *rest) in tree(to).items():
                if stat.S_ISREG(kind) and not path.startswith(b".peerstore-incoming"):
                    self.assertTrue((kind, *rest) == expected[path], path)
        me.does("restore", "work", "--to", str(to))
        self.assert_same_tree(source, to)

    async def test_waiting_for_input(self) -> None:
        """A command that waits for somebody to type is stopped, too."""
        await self.small_ring(1)
        me = self.person()
        me.does("put", "-", "--as", "notes/a", stdin=b"x")
        reading, writing = os.pipe()
        running = subprocess.Popen(
            me.command("put", "-", "--as", "notes/b"), stdin=reading, stderr=subprocess.PIPE, text=True
        )
        os.close(reading)
        try:
            os.write(writing, b"some")
            await until("it to be at work", lambda: at_work(running))
            await pause(0.3)
            running.send_signal(signal.SIGINT)
            _, err = running.communicate(timeout=30)
        finally:
            running.kill()
            os.close(writing)
        self.assertEqual(running.returncode, 130, err)
        self.assertEqual([row["path"] for row in me.asks("ls", "notes")["entries"]], ["a"])


class NodeLossTests(CommandTestCase):
    """Nodes that are killed while they are needed."""

    async def test_one_of_five_at_any_moment(self) -> None:
        """kill -9 in the middle of a backup and of a restore, the node that
        was named first included: every file comes back."""
        await self.small_ring(5)
        me, source = self.person(), self.folder / "work"
        random_files(source / "large", 6, 4 * MIB)
        random_files(source / "small", 400, 2000, 2)
        for turn, victim in enumerate((0, 3)):
            name, to = f"work{turn}", self.folder / f"back{turn}"
            running = me.start("--json", "backup", str(source), "--as", name)
            await pause(0.5 + 0.4 * turn)
            self.nodes[victim].kill9()
            out, err = running.communicate(timeout=100)
            self.assertEqual(running.returncode, 0, err)
            self.assertEqual(json.loads(out)["problems"], [])
            me.does("restore", name, "--to", str(to))
            self.assert_same_tree(source, to)
            await self.back(victim)

            other = (victim + 1) % 5
            again = self.folder / f"again{turn}"
            running = me.start("--json", "restore", name, "--to", str(again))
            await until("its beginning", lambda: again.exists() or running.poll() is not None)  # noqa: B023
            self.nodes[other].kill9()
            out, err = running.communicate(timeout=100)
            self.assertEqual((running.returncode, err), (0, ""), out)
            self.assert_same_tree(source, again)
            await self.back(other)

    async def back(self, number: int) -> None:
        """Start a node again, by way of another one."""
        node = self.nodes[number]
        node.join = [self.nodes[(number + 2) % len(self.nodes)].port]
        node.start()
        await node.ready()
        await self.whole(self.client())

    async def test_the_node_that_was_named_is_gone(self) -> None:
        """The others were remembered, and are asked."""
        await self.small_ring(3)
        me = self.person(nodes=self.nodes[:1])
        me.does("put", "-", "--as", "notes/a", stdin=b"text")
        self.nodes[0].kill9()
        said = me.run("get", "notes/a", "--to", "-", peers=())
        self.assertEqual((said.status, said.out), (0, "text"))

    async def test_all_are_lost(self) -> None:
        """In the middle of a backup and of a restore: status 5 or 3, how far
        it came, and what to do; then it goes on."""
        await self.small_ring(3)
        me, you = self.person("me"), self.person("you")
        source = self.folder / "work"
        random_files(source / "large", 8, 8 * MIB)
        random_files(source / "small", 50, 2000, 2)
        you.does("backup", str(source))
        to = self.folder / "back"
        storing = me.start("backup", str(source))
        giving = you.start("restore", "work", "--to", str(to))
        try:
            await until("both at work", lambda: to.exists() and sum(1 for _ in to.rglob("0*")) > 3)
            for node in self.nodes:
                node.kill9()
            stored = storing.communicate(timeout=110)
            given = giving.communicate(timeout=110)
        finally:
            storing.kill()
            giving.kill()
        for running, (out, err) in ((storing, stored), (giving, given)):
            if running.returncode == 0:
                continue
            self.assertIn(running.returncode, (3, 5), err)
            self.assertNotIn("Traceback", err)
            self.assertEqual(out, "")
            self.assertIn("run this again", err)
            self.assertLessEqual(len([line for line in err.splitlines() if "not restored" not in line]), 3, err)
        for node in self.nodes:
            node.join = [other.port for other in self.nodes if other is not node]
            node.start()
        for node in self.nodes:
            await node.ready()
        await self.whole(self.client())
        me.does("backup", str(source))
        you.does("restore", "work", "--to", str(to))
        self.assert_same_tree(source, to)


class WrongPeerTests(CommandTestCase):
    """What is named is no node, or one of another ring."""

    def served(self, answer: bytes | None) -> str:
        """HOST:PORT of something that answers, or for None just listens."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.recv(10)
                if answer is not None:
                    connection.sendall(answer)
                    connection.close()
                else:
                    self.addCleanup(connection.close)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{listening.getsockname()[1]}"

    def test_no_node(self) -> None:
        """Nobody there, a web server, garbage, silence, a name that is none:
        status 3, two lines, the address in them."""
        me = Person(self.folder / "home")
        peers = [
            f"127.0.0.1:{free_port()}",
            self.served(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
            self.served(bytes(range(256)) * 10),
            self.served(b""),
            self.served(None),
        ]
        for peer in peers:
            said = me.run("ls", peers=[peer])
            self.assertEqual((said.status, said.out, len(said.errors)), (3, "", 2), said)
            self.assertIn(peer, said.errors[0])
            self.assertIn("--peer", said.errors[1])
        self.assertFalse((me.home / "config.json").exists(), "what did not answer is not remembered")

    def test_no_address(self) -> None:
        """A mistyped one is told before anybody is dialled."""
        me = Person(self.folder / "home")
        for peer in ("", "host", "host:port", "127.0.0.1:99999", "tcp:1"):
            said = me.run("ls", peers=[peer])
            self.assertEqual((said.status, len(said.errors)), (2, 2), said)
        self.assertEqual(me.run("ls").status, 2)

    async def test_the_second_of_two(self) -> None:
        """One that answers is enough."""
        await self.small_ring(1)
        me = self.person()
        dead = self.served(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(me.run("ls", peers=[dead, *me.peers]).status, 0)

    async def test_a_node_of_another_ring(self) -> None:
        """Nothing is taken for stored there; the ring that was remembered
        stays so; a restore says what is the matter."""
        for _ in range(2):
            self.node().start()
        for node in self.nodes:
            await node.ready()
        me = self.person(nodes=self.nodes[:1])
        other = self.person("home", nodes=self.nodes[1:])
        random_files(self.folder / "work", 2, 1000)
        me.does("backup", str(self.folder / "work"))
        for verb in (("backup", str(self.folder / "work")), ("rm", "work/0000"), ("put", "-", "--as", "work/x")):
            said = other.run(*verb)
            self.assertEqual((said.status, len(said.errors)), (5, 2), said)
            self.assertIn("another ring", said.errors[0])
        told = other.run("restore", "work", "--to", str(self.folder / "back"))
        self.assertEqual(told.status, 1)
        self.assertIn("another ring", told.err)
        again = me.run("--json", "backup", str(self.folder / "work"), peers=())
        self.assertEqual(again.status, 0, again)


class FullTests(CommandTestCase):
    """A ring whose disks are full."""

    def small_disk(self, size: int) -> Path:
        """A file system of so many bytes."""
        if os.geteuid() != 0:
            raise SkipTest("only root can mount a small file system: needs root")
        place = self.folder / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            raise SkipTest(f"no file system can be mounted here: needs root; {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], check=True)
        return place

    async def test_a_full_ring(self) -> None:
        """Status 5, what happened and what to do; what was stored before can
        be read; with room again, the same command completes it."""
        disk = self.small_disk(60 * MIB)
        filler = disk / "filler"
        filler.write_bytes(bytes(20 * MIB))
        real = self.folder
        self.folder = disk
        await self.small_ring(3)
        self.folder = real
        me = self.person()
        random_files(self.folder / "first", 2, 100_000)
        me.does("backup", str(self.folder / "first"))
        random_files(self.folder / "second", 4, 5 * MIB)
        said = me.run("backup", str(self.folder / "second"))
        self.assertEqual((said.status, said.out), (5, ""), said)
        self.assertIn("of the 2 copies that make it safe", said.err)
        self.assertIn("have room, then run this again", said.errors[-1])
        self.assertLessEqual(len(said.errors), 3)
        me.does("restore", "first", "--to", str(self.folder / "back"))
        self.assert_same_tree(self.folder / "first", self.folder / "back")
        filler.unlink()
        subprocess.run(["mount", "-o", f"remount,size={200 * MIB}", str(disk)], check=True)
        me.does("backup", str(self.folder / "second"))
        me.does("restore", "second", "--to", str(self.folder / "back2"))
        self.assert_same_tree(self.folder / "second", self.folder / "back2")

    async def test_a_full_disk_of_our_own(self) -> None:
        """A restore that finds no room: status 7, and nothing half is left."""
        disk = self.small_disk(6 * MIB)
        await self.small_ring(1)
        me = self.person()
        random_files(self.folder / "work", 5, 2 * MIB)
        me.does("backup", str(self.folder / "work"))
        said = me.run("restore", "work", "--to", str(disk / "back"))
        self.assertEqual((said.status, len(said.errors)), (7, 2), said)
        self.assertIn("No room left", said.errors[0])
        self.assertIn("of 5 files are there", said.errors[0])
        for path in (disk / "back").iterdir():
            self.assertEqual(path.read_bytes(), (self.folder / "work" / path.name).read_bytes())


class GrammarTests(CommandTestCase):
    """Options, places, JSON, dry runs and exit statuses."""

    async def start(self) -> Person:
        """One node, and a folder that was backed up."""
        await self.small_ring(1)
        me = self.person()
        papers = self.folder / "papers"
        random_files(papers / "sub", 2, 1000)
        (papers / "note").write_text("text\n")
        me.does("backup", str(papers))
        return me

    async def test_names_and_local_paths(self) -> None:
        """get, restore and ls take NAME/path or the path that was backed up."""
        me = await self.start()
        for place in ("papers/note", str(self.folder / "papers" / "note"), f"{self.folder}/papers/../papers/note"):
            self.assertEqual(me.does("get", place, "--to", "-"), "text\n")
            self.assertEqual(me.asks("ls", place)["path"], "note")
        self.assertEqual(len(me.asks("ls", str(self.folder / "papers" / "sub"))["entries"]), 3)
        (self.folder / "papers" / "note").unlink()
        me.does("restore", str(self.folder / "papers" / "note"))
        self.assertEqual((self.folder / "papers" / "note").read_text(), "text\n")
        for verb in ("get", "ls", "restore", "rm"):
            self.assertEqual(me.run(verb, "papers/none").status, 4)
        self.assertIn("papers/note?", me.run("get", "papers/nota").err)

    async def test_where_get_writes(self) -> None:
        """Its own name here, a name, a folder that is there, a folder of its
        own for a folder; and never into what is no file."""
        me = await self.start()
        here = self.folder / "here"
        (here / "into").mkdir(parents=True)

        def get(*arguments: str) -> int:
            command = me.command("get", *arguments)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, __import__("sys").path))}
            return subprocess.run(command, cwd=here, env=environment, capture_output=True, check=False).returncode

        statuses = [
            get("papers/note"),
            get("papers/note", "--to", "other"),
            get("papers/note", "--to", "into"),
            get("papers/note", "--to", "new/"),
            get("papers/sub"),
            get("papers"),
        ]
        self.assertEqual(statuses, [0] * 6)
        found = sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())
        subs = [f"{top}/{name}" for top in ("papers/sub", "sub") for name in ("0000", "0001")]
        self.assertEqual(found, sorted(["note", "other", "into/note", "new/note", "papers/note", *subs]))
        self.assertEqual(get("papers", "--to", "-"), 2)
        self.assertEqual(get("papers/note", "--to", "/dev/null", "--force"), 7)
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    async def test_json(self) -> None:
        """One document with the fields that docs/operations.md lists, before
        or after the verb; errors are one, too."""
        me = await self.start()
        papers, back = str(self.folder / "papers"), str(self.folder / "back")
        fields = {
            ("backup", papers): "bytes changed changed_folders dry_run files folder folders notes problems removed sent"
            " unchanged would_remove would_store",
            ("ls",): "complete folders",
            ("ls", "papers"): "complete entries folder path",
            ("restore", "papers", "--to", back): "bytes complete dry_run files folder path present problems to"
            " would_write written",
            ("get", "papers/note", "--to", back): "bytes complete dry_run files folder path present problems to"
            " would_write written",
            ("put", papers + "/note", "--as", "papers/more"): "bytes folder path sent",
            ("rm", "papers/more"): "dry_run folder removed",
            ("ring",): "complete copies hosts ideal last_change positions ranges",
            ("trace", "papers/note"): "bytes chunks copies error folder holders hops key needed owner path version"
            " votes",
        }
        for command, names in fields.items():
            document = json.loads(me.does(*command, "--json"))
            self.assertEqual(sorted(document), names.split(), command)
        rows = me.asks("ls", "papers")["entries"]
        self.assertEqual(set(rows[0]), {"path", "path_hex", "kind", "bytes", "mode", "mtime_ns", "sha256"})
        said = me.run("get", "papers/none", "--json")
        self.assertEqual((said.status, said.out), (4, ""))
        self.assertEqual(sorted(json.loads(said.err)), ["error", "exit_status", "next_step"])
        self.assertEqual(json.loads(said.err)["exit_status"], 4)

    async def test_quiet(self) -> None:
        """Nothing is said of what went well; what was asked for is."""
        me = await self.start()
        os.mkfifo(self.folder / "papers" / "pipe")
        for command in (
            ("backup", str(self.folder / "papers")),
            ("restore", "papers", "--to", str(self.folder / "back")),
            ("put", "-", "--as", "papers/x"),
            ("rm", "papers/x"),
        ):
            said = me.run(*command, "--quiet")
            self.assertEqual((said.status, said.out, said.err), (0, "", ""), command)
        self.assertEqual(me.does("get", "papers/note", "--to", "-", "-q"), "text\n")
        self.assertIn("note", me.does("ls", "papers", "-q"))

    async def test_dry_runs(self) -> None:
        """They say what would be, and nothing changes, here or there."""
        me = await self.start()
        papers, back = self.folder / "papers", self.folder / "back"
        me.does("restore", "papers", "--to", str(back))
        (back / "note").write_text("mine\n")
        (papers / "sub" / "0000").unlink()
        (papers / "new").write_text("new\n")
        before = (me.asks("ls", "papers"), tree(papers), tree(back))
        said = me.does("backup", str(papers), "--dry-run").splitlines()
        self.assertEqual([line.split() for line in said if "new" in line][:1], [["would", "store", "new"]])
        self.assertIn(["would", "remove", "sub/0000"], [line.split() for line in said])
        self.assertIn("would remove", me.does("rm", "-r", "papers/sub", "-n"))
        self.assertIn("would write", me.does("restore", "papers", "--to", str(back), "--force", "-n"))
        self.assertIn("would write", me.does("get", "papers/note", "--to", str(back), "--force", "-n"))
        self.assertEqual((me.asks("ls", "papers"), tree(papers), tree(back)), before)

    async def test_rm(self) -> None:
        """A folder needs -r; a local path is none of its names; what is gone
        is gone for others, and is not sent again by itself."""
        me = await self.start()
        self.assertEqual(me.run("rm", "papers/sub").status, 2)
        self.assertEqual(me.run("rm", str(self.folder / "papers" / "note")).status, 2)
        me.does("rm", "-r", "papers/sub")
        me.does("rm", "papers/note")
        self.assertEqual(me.run("rm", "papers/note").status, 4)
        self.assertEqual(me.asks("ls", "papers")["entries"], [])

    async def test_put(self) -> None:
        """A file, or a pipe; not over a folder, nor below a file."""
        me = await self.start()
        note = str(self.folder / "papers" / "note")
        me.does("put", note, "--as", "other/a/b")
        me.does("put", note, "--as", "other/")
        self.assertEqual([row["path"] for row in me.asks("ls", "other")["entries"]], ["a/b", "note"])
        for file, place in (
            (note, "papers/sub"),
            (note, "papers/note/x"),
            (note, "papers"),
            (note, "/papers/x"),
            (str(self.folder), "other/x"),
            (note + "s", "other/x"),
        ):
            self.assertEqual(me.run("put", file, "--as", place).status, 2, (file, place))

    async def test_a_reader_beside_a_writer(self) -> None:
        """ls, get and restore do not wait for a long backup; a second writer
        is told."""
        me = await self.start()
        reading, held = os.pipe()
        running = subprocess.Popen(me.command("put", "-", "--as", "papers/slow"), stdin=reading)
        os.close(reading)
        try:
            await until("the lock", lambda: at_work(running))
            self.assertEqual(me.does("get", "papers/note", "--to", "-"), "text\n")
            me.does("ls")
            me.does("restore", "papers", "--to", str(self.folder / "back"))
            self.assertIn("Another peerstore is at work", me.run("backup", str(self.folder / "papers")).err)
        finally:
            os.close(held)
            running.wait(60)
        self.assertEqual(running.returncode, 0)

    async def test_output_that_nobody_takes(self) -> None:
        """A pipe that was closed, a disk that is full: no traceback."""
        me = await self.start()
        (self.folder / "papers" / "large").write_bytes(random.Random(1).randbytes(3 * MIB))
        me.does("backup", str(self.folder / "papers"))
        for command in (("get", "papers/large", "--to", "-"), ("ls", "papers"), ("ls", "papers", "--json")):
            reading, writing = os.pipe()
            os.close(reading)
            done = subprocess.run(me.command(*command), stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
            os.close(writing)
            self.assertEqual((done.returncode, done.stderr), (1, ""), command)
            with open("/dev/full", "wb") as full:
                done = subprocess.run(me.command(*command), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            self.assertEqual(done.returncode, 7, command)
            self.assertNotIn("Traceback", done.stderr)

    def test_help_and_version(self) -> None:
        """--help has every status that docs/operations.md explains."""
        import tests

        me = Person(self.folder / "home")
        words = me.does("--help")
        page = (Path(tests.__file__).parent.parent / "docs" / "operations.md").read_text()
        section = page.split("## Commands: exit status\n")[1].split("\n## ")[0]
        statuses = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
        self.assertEqual(statuses, ["0", "1", "2", "3", "4", "5", "6", "7", "70", "130"])
        for status in statuses:
            self.assertRegex(words, rf"(?m)^ +{status} +\w")
        self.assertRegex(me.does("--version"), r"^peerstore, version \S+$")
        self.assertEqual(me.run("bakup").status, 2)

    def test_completion(self) -> None:
        """By click's own means, as docs/operations.md says."""
        me = Person(self.folder / "home")
        command = me.command()[:3]
        environment = {**os.environ, "_PEERSTORE_COMPLETE": "bash_source"}
        script = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertIn("_PEERSTORE_COMPLETE=bash_complete", script.stdout)
        environment |= {
            "_PEERSTORE_COMPLETE": "bash_complete",
            "COMP_WORDS": "peerstore backup --dr",
            "COMP_CWORD": "2",
        }
        done: Any = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        self.assertIn("--dry-run", done.stdout)
