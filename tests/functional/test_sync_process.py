"""``twistd peerstore-sync`` as a person meets it, on two computers."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

from peerstore.client.lock import HomeLock
from peerstore.crypto.keys import KeyPair
from tests.support.processes import free_port, pause, until
from tests.support.sync_processes import Computer, SyncProcessTestCase, contents, run_twistd

MIB = 2**20


class EverydayTests(SyncProcessTestCase):
    """What one does arrives at the other."""

    async def test_files_folders_and_links(self) -> None:
        """Made, changed, renamed, moved, given modes, deleted; both ways."""
        one, other = await self.two()
        one.write("letters/2024/first.txt", b"dear")
        (one.folder / "empty").mkdir()
        (one.folder / "link").symlink_to("letters/2024")
        (one.folder / "dangling").symlink_to("../nowhere")
        other.write("größe \n.txt", b"from the other")
        await self.equal(lambda: len(one.names()) == 7)

        other.write("letters/2024/first.txt", b"dear me")
        await self.there(one, "letters/2024/first.txt", b"dear me")
        with (one.folder / "letters/2024/first.txt").open("ab") as file:
            file.write(b", too")
        await self.there(other, "letters/2024/first.txt", b"dear me, too")
        other.save("letters/2024/first.txt", b"as an editor saves")
        await self.there(one, "letters/2024/first.txt", b"as an editor saves")

        (one.folder / "letters").rename(one.folder / "post")
        (one.folder / "post/2024/first.txt").chmod(0o711)
        (one.folder / "empty").chmod(0o700)
        await self.equal(lambda: "post/2024/first.txt" in other.names() and "letters" not in other.names())
        self.assertEqual((other.folder / "post/2024/first.txt").stat().st_mode & 0o777, 0o711)

        (other.folder / "link").unlink()
        (other.folder / "link").symlink_to("post")
        shutil.rmtree(other.folder / "post")
        await self.equal(lambda: "post" not in one.names())
        self.assertEqual(os.readlink(one.folder / "link"), "post")
        self.assert_no_trace()

    async def test_a_file_replaced_by_a_folder_and_back(self) -> None:
        """And nothing of either is taken for a conflict."""
        one, other = await self.two(1)
        one.write("a", b"file")
        await self.there(other, "a", b"file")
        (one.folder / "a").unlink()
        one.write("a/b", b"in a folder")
        await self.there(other, "a/b", b"in a folder")
        shutil.rmtree(other.folder / "a")
        other.write("a", b"file again")
        await self.there(one, "a", b"file again")
        await self.equal(lambda: one.names() == ["a"])

    async def test_names_that_are_no_text(self) -> None:
        """They arrive, although the watcher cannot tell them."""
        one, other = await self.two(1)
        for name in (b"\xff\xfe", b"caf\xe9.txt"):
            with open(os.path.join(os.fsencode(one.folder), name), "wb") as file:
                file.write(name)
        await self.equal(lambda: len(other.names()) == 2)

    async def test_a_large_file(self) -> None:
        """20 MiB; renamed, its content does not travel again."""
        client_ring = await self.small_ring()
        one, other = self.computer(), self.computer()
        for computer in (one, other):
            computer.start()
            await computer.says("syncing")
        data = random.Random(1).randbytes(20 * MIB)
        one.write("large", data)
        await until("its size", lambda: _size(other.folder / "large") == len(data), 60.0)
        self.assertEqual(hashlib.sha256(other.read("large") or b"").digest(), hashlib.sha256(data).digest())
        await self.at_rest(client_ring)
        # Until nobody remembers that only two of the nodes once voted: both of
        # those would be waited for.
        await pause(10.0)
        for node in self.nodes:
            node.kill9()
        (one.folder / "large").rename(one.folder / "renamed")
        # The chunks are gone with one node of three, but for two copies.
        for node in self.nodes[:2]:
            node.start()
        for node in self.nodes[:2]:
            await node.ready()
        await until("the new name", lambda: _size(other.folder / "renamed") == len(data), 60.0)
        await self.equal(lambda: other.names() == ["renamed"])

    async def test_many_files_at_once(self) -> None:
        """A folder with five hundred files is moved in on each side."""
        await self.small_ring()
        one, other = self.computer(), self.computer()
        for number in range(500):
            one.write(f"left/{number % 10}/{number}", b"%d" % number)
            other.write(f"right/{number % 10}/{number}", b"%d" % number)
        for computer in (one, other):
            computer.start()
        await self.equal(lambda: len(one.names()) == 1022)
        self.assert_no_trace()


class WholeTests(SyncProcessTestCase):
    """Nobody ever sees half a file."""

    async def test_a_reader_sees_whole_files_only(self) -> None:
        """Whenever it looks, there is one of the versions that were saved."""
        one, other = await self.two(1)
        versions = {hashlib.sha256(data).digest(): data for data in (os.urandom(3 * MIB) for _ in range(6))}
        seen: set[bytes] = set()
        ended = threading.Event()

        def reader() -> None:
            while not ended.is_set():
                data = other.read("film")
                if data is not None:
                    seen.add(hashlib.sha256(data).digest())
                time.sleep(0.002)

        thread = threading.Thread(target=reader)
        thread.start()
        try:
            for data in versions.values():
                one.save("film", data)
                await self.there(other, "film", data)
        finally:
            ended.set()
            thread.join()
        self.assertLessEqual(seen, set(versions))
        self.assertGreater(len(seen), 1)

    async def test_a_file_that_is_written_slowly(self) -> None:
        """In place, with no pause as long as the settle time: it arrives at
        its end, and what arrives before is a beginning of it."""
        one, other = await self.two(1)
        data = os.urandom(2 * MIB)
        with (one.folder / "slow").open("wb", buffering=0) as file:
            for at in range(0, len(data), 64 * 1024):
                file.write(data[at : at + 64 * 1024])
                early = other.read("slow")
                self.assertTrue(early is None or data.startswith(early))
                await pause(0.02)
        await self.there(other, "slow", data)
        await self.equal(lambda: one.names() == ["slow"])

    async def test_a_file_that_changes_all_the_time(self) -> None:
        """Holds nothing else up, and arrives when it is left alone."""
        one, other = await self.two(1)
        ended = threading.Event()

        def writer() -> None:
            with (one.folder / "busy").open("wb", buffering=0) as file:
                while not ended.is_set():
                    file.write(os.urandom(64 * 1024))
                    file.seek(random.randrange(4 * MIB))

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            one.write("calm", b"calm")
            await self.there(other, "calm", b"calm")
        finally:
            ended.set()
            thread.join()
        await self.there(other, "busy", one.read("busy"))
        await self.equal()
        self.assert_no_trace()


class ConflictTests(SyncProcessTestCase):
    """Both sides edit."""

    async def test_two_edits_at_once(self) -> None:
        """Both contents stay, under the same names on both computers."""
        one, other = await self.two()
        one.write("plan.txt", b"before")
        await self.there(other, "plan.txt", b"before")
        one.write("plan.txt", b"from one")
        other.write("plan.txt", b"from the other")
        await self.equal(lambda: len(one.names()) == 2)
        self.assertEqual({one.read(name) for name in one.names()}, {b"from one", b"from the other"})
        copy = next(name for name in one.names() if name != "plan.txt")
        self.assertRegex(copy, r"^plan\.conflict-[0-9a-f]{8}-[0-9a-f]{8}\.txt$")

        # Settled by hand: the copy is deleted, and stays so.
        (other.folder / copy).unlink()
        await self.equal(lambda: one.names() == ["plan.txt"])

    async def test_both_edit_while_one_is_off(self) -> None:
        """Found at its start, by comparing with what was agreed."""
        one, other = await self.two(1)
        for name in ("both", "left", "right", "gone", "kept"):
            one.write(name, b"before")
        await self.equal(lambda: len(other.names()) == 5)
        other.stop()
        one.write("both", b"from one")
        one.write("left", b"from one")
        (one.folder / "gone").unlink()
        (one.folder / "kept").unlink()
        other.write("both", b"from the other")
        other.write("right", b"from the other")
        other.write("kept", b"edit beats delete")
        other.write("new", b"new")
        await pause(0.5)
        other.start()
        await self.equal(lambda: len(one.names()) == 6)
        self.assertEqual(one.read("kept"), b"edit beats delete")
        self.assertEqual((one.read("left"), one.read("right")), (b"from one", b"from the other"))
        both = {one.read(name) for name in one.names() if name.startswith("both")}
        self.assertEqual(both, {b"from one", b"from the other"})

    async def test_the_same_folder_on_both_from_the_start(self) -> None:
        """Equal files are no conflict; files that differ stay both."""
        await self.small_ring()
        one, other = self.computer(), self.computer()
        for computer, mine in ((one, b"one"), (other, b"other")):
            computer.write("same", b"same")
            computer.write("d/mine", mine)
        one.start()
        await one.says("syncing")
        other.start()
        await self.equal(lambda: len(one.names()) == 4)

    async def test_the_answer_to_an_answer_is_nothing(self) -> None:
        """After all that, the log does not grow any more."""
        client = await self.small_ring()
        one, other = self.computer(), self.computer()
        for computer in (one, other):
            computer.start()
            await computer.says("syncing")
        for number in range(5):
            one.write(f"d/{number}", b"from one %d" % number)
            other.write(f"d/{number}", b"from the other %d" % number)
            await pause(0.1)
        await self.equal(lambda: len(one.names()) >= 6)
        await self.at_rest(client)
        before = contents(one.folder)
        await self.equal()
        self.assertEqual(contents(one.folder), before)
        for computer in (one, other):
            for name in computer.names():
                os.utime(computer.folder / name)
        await pause(2)
        length = await self.log_length(client)
        await self.at_rest(client)
        self.assertEqual(await self.log_length(client), length)


class DeathTests(SyncProcessTestCase):
    """Daemons and nodes that are killed."""

    async def test_daemons_killed_in_the_middle(self) -> None:
        """Again and again, while both are edited; at last both are equal."""
        one, other = await self.two()
        rng = random.Random(3)
        for turn in range(4):
            for number in range(30):
                one.write(f"one/{number}", rng.randbytes(rng.choice([10, 200_000])))
                other.write(f"other/{number}", rng.randbytes(rng.choice([10, 200_000])))
            await pause(rng.choice([0.1, 0.2, 0.4]))
            victim = (one, other)[turn % 2]
            victim.kill9()
            victim.write(f"while-off-{turn}", b"x")
            victim.start()
        await self.equal(lambda: len(one.names()) == 66)
        for computer in (one, other):
            self.assertEqual([n for n in computer.names() if "conflict" in n], [])
            self.assertEqual(os.listdir(computer.folder / ".peerstore-sync"), [])

    async def test_a_node_is_killed(self) -> None:
        """One of three; sync goes on with the two."""
        one, other = await self.two()
        one.write("a", os.urandom(300_000))
        await self.equal(lambda: other.names() == ["a"])
        self.nodes[1].kill9()
        one.write("b", os.urandom(300_000))
        other.write("a", b"edited")
        await self.equal(lambda: one.read("a") == b"edited" and other.names() == ["a", "b"])

    async def test_the_whole_ring_is_away(self) -> None:
        """It is said once; edits wait for it, and nothing is deleted."""
        one, other = await self.two()
        one.write("a", b"before")
        await self.there(other, "a", b"before")
        for node in self.nodes:
            node.kill9()
        one.write("a", b"while it was away")
        one.write("b", b"new")
        await one.says("sync waits")
        for node in self.nodes:
            node.start()
        await self.equal(lambda: other.read("a") == b"while it was away" and other.names() == ["a", "b"])
        self.assertEqual(one.text().count("sync waits"), 1)

    async def test_a_ring_that_comes_later_than_the_daemon(self) -> None:
        """The daemon finds it."""
        node = self.node(extra=["--virtual-nodes", "2"])
        one, other = self.computer(), self.computer()
        one.write("a", b"x")
        for computer in (one, other):
            computer.start()
        await one.says("sync waits")
        node.start()
        await self.there(other, "a", b"x")


class RootTests(SyncProcessTestCase):
    """A folder that is not what it was."""

    async def stopped_with(self, computer: Computer) -> str:
        """The one line with which it refuses to start."""
        result = run_twistd("-n", "--pidfile=", *computer.options)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        (line,) = result.stderr.splitlines()
        return line

    async def test_a_folder_that_goes_while_it_is_off(self) -> None:
        """Missing, empty, or another's: it does not start, and nothing is
        deleted; when it is back all goes on."""
        one, other = await self.two(1)
        for name in "abcd":
            one.write(name, b"x")
        await self.equal(lambda: len(other.names()) == 4)
        other.stop()
        away = other.folder.with_name("away")
        other.folder.rename(away)
        self.assertIn("is not there", await self.stopped_with(other))
        other.folder.mkdir()
        self.assertIn("lacks the mark", await self.stopped_with(other))
        shutil.copytree(one.folder, other.folder, dirs_exist_ok=True)
        self.assertIn("mark of another folder", await self.stopped_with(other))
        shutil.rmtree(other.folder)
        away.rename(other.folder)
        for name in "abcd":
            (other.folder / name).unlink()
        self.assertIn("empty all at once", await self.stopped_with(other))
        self.assertEqual(len(one.names()), 4)
        other.write("e", b"meant it")
        other.start()
        await self.equal(lambda: one.names() == ["e"])

    async def test_a_folder_that_goes_while_it_runs(self) -> None:
        """It waits, says so, and goes on when the folder is back."""
        one, other = await self.two(1)
        for name in "abcd":
            one.write(name, b"x")
        await self.equal(lambda: len(other.names()) == 4)
        away = other.folder.with_name("away")
        other.folder.rename(away)
        await other.says("is not there")
        one.write("new", b"x")
        await pause(1.5)
        self.assertEqual(len(one.names()), 5)
        self.assertFalse(other.folder.exists())
        away.rename(other.folder)
        await self.equal(lambda: len(other.names()) == 5)

    async def test_a_folder_that_is_emptied_while_it_runs(self) -> None:
        """Nothing is deleted elsewhere."""
        one, other = await self.two(1)
        for name in "abcd":
            one.write(name, b"x")
        await self.equal(lambda: len(other.names()) == 4)
        # They are there a moment before they are agreed on.
        await until("an agreement", lambda: other.agreed() == 4)
        for name in "abcd":
            (other.folder / name).unlink()
        await other.says("empty all at once")
        await pause(1.5)
        self.assertEqual(len(one.names()), 4)

    async def test_the_home_inside_the_folder(self) -> None:
        """Neither state nor key is ever synced."""
        await self.small_ring(1)
        one = self.computer()
        one.home = one.folder / ".state"
        one.key = one.folder / ".keys" / "mine.pem"
        one.key.parent.mkdir()
        KeyPair.load_or_create(one.key, None, 2048)
        other = self.computer()
        other.key = one.key
        one.write("a", b"x")
        for computer in (one, other):
            computer.start()
        await self.there(other, "a", b"x")
        await pause(1.0)
        self.assertEqual(other.names(), [".keys", "a"])


class LifeTests(SyncProcessTestCase):
    """Starting and stopping."""

    async def test_sigterm(self) -> None:
        """It ends at once, in order, and says no more than that."""
        one, _ = await self.two(1)
        self.assertIn(one.stop(), (0, -signal.SIGTERM))
        self.assertIn("Server Shut Down", one.text())
        self.assert_no_trace()
        lock = HomeLock(one.home)
        lock.take()
        lock.release()

    async def test_sigterm_in_the_middle(self) -> None:
        """So it does with a large file on its way, which arrives later."""
        one, other = await self.two()
        data = os.urandom(30 * MIB)
        one.write("large", data)
        await pause(0.3)
        for computer in (one, other):
            self.assertIn(computer.stop(), (0, -signal.SIGTERM))
        self.assert_no_trace()
        for computer in (one, other):
            computer.start()
        await until("its size", lambda: _size(other.folder / "large") == len(data), 60.0)
        await self.equal()

    async def test_lines_of_level_debug(self) -> None:
        """Are in the log only if one asks for them."""
        await self.small_ring(1)
        quiet, verbose = self.computer(), self.computer("--verbose")
        for computer, name in ((quiet, b"q\xff"), (verbose, b"v\xff")):
            computer.start()
            await computer.says("syncing")
            # The watcher cannot tell such a name, and says so on that level.
            with open(os.path.join(os.fsencode(computer.folder), name), "wb"):
                pass
        await verbose.says("#debug")
        await self.equal(lambda: len(quiet.names()) == 2)
        self.assertNotIn("#debug", quiet.text())

    async def test_as_a_daemon(self) -> None:
        """With pid and log file, from another directory, ended by its pid."""
        await self.small_ring(1)
        one, other = self.computer(), self.computer()
        other.start()
        pid, log = self.folder / "sync.pid", self.folder / "daemon.log"
        options = [os.path.relpath(word) if word == str(one.folder) else word for word in one.options]
        result = run_twistd(f"--pidfile={pid}", f"--logfile={log}", "--rundir=/", *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        number = int(pid.read_text())
        self.addCleanup(_kill, number)
        one.write("a", b"x")
        await self.there(other, "a", b"x")
        os.kill(number, signal.SIGTERM)
        await until("no pid file", lambda: not pid.exists())
        self.assertIn("Server Shut Down", log.read_text())
        self.assertNotIn("Traceback", log.read_text())


class MistakeTests(SyncProcessTestCase):
    """What cannot work is refused in one line, with a status that is not 0."""

    def refused(self, *words: str) -> str:
        """The one line that is said, before anything is a daemon."""
        pid, log = self.folder / "sync.pid", self.folder / "sync.log"
        result = run_twistd(f"--pidfile={pid}", f"--logfile={log}", "peerstore-sync", *words)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        (line,) = result.stderr.splitlines()
        self.assertNotIn("Traceback", line)
        self.assertFalse(pid.exists())
        self.assertFalse(log.exists())
        return line

    def some(self, *more: str) -> list[str]:
        """Options that are fine, and some more."""
        place = self.folder / "fine"
        place.mkdir(exist_ok=True)
        home = str(self.folder / "home")
        options = ["--folder", str(place), "--home", home, "--key", str(self.key)]
        return [*options, "--peer", f"127.0.0.1:{free_port()}", *more]

    def test_help_explains_each_option(self) -> None:
        """With a sentence, and ends well."""
        result = run_twistd("peerstore-sync", "--help")
        self.assertEqual(result.returncode, 0)
        for option in ("folder", "key", "as", "home", "poll", "settle", "peer"):
            self.assertRegex(result.stdout, rf"--{option}=\s+\S+")

    def test_options(self) -> None:
        """Missing, out of range, or not to be read."""
        self.assertIn("--folder", self.refused("--peer", "127.0.0.1:1"))
        self.assertIn("--peer", self.refused("--folder", str(self.folder)))
        self.assertIn("--peer", self.refused(*self.some("--peer", "nowhere")))
        self.assertIn("--poll", self.refused(*self.some("--poll", "0")))
        self.assertIn("--settle", self.refused(*self.some("--settle", "soon")))

    def test_folders(self) -> None:
        """Missing, a file, or our own."""
        (self.folder / "file").touch()
        self.assertIn("is not there", self.refused(*self.some("--folder", str(self.folder / "missing"))))
        self.assertIn("is no folder", self.refused(*self.some("--folder", str(self.folder / "file"))))
        (self.folder / "home" / "sub").mkdir(parents=True)
        self.assertIn("own state", self.refused(*self.some("--folder", str(self.folder / "home" / "sub"))))

    def test_keys(self) -> None:
        """One that others can read, and one that is none."""
        self.key.chmod(0o644)
        self.assertIn("chmod 600", self.refused(*self.some()))
        self.key.write_text("no key")
        self.key.chmod(0o600)
        self.assertIn("no RSA key", self.refused(*self.some()))

    def test_a_home_that_is_in_use(self) -> None:
        """By another daemon, or by a command."""
        lock = HomeLock(self.folder / "home")
        lock.take()
        self.addCleanup(lock.release)
        self.assertIn("Another peerstore is at work", self.refused(*self.some()))

    def test_a_home_that_is_a_file(self) -> None:
        """Is none."""
        (self.folder / "home").touch()
        self.assertIn(str(self.folder / "home"), self.refused(*self.some()))

    async def test_what_shows_after_the_fork_only(self) -> None:
        """A key that cannot be made: the log says why, and neither a process
        nor a pid file stays."""
        pid, log = self.folder / "sync.pid", self.folder / "sync.log"
        (self.folder / "file").touch()
        missing = self.folder / "file" / "missing" / "key.pem"
        result = run_twistd(f"--pidfile={pid}", f"--logfile={log}", "peerstore-sync", *self.some("--key", str(missing)))
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.addCleanup(lambda: pid.exists() and _kill(int(pid.read_text())))
        await until("its end", lambda: "Server Shut Down" in log.read_text() and not pid.exists())
        self.assertEqual(log.read_text().count("peerstore-sync cannot go on: "), 1)
        self.assertIn(str(missing), log.read_text())

    async def test_a_state_of_a_newer_program(self) -> None:
        """It is refused and left as it was."""
        await self.small_ring(1)
        one = self.computer()
        one.start()
        await one.says("syncing")
        one.stop()
        (state,) = one.home.glob("state*.sqlite")
        import sqlite3

        database = sqlite3.connect(state)
        database.execute("PRAGMA user_version = 99")
        database.commit()
        database.close()
        self.assertIn("newer", self.refused(*one.options[1:]))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _kill(number: int) -> None:
    try:
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return
