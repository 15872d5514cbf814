"""The seams: what each layer asks of the one beneath it.

Clock, randomness, network, disk and threads come in as constructor arguments
that provide these interfaces (the clock is Twisted's ``IReactorTime``), so
that the simulator runs the shipped code.
"""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface

__all__ = [
    "IBlockingRunner",
    "IChunkStore",
    "IDispatcher",
    "IHeadStore",
    "IItemStore",
    "ILogStore",
    "INetwork",
    "INodeStore",
    "IPeerPool",
    "IRecordStore",
    "IRemotePeer",
]


class INetwork(Interface):
    """Where connections come from: real endpoints, or the simulator's."""

    def listen(address: str, factory: Any) -> Any:
        """Listen at an endpoint description with a Twisted server *factory*.

        :return: a Deferred of an ``IListeningPort``.
        """

    def connect(address: str, factory: Any) -> Any:
        """Connect a Twisted client *factory* to an endpoint description.

        :return: a Deferred of the connected protocol.
        """

    def client_address(listening_port: Any, listen_address: str) -> str:
        """The endpoint at which others reach what *listen* returned, by
        default (port 0 replaced by the real one)."""


class IBlockingRunner(Interface):
    """A bounded pool of threads for work that must not block the reactor."""

    def run(function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call *function* in a thread; a Deferred of its result."""

    def start() -> None:
        """Start the threads; not before the daemon has forked."""

    def stop() -> Any:
        """Finish what was begun; a Deferred that fires when threads ended."""


class IRemotePeer(Interface):
    """One host, connected: what the other end of a connection looks like."""

    fp = Attribute("its 32-byte fingerprint")
    greeting = Attribute("its wire.session.Greeting")
    address = Attribute("the endpoint it was dialled at, or it advertises; may be empty")

    def call(method: str, body: Any, timeout: float | None = None) -> Any:
        """Ask; a Deferred of the method's response body.

        Fails with a RemoteError for a status other than OK, PeerTimeout,
        ConnectionLost.
        """


class IPeerPool(Interface):
    """Kept connections: at most one per peer, dialled when first needed."""

    def call(address: str, method: str, body: Any, timeout: float | None = None, fp: bytes | None = None) -> Any:
        """Ask the peer at *address*; with *fp*, only the host with that key.

        :param timeout: seconds from when the peer is connected; dialling has
            a time of its own.
        :return: a Deferred of the response body; fails with a PeerError or a
            RemoteError.
        """

    def peer(address: str, fp: bytes | None = None) -> Any:
        """A Deferred of the connected IRemotePeer."""

    def drop(address: str) -> None:
        """Close the connection to *address*; the next call dials anew."""

    def forget_backoff(address: str) -> None:
        """Let the next call to *address* dial at once."""

    def watch_losses(callback: Any) -> None:
        """*callback(fp)* whenever an established connection to a peer ends,
        unless we closed it ourselves (dropped, idle, stopped)."""

    def stop() -> Any:
        """Close everything; a Deferred that fires when closed."""


class IDispatcher(Interface):
    """What answers requests that come in."""

    def dispatch(caller: Any, method: str, body: bytes) -> Any:
        """Answer one request; a Deferred of the packed response body.

        *caller* is the ``wire.session.Greeting`` of the asker.  Fails with
        errors that ``wire.messages.status_for`` turns into a status.
        """


class IItemStore(Interface):
    """A set of items of one kind.  All methods return Deferreds."""

    def put(items: Any) -> Any:
        """Keep these items: durable when the Deferred fires.

        :return: Deferred of a list of bool, true where the item was new.
        """

    def have(keys: Any) -> Any:
        """Deferred of a list of bool, one for each ItemKey."""

    def get(keys: Any) -> Any:
        """Deferred of a list of Item or None, one for each ItemKey.

        An item whose bytes are not what was put is quarantined and None.
        """

    def remove(keys: Any) -> Any:
        """Forget these keys, durably; a Deferred of how many there were."""


class IChunkStore(IItemStore):
    """Chunks: found by hash alone, since any one copy will do."""

    def find(hashes: Any) -> Any:
        """Deferred of a list of Item or None, one per 32-byte hash,
        whichever owner's copy there is."""


class IHeadStore(IItemStore):
    """Heads: every version of a resource."""

    def heads_of(ring_id: bytes, owner: bytes) -> Any:
        """Deferred of the list of head Items of one resource of one owner."""


class ILogStore(IItemStore):
    """Log entries, in chains per device."""

    def read_since(ring_id: bytes, owner: bytes, seen: Any, limit: int) -> Any:
        """Entries of a log after the numbers in *seen* ({device: number}).

        :return: Deferred of (list of Item in (device, number) order, more).
        """

    def chain_heads(ring_id: bytes, owner: bytes) -> Any:
        """Deferred of {device: last number}."""


class IRecordStore(IItemStore):
    """Records of nodes and users."""

    def records_of(ring_id: bytes) -> Any:
        """Deferred of the list of record Items at one ring id."""


class INodeStore(Interface):
    """Everything that a storage node keeps on its disk."""

    chunks = Attribute("IChunkStore")
    heads = Attribute("IHeadStore")
    logs = Attribute("ILogStore")
    records = Attribute("IRecordStore")
    doubts = Attribute("storage.doubts.Doubts: places of which something was lost here")

    def start() -> Any:
        """Open it; a Deferred.  Fails with NewerSchema, ReadOnly, DiskFull,
        CorruptData or UsageError (locked by another process)."""

    def stop() -> Any:
        """Write what waits and close; a Deferred."""

    def setting(name: str) -> Any:
        """Deferred of the bytes kept under *name*, or None."""

    def keep_setting(name: str, value: bytes) -> Any:
        """Keep bytes under *name*; durable when the Deferred fires."""

    def put(items: Any) -> Any:
        """Like IItemStore.put, for items of any kinds in one transaction."""

    def have(keys: Any) -> Any:
        """Like IItemStore.have, for keys of any kinds."""

    def get(keys: Any) -> Any:
        """Like IItemStore.get, for keys of any kinds."""

    def remove(keys: Any) -> Any:
        """Like IItemStore.remove, for keys of any kinds."""

    def range_digest(after: bytes, through: bytes, kinds: Any) -> Any:
        """Deferred of (count, SHA-256 over the sorted packed keys) of
        (after, through]; equal ends are the whole circle."""

    def range_list(after: bytes, through: bytes, kinds: Any, cursor: Any, limit: int) -> Any:
        """Deferred of (keys clockwise from *after*, next cursor or None)."""

    def usage(owner: bytes) -> Any:
        """Deferred of (bytes, items) that count towards an owner's quota."""

    def total() -> Any:
        """Deferred of the bytes of all owners."""

    def scrub(after: Any, budget: int) -> Any:
        """Look for rot in about *budget* bytes behind the key *after* (None:
        from the beginning).  What is rotten is moved aside, and noted as lost.

        :return: Deferred of storage.scrub.Scrubbed.
        """

    def check() -> Any:
        """Look at what is made from items (indexes), and mend what can be; a
        Deferred of what cannot, in words, with the safe next step."""

    def lost(limit: int, skip: int = 0) -> Any:
        """Deferred of at most so many ItemKeys that were here, rotted, and
        have not been put again, in a fixed order, without the first *skip*."""

    def give_up(keys: Any) -> Any:
        """Nobody has these any more: they are lost no longer, but gone."""
