"""The user's API: one device of one user, at work with a ring.

Everything that a command or the sync daemon does goes through here.  A
device has an id of its own, one durable counter, a Lamport clock, and one
chain in the user's log; one process writes as a device at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from peerstore import ids, vectors
from peerstore.client.download import Downloader, Fetched
from peerstore.client.lock import HomeLock
from peerstore.client.publish import Publisher
from peerstore.client.source import Found
from peerstore.client.state import Agreement, ClientState
from peerstore.client.upload import Uploaded, Uploader, check_outcomes
from peerstore.crypto.secrets import UserSecrets
from peerstore.errors import BadMessage, Incomplete
from peerstore.files.head import head_item
from peerstore.files.manifest import Manifest
from peerstore.files.names import folder_id, resource_id
from peerstore.gateway.gateway import Gateway
from peerstore.interfaces import IBlockingRunner
from peerstore.items import Item, ItemKey, Kind
from peerstore.transactions.chain import Log, LoggedEntry
from peerstore.transactions.entry import NameRecord, Operation, OperationKind, decode_entry, pack_name
from peerstore.transactions.view import FolderView, PathVersion
from peerstore.util.lamport import LamportClock
from peerstore.vectors import Vector

__all__ = ["Change", "Client", "UserKey", "require_complete"]

#: Entries read from the log at a time.
PAGE = 256

_logger = Logger()


class UserKey(Protocol):
    """What the client needs of a key pair."""

    spki: bytes
    id: bytes

    def root_secret(self) -> bytes:
        """32 bytes that follow from the private key."""
        ...


class Change(NamedTuple):
    """One new version, ready to be published: its head, its operation for
    the log, and the version as the log will show it."""

    head: Item
    operation: Operation
    version: PathVersion


class Client:
    """One user's device.

    :param gateway: the ring.
    :param key: the user's key.
    :param state: what the device remembers; opened and closed by us.
    :param lock: taken while open; None when the caller holds it.
    :param runner: threads for reading, hashing and writing files.
    :param database: a runner of one thread, for *state*.
    :param entropy: gives random bytes.
    :param wall_ns: the time of day in ns, shown to people only.
    :param pause: a Deferred that fires so many seconds later.
    :param writing: whether it may write.  A reader needs no lock, and shows
        what the ring has: nothing of ours that is still to be sent.
    """

    def __init__(
        self,
        gateway: Gateway,
        key: UserKey,
        state: ClientState,
        lock: HomeLock | None,
        runner: IBlockingRunner,
        database: IBlockingRunner,
        entropy: Callable[[int], bytes],
        wall_ns: Callable[[], int],
        pause: Callable[[float], Deferred[None]] = lambda _: succeed(None),
        writing: bool = True,
    ) -> None:
        self.gateway = gateway
        self.owner = key.id
        self.state = state
        self.runner = runner
        self.database = database
        self.wall_ns = wall_ns
        self.lamport = LamportClock()
        self.device = b""
        self.log = Log()
        self.view = FolderView()
        self.log_id = ids.log_ring_id(key.spki)
        #: {device: (the last entry that was certain, the last that the ring has)}
        #: where the ring has fewer, as the last complete read showed.
        self.lacking: dict[bytes, tuple[int, int]] = {}
        #: Whether the ring has all that this device stored in it.
        self.known_there = True
        #: Entries that the ring had lost and was given again.
        self.healed = 0
        self._secrets = UserSecrets.from_root(key.root_secret())
        self._lock = lock
        self._held = False
        self._entropy = entropy
        self._writing = writing
        self.uploader = Uploader(
            gateway, self.owner, self._secrets.chunker_seed, state, runner, database, self.lamport.tick, pause
        )
        self.downloader = Downloader(gateway, self.owner, runner)
        self.publisher = Publisher(self)

    # -- life --------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        """Lock the home and load what the device remembers."""
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> None:
        if self._lock is not None and not self._held:
            self._lock.take()
        await self.database.run(self.state.open)
        device: bytes | None = await self.database.run(self.state.meta, "device")
        if device is None:
            device = self._entropy(16)
            if self._writing:
                await self.database.run(self.state.keep_meta, "device", device)
        self.device = device
        stored = await self.database.run(self.state.entries)
        if self._writing:
            stored += [(leaf, text) for _, leaf, text, _ in await self.database.run(self.state.pending)]
        try:
            for leaf, statement in stored:
                self._take(LoggedEntry(leaf, decode_entry(statement)))
        except BadMessage as error:
            raise self.state.damaged() from error

    def hold(self, lock: HomeLock) -> None:
        """Take over a lock that is held already; closing releases it."""
        self._lock = lock
        self._held = True

    def close(self) -> Deferred[None]:
        """Let go of state and lock."""

        def closed(result: Any) -> Any:
            if self._lock is not None:
                self._lock.release()
            return result

        closing: Deferred[None] = self.database.run(self.state.close)
        return closing.addBoth(closed)

    # -- the log -----------------------------------------------------------------

    def refresh(self, anew: bool = False) -> Deferred[bool]:
        """Read what is new in the log into ``view``.

        If we may write, also sends what an earlier run could not make certain,
        and gives the ring again what it has lost of other devices' entries.
        Fails with Incomplete when it has lost ours: then contents are lost,
        too, and what is unchanged here would be taken for stored there.

        :param anew: go on with such a ring, and give it our entries again;
            whoever asks for that must store the contents again.
        :return: a Deferred of whether the read was complete: false means that
            too few nodes answered, and newer entries may be missing.
        """
        return Deferred.fromCoroutine(self._refresh(anew))

    async def _refresh(self, anew: bool) -> bool:
        complete = True
        more = True
        while more:
            certain = await self._certain()
            read = await self.gateway.read_log(self.log_id, self.owner, dict(self.log.heads()), PAGE)
            complete = complete and read.complete
            if read.complete:
                ends = {device: (number, read.heads.get(device, 0)) for device, number in certain.items()}
                self.lacking = {device: (number, there) for device, (number, there) in ends.items() if there < number}
                self.known_there = self.device not in self.lacking and bool(read.heads or not self.lacking)
            took = await self.take_entries(read.items)
            more = read.more and took > 0
        if self._writing:
            if not (self.known_there or anew):
                raise Incomplete(
                    "The ring does not have what this computer stored in it: it is another ring, or has lost it.",
                    "Check --peer. To store everything in this ring: peerstore backup DIR --anew",
                )
            if self.lacking:
                await self._heal()
            await self.publisher.flush()
        return complete

    async def _certain(self) -> dict[bytes, int]:
        """{device: the number of its last entry that was in the ring}."""
        numbers = dict(self.log.heads())
        pending = await self.database.run(self.state.pending) if self._writing else []
        if pending:
            numbers[self.device] = pending[0][0] - 1
        return numbers

    async def _heal(self) -> None:
        """Give the ring those entries of our log again that it lacks.

        :raises peerstore.errors.Incomplete: when it does not take them.
        """
        lost: list[tuple[bytes, int, Item]] = []
        for leaf, statement in await self.database.run(self.state.entries):
            entry = decode_entry(statement)
            have, there = self.lacking.get(entry.device, (0, 0))
            if there < entry.number <= have:
                item = Item(ItemKey(self.log_id, self.owner, Kind.LOG, leaf), statement, b"")
                lost.append((entry.device, entry.number, item))
        items = [item for _, _, item in sorted(lost, key=lambda one: one[:2])]
        for at in range(0, len(items), PAGE):
            check_outcomes(await self.gateway.append(items[at : at + PAGE]))
        self.lacking, self.known_there = {}, True
        self.healed += len(items)

    async def somebody_answers(self) -> bool:
        """Whether any node that should know our log can be asked right now."""
        read = await self.gateway.read_log(self.log_id, self.owner, {}, 0, 0.0)
        return bool(read.complete or read.heads)

    async def take_entries(self, items: Sequence[Item]) -> int:
        """Entries that came from the ring, into our copy; how many were new."""
        new = self.log.add_items(items)
        for logged in new:
            self._see(logged)
        if new:
            leaves = {logged.leaf for logged in new}
            kept = [(item.key.element, item.statement) for item in items if item.key.element in leaves]
            await self.database.run(self.state.add_entries, kept)
        return len(new)

    def watch(self, wait: float = 60.0) -> Deferred[int]:
        """Wait for news in the log; a Deferred of how many entries came."""
        return Deferred.fromCoroutine(self._watch(wait))

    async def _watch(self, wait: float) -> int:
        read = await self.gateway.watch_log(self.log_id, self.owner, dict(self.log.heads()), PAGE, wait)
        return await self.take_entries(read.items)

    # -- writing -----------------------------------------------------------------

    def upload(
        self, root: bytes, found: Found, progress: Callable[[int], None], pauses: Sequence[float] = ()
    ) -> Deferred[Uploaded]:
        """Make the content at a local path certain; see ``Uploader.upload``."""
        return Deferred.fromCoroutine(self.uploader.upload(root, found, progress, pauses))

    async def change(self, folder: str, path: bytes, uploaded: Uploaded, based_on: Sequence[Vector]) -> Change:
        """A new version of a path from content that is certain.

        :param based_on: vectors of the versions that its bytes were derived
            from, and of no others: what is not named stays beside it.
        """
        manifest = uploaded.manifest
        name = NameRecord(
            folder, path, int(manifest.kind), manifest.size, manifest.mtime_ns, manifest.mode, manifest.sha256
        )
        return await self._change(OperationKind.UPDATE, name, uploaded.blob, based_on)

    async def store(self, folder: str, path: bytes, manifest: Manifest, based_on: Sequence[Vector]) -> Change:
        """A new version of a path from a manifest whose chunks are certain."""
        uploaded = await self.uploader.store(manifest)
        return await self.change(folder, path, uploaded, based_on)

    async def again(self, folder: str, path: bytes, version: PathVersion, based_on: Sequence[Vector]) -> Change:
        """A new version of a path with the content of another version, here
        or elsewhere; no content is moved.

        :raises peerstore.errors.PeerStoreError: when that version's head
            cannot be had.
        """
        fetched = await self.downloader.manifest(version)
        return await self.store(folder, path, fetched.manifest, based_on)

    async def deletion(self, folder: str, path: bytes, based_on: Sequence[Vector]) -> Change:
        """A tombstone for a path, covering the versions in *based_on*."""
        name = NameRecord(folder, path, 0, 0, 0, 0, b"")
        return await self._change(OperationKind.DELETE, name, None, based_on)

    def publish(self, changes: Sequence[Change], agreed: Sequence[Agreement] = (), root: bytes = b"") -> Deferred[None]:
        """Make versions certain, then log them; fails with Incomplete, and
        then the next run sends the rest.

        :param agreed: what the changes make true of local paths, kept in the
            same moment in which they become part of our log.
        :param root: the local root of those paths; see ``ClientState.agreed``.
        """
        return Deferred.fromCoroutine(self.publisher.publish(changes, agreed, root))

    # -- reading -----------------------------------------------------------------

    def manifest(self, version: PathVersion) -> Deferred[Fetched]:
        """The head and manifest of a version."""
        return Deferred.fromCoroutine(self.downloader.manifest(version))

    async def is_stored(self, version: PathVersion) -> bool:
        """Whether the ring has the head that a version is, to our knowledge."""
        read = await self.gateway.get_heads(version.resource, self.owner, (version.version,))
        return any(item.key.element == version.version for item in read.items)

    def content(
        self,
        fetched: Fetched,
        write: Callable[[bytes], Any],
        progress: Callable[[int], None] = lambda _: None,
        done: int = 0,
        whole: Any = None,
    ) -> Deferred[None]:
        """A version's bytes, in order, to a blocking *write*; see
        ``Downloader.content``."""
        return Deferred.fromCoroutine(self.downloader.content(fetched.manifest, write, progress, done, whole))

    def history(self, folder: str, path: bytes) -> list[PathVersion]:
        """All versions that our copy of the log has of a path, in its order,
        also those that others replaced."""
        resource = self.resource(folder, path)
        told = []
        for logged in self.log.ordered():
            if any(operation.resource == resource for operation in logged.entry.operations):
                told += [version for version in FolderView().add(logged) if version.resource == resource]
        return told

    def resource(self, folder: str, path: bytes) -> bytes:
        """The 20-byte id of a path."""
        return resource_id(self._secrets.name, folder_id(self._secrets.name, folder), path)

    # -- inside ----------------------------------------------------------------

    async def _change(
        self, kind: OperationKind, name: NameRecord, blob: bytes | None, based_on: Sequence[Vector]
    ) -> Change:
        counter: int = await self.database.run(self.state.next_counter)
        vector = vectors.advance(vectors.join(based_on), self.device, counter)
        resource = self.resource(name.folder, name.path)
        clock, wall = self.lamport.tick(), self.wall_ns()
        head = head_item(self.owner, resource, vector, clock, self.device, wall, blob)
        operation = Operation(kind, resource, head.key.element, vector, clock, pack_name(name))
        version = PathVersion(resource, head.key.element, vector, name, clock, self.device, wall)
        return Change(head, operation, version)

    def _take(self, logged: LoggedEntry) -> None:
        if self.log.add(logged):
            self._see(logged)

    def _see(self, logged: LoggedEntry) -> None:
        unread = self.view.unread
        self.view.add(logged)
        self.lamport.witness(logged.entry.clock)
        if self.view.unread > unread:
            _logger.warn(
                "an entry of {device} tells of what this version cannot read; that is left out",
                device=ids.short(logged.entry.device),
            )


def require_complete(complete: bool) -> None:
    """Refuse to act on a log that may be behind.

    :raises peerstore.errors.Incomplete: when it may.
    """
    if not complete:
        raise Incomplete(
            "Too few nodes answered to know the newest state.", "Start the nodes that are down, then try again."
        )
