"""A client put together for a real network, from a home folder."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from peerstore.client.client import Client
from peerstore.client.lock import HomeLock
from peerstore.client.state import ClientState
from peerstore.crypto.keys import KeyPair
from peerstore.errors import PeerError, PeerUnreachable, ProtocolViolation, RemoteError
from peerstore.gateway.gateway import Gateway
from peerstore.interfaces import IPeerPool
from peerstore.net.limits import Limits
from peerstore.net.network import EndpointNetwork
from peerstore.net.pool import PeerPool
from peerstore.ring.hosts import HostTable
from peerstore.ring.lookup import LookupClient, resolve_all
from peerstore.util.blocking import ThreadRunner
from peerstore.util.lamport import LamportClock
from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

__all__ = ["OpenClient", "open_client", "state_file"]

THREADS = 4
#: Seconds that a node has while there are others to try.
QUICKLY = 2.0
#: A person waits: whoever does not greet within this time (s) is passed by.
LIMITS = Limits(connect_timeout=5.0, greeting_timeout=5.0)


class OpenClient(NamedTuple):
    """A client at work, with what has to be stopped after it."""

    client: Client
    pool: PeerPool
    hosts: HostTable
    runner: ThreadRunner
    database: ThreadRunner
    clock: Any

    def close(self) -> Deferred[Any]:
        """Close state, connections and threads."""

        def stopped(result: Any) -> Any:
            done = gatherResults([self.pool.stop(), self.runner.stop(), self.database.stop()])
            return done.addCallback(lambda _: result)

        return self.client.close().addBoth(stopped)


def state_file(home: Path, key: KeyPair) -> Path:
    """Where a device keeps its state: what one user agreed on is not what
    another did, so there is one for each key."""
    return home / f"state-{key.fp.hex()[:16]}.sqlite"


async def open_client(
    reactor: Any,
    home: Path,
    key_path: Path | None,
    peers: Sequence[str],
    patience: float = 30.0,
    writing: bool = True,
    on_wait: Callable[[], None] = lambda: None,
) -> OpenClient:
    """Open the device in *home*; its key is made when there is none.

    :param peers: endpoint descriptions of nodes; one that answers is enough.
    :param writing: take the home's lock; a reader may come beside a writer.
    :param on_wait: called once when a read has to wait for more nodes.
    :raises peerstore.errors.PeerUnreachable: when none does.
    :raises peerstore.errors.PeerStoreError: for key, home or state.
    """
    runner = ThreadRunner(reactor, THREADS, "peerstore-work")
    database = ThreadRunner(reactor, 1, "peerstore-state")
    runner.start()
    database.start()
    lock = HomeLock(home)
    pool: PeerPool | None = None
    client: Client | None = None
    try:
        if writing:
            lock.take()
        else:
            lock.make_home()
        public = home / "publickey.pem" if key_path is None else None
        key: KeyPair = await runner.run(KeyPair.load_or_create, key_path or home / "key.pem", public)

        def greet() -> Greeting:
            return Greeting((VERSION,), (SUITE_CLEAR,), key.spki, "user", 0, 0, "", 0, os.urandom(32))

        rng = random.Random(os.urandom(16))
        pool = PeerPool(EndpointNetwork(reactor), reactor, rng, greet, None, LamportClock(), LIMITS)
        hosts = HostTable(reactor)
        await _meet_somebody(reactor, pool, hosts, peers)
        lookup = LookupClient(pool, hosts, reactor, lambda: list(peers))
        gateway = Gateway(pool, hosts, lookup, reactor, rng, patience=patience, runner=runner, on_wait=on_wait)
        state = ClientState(state_file(home, key))
        client = Client(
            gateway,
            key,
            state,
            None,
            runner,
            database,
            os.urandom,
            time.time_ns,
            lambda seconds: deferLater(reactor, seconds),
            writing,
        )
        client.hold(lock)
        await client.open()
    except BaseException:
        if client is not None:
            await client.close()
        lock.release()
        if pool is not None:
            await pool.stop()
        await runner.stop()
        await database.stop()
        raise
    return OpenClient(client, pool, hosts, runner, database, reactor)


async def _meet_somebody(clock: IReactorTime, pool: IPeerPool, hosts: HostTable, peers: Sequence[str]) -> None:
    """Learn the ring's hosts from the first peer that answers.

    One that hangs does not hold up the others for long: it is waited for,
    together with others that do, when nobody answers quickly.
    """
    reasons: dict[str, str] = {}
    slow: list[str] = []
    for address in peers[:-1]:
        try:
            await Deferred.fromCoroutine(resolve_all(pool, hosts, address)).addTimeout(QUICKLY, clock)
            return
        except DeferredTimeout:
            slow.append(address)
        except (PeerError, RemoteError) as error:
            reasons[address] = _why_not(address, error)
    slow += peers[-1:]
    asking = [Deferred.fromCoroutine(resolve_all(pool, hosts, address)) for address in slow]
    ended: Any = await DeferredList(asking, fireOnOneCallback=True, consumeErrors=True)
    for one in asking:
        one.cancel()
    if isinstance(ended, tuple):
        return
    for address, (_, failure) in zip(slow, ended, strict=True):
        failure.trap(PeerError, RemoteError)
        reasons[address] = _why_not(address, failure.value)
    what = reasons[peers[0]] if peers else "No node's address is known."
    if len(peers) > 1:
        what = f"None of these answers as a node: {', '.join(peers)}. {what}"
    raise PeerUnreachable(what, "Check that a node runs there, or name another with --peer HOST:PORT.")


def _why_not(address: str, error: PeerError | RemoteError) -> str:
    if isinstance(error, ProtocolViolation | RemoteError):
        return f"What answers at {address} is no PeerStore node ({error.what.rstrip('.')})."
    return error.what
