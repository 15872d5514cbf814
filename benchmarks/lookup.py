"""Lookups and gets of 100 bytes per second, beside the ``kademlia`` package.

Both sides run the same way: all nodes in one process, the asker in another,
over loopback; ours on TCP, theirs on UDP, as each ships.  Values are in
memory on both sides (a second column keeps ours on disk, as ``twistd`` does).
The two take turns, so that both meet the same machine; both are asked what is
measured for a while before it is, with the same number in flight, and what is
counted is what was done when time was over.

What is done is not the same, and this is the difference: our lookup ends with
the owner's own word that the key is in its range, and a get hashes what came;
theirs is a crawl to the k nearest nodes (20 as it ships, and 3 in a column of
its own, since we keep three copies), a get takes the first value that a node
returns, and nothing is checked.  Nobody is authenticated on either side in
this version.

Theirs lose questions where many come at a time, and wait five seconds for
each: their sockets have larger buffers here than they ask for, and what was
lost all the same is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SYSTEMS = {
    "memory": "PeerStore, in memory",
    "disk": "PeerStore, on disk",
    "kademlia": "kademlia",
    "kademlia-3": "kademlia, k = 3",
}
#: Copies that each keeps of a value, and nodes that a lookup of theirs is to find.
THEIR_COPIES = {"kademlia": 20, "kademlia-3": 3}
VALUE = 100
#: In flight at a time: one, a few, many.
LANES = (1, 8, 32)
#: Of the time that is measured: before it, the same questions are asked uncounted.
WARM = 0.3
#: Bytes that a UDP socket of theirs may have waiting, where Linux allows it.
BUFFER = 4 * 1024 * 1024
#: Not a rate: theirs drop what finds a full buffer, and wait five seconds.
UNANSWERED = "questions of the asker without an answer"
#: Nobody's key: both sides store values of the benchmark alone.
OWNER = bytes(20)

#: Asks once; the number is for the choice of a key.
Once = Callable[[int], Awaitable[Any]]
#: Waits for all of them.
Together = Callable[[list[Coroutine[Any, Any, None]]], Awaitable[Any]]


def spki_of(number: int) -> bytes:
    """What stands for a key; nothing is signed here."""
    return random.Random(f"node {number}").randbytes(422)


# -- our side --------------------------------------------------------------------


def serve_peerstore(count: int, positions: int, on_disk: bool) -> None:
    """*count* nodes in this process, until standard input ends."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred
    from twisted.internet.stdio import StandardIO
    from twisted.internet.task import LoopingCall, deferLater

    from peerstore.net.network import EndpointNetwork
    from peerstore.node.config import NodeConfig
    from peerstore.node.service import NodeService
    from peerstore.ring.host import MEMBER
    from peerstore.storage.memory_store import MemoryDisk, MemoryNodeStore
    from peerstore.storage.sqlite_store import SqliteNodeStore
    from peerstore.util.blocking import InlineRunner, ThreadRunner

    reactor: Any = installed
    place = Path(tempfile.mkdtemp(prefix="peerstore-lookup-")) if on_disk else None
    nodes: list[Any] = []

    def store_of(number: int) -> Any:
        if place is None:
            return MemoryNodeStore(MemoryDisk())
        folder = place / str(number)
        folder.mkdir()
        return SqliteNodeStore(folder, reactor)

    async def start() -> None:
        for number in range(count):
            join = (nodes[0].address,) if nodes else ()
            node = NodeService(
                NodeConfig("tcp:0:interface=127.0.0.1", join, virtual_nodes=positions),
                spki_of(number),
                store_of(number),
                EndpointNetwork(reactor),
                reactor,
                random.Random(number),
                os.urandom,
                ThreadRunner(reactor, 2, f"node {number}") if on_disk else InlineRunner(),
            )
            nodes.append(node)
            await node.start()
            # All at once would be many attempts to join a ring that is not there.
            while node.ring.status != MEMBER:
                await deferLater(reactor, 0.02)
        watch.start(0.25)

    def ready() -> None:
        wanted = count * positions
        standing = sorted(
            (place for node in nodes for place in node.ring.positions if place.is_member), key=lambda place: place.id
        )
        if len(standing) < wanted or any(len(node.hosts) < count for node in nodes):
            return
        for at, position in enumerate(standing):
            size = min(position.state.size, wanted - 1)
            ahead = [standing[(at + step) % wanted].id for step in range(1, size + 1)]
            before = position.state.told_predecessor
            if [entry.id for entry in position.successors] != ahead or before is None:
                return
            if before.id != standing[at - 1].id:
                return
        watch.stop()
        print(json.dumps([node.address for node in nodes]), flush=True)

    watch = LoopingCall(ready)
    StandardIO(_until_closed(lambda: reactor.stop() if reactor.running else None))
    Deferred.fromCoroutine(start()).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
    if place is not None:
        import shutil

        shutil.rmtree(place, ignore_errors=True)
    # The nodes were not stopped one by one, and their threads wait for work.
    sys.stdout.flush()
    os._exit(0)


def _until_closed(stop: Callable[[], None]) -> Any:
    from twisted.internet.protocol import Protocol

    class UntilClosed(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            stop()

    return UntilClosed()


def drive_peerstore(addresses: Sequence[str], values: int, seconds: float) -> None:
    """Ask the nodes at *addresses*, and print what came of it."""
    from twisted.internet import reactor as installed
    from twisted.internet.defer import Deferred, gatherResults

    reactor: Any = installed

    async def work() -> dict[str, float]:
        lookup, gateway, meet, clear = _our_client(reactor, addresses)
        await meet()
        items = _our_items(values)
        outcomes = await gateway.put_chunks(items)
        assert all(outcome.certain for outcome in outcomes), "a value was not stored"
        # Whoever asks for long has a connection to everybody.
        for key in range(0, 1 << 160, 1 << 152):
            await lookup.lookup(key)

        async def look_up(number: int) -> None:
            await lookup.lookup(random.getrandbits(160))

        async def get(number: int) -> None:
            item = items[number % values]
            found = await gateway.get_chunks([item.key.element])
            assert found[item.key.element].data == item.data

        async def look_up_and_get(number: int) -> None:
            clear()
            await get(number)

        kinds = {"lookups": look_up, "gets with a lookup each": look_up_and_get, "gets": get}
        return await _rates(kinds, seconds, lambda jobs: gatherResults([Deferred.fromCoroutine(job) for job in jobs]))

    def over(result: Any) -> None:
        if isinstance(result, dict):
            print(json.dumps(result), flush=True)
        else:
            result.printTraceback()
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(work()).addBoth(over))
    reactor.run()


def _our_client(
    reactor: Any, addresses: Sequence[str]
) -> tuple[Any, Any, Callable[[], Awaitable[None]], Callable[[], None]]:
    """(lookups, the gateway, to meet the ring, to forget what ranges it told)."""
    from peerstore.gateway.gateway import Gateway
    from peerstore.net.network import EndpointNetwork
    from peerstore.net.pool import PeerPool
    from peerstore.ring.hosts import HostTable
    from peerstore.ring.lookup import LookupClient, resolve_all
    from peerstore.util.lamport import LamportClock
    from peerstore.wire.session import SUITE_CLEAR, VERSION, Greeting

    spki, rng = spki_of(-1), random.Random(1)

    def greet() -> Greeting:
        return Greeting((VERSION,), (SUITE_CLEAR,), spki, "user", 0, 0, "", 0, os.urandom(32))

    pool = PeerPool(EndpointNetwork(reactor), reactor, rng, greet, None, LamportClock())
    hosts = HostTable(reactor)
    lookup = LookupClient(pool, hosts, reactor, lambda: list(addresses[:4]))
    gateway = Gateway(pool, hosts, lookup, reactor, rng)

    async def meet() -> None:
        # As the client does that ships.
        for address in addresses[:4]:
            await resolve_all(pool, hosts, address)

    def clear() -> None:
        gateway.locator._ends.clear()
        gateway.locator._routes.clear()

    return lookup, gateway, meet, clear


def _our_items(count: int) -> list[Any]:
    import hashlib

    from peerstore.files.chunk import SealedChunk, chunk_item

    rng = random.Random(7)
    contents = [rng.randbytes(VALUE) for _ in range(count)]
    return [
        chunk_item(OWNER, SealedChunk(hashlib.sha256(data).digest(), bytes(32), VALUE, data), 1) for data in contents
    ]


# -- theirs ----------------------------------------------------------------------


def their_server(copies: int) -> Any:
    """A node of theirs that is yet to listen; its protocol counts questions
    to which no answer came."""
    import logging

    from kademlia.network import Server
    from kademlia.protocol import KademliaProtocol

    class Counting(KademliaProtocol):  # type: ignore[misc]
        unanswered = 0

        def _timeout(self, msg_id: bytes) -> None:
            self.unanswered += 1
            super()._timeout(msg_id)

    class Counted(Server):  # type: ignore[misc]
        protocol_class = Counting

    # It tells of each question that was lost, on standard error.
    logging.disable(logging.CRITICAL)
    return Counted(ksize=copies)


async def their_listen(server: Any) -> int:
    """Listen, with room for what many ask at once; the port."""
    await server.listen(0, "127.0.0.1")
    sock = server.transport.get_extra_info("socket")
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return int(sock.getsockname()[1])


def serve_kademlia(count: int, copies: int) -> None:
    """*count* nodes in this process, until standard input ends."""

    async def work() -> None:
        nodes: list[Any] = []
        ports: list[int] = []
        for _ in range(count):
            node = their_server(copies)
            ports.append(await their_listen(node))
            if nodes:
                await node.bootstrap([("127.0.0.1", ports[0])])
            nodes.append(node)
        # Those that came first have met few; once more, and all know many.
        for node in nodes:
            await node.bootstrap([("127.0.0.1", port) for port in random.sample(ports, min(3, count))])
        print(json.dumps([str(port) for port in ports]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for node in nodes:
            node.stop()

    asyncio.run(work())


def drive_kademlia(addresses: Sequence[str], values: int, seconds: float, copies: int) -> None:
    """One more node, which asks, and prints what came of it."""
    from kademlia.crawling import NodeSpiderCrawl
    from kademlia.node import Node
    from kademlia.utils import digest

    async def work() -> dict[str, float]:
        server = their_server(copies)
        await their_listen(server)

        async def meet() -> None:
            """Whoever did not answer once is no longer in its table."""
            await server.bootstrap([("127.0.0.1", int(port)) for port in addresses])

        await meet()
        rng = random.Random(7)
        stored: dict[str, bytes] = {}
        number = 0
        # It is near enough to most keys to keep a copy; those would be no gets.
        while len(stored) < values:
            name, value = f"value {number}", rng.randbytes(VALUE)
            assert await server.set(name, value), "a value was not stored"
            if server.storage.get(digest(name)) is None:
                stored[name] = value
            number += 1
        names = list(stored)

        async def look_up(number: int) -> None:
            node = Node(random.randbytes(20))
            near = server.protocol.router.find_neighbors(node)
            await NodeSpiderCrawl(server.protocol, node, near, server.ksize, server.alpha).find()

        async def get(number: int) -> None:
            name = names[number % values]
            assert await server.get(name) == stored[name]

        kinds = {"lookups": look_up, "gets with a lookup each": get}
        found = await _rates(kinds, seconds, lambda jobs: asyncio.gather(*jobs), meet)
        found[UNANSWERED] = server.protocol.unanswered
        server.stop()
        return found

    print(json.dumps(asyncio.run(work())), flush=True)


# -- both ------------------------------------------------------------------------


async def _rates(
    kinds: Mapping[str, Once], seconds: float, together: Together, between: Callable[[], Awaitable[Any]] | None = None
) -> dict[str, float]:
    """How many of each kind are done in a second, with each number in flight.

    :param together: waits for all lanes, in the way of either event loop.
    :param between: done before each kind.
    """
    found: dict[str, float] = {}
    for kind, once in kinds.items():
        for lanes in LANES:
            if between is not None:
                await between()
            await _rate(once, seconds * WARM, lanes, together)
            found[f"{kind}, {lanes} at a time"] = await _rate(once, seconds, lanes, together)
    return found


async def _rate(once: Once, seconds: float, lanes: int, together: Together) -> float:
    """How often a second *once* is done, in so many lanes at a time: what is
    done when time is over counts, and no more."""
    done, end = [0], time.monotonic() + seconds

    async def lane(number: int) -> None:
        while time.monotonic() < end:
            await once(number)
            number += lanes
            done[0] += time.monotonic() <= end

    await together([lane(number) for number in range(lanes)])
    return done[0] / seconds


def program(*words: str) -> list[str]:
    """This program, with other arguments."""
    return [sys.executable, str(Path(__file__).resolve()), *words]


def measure(system: str, nodes: int, positions: int, values: int, seconds: float) -> dict[str, float]:
    """One ring of one system, from its start to its end."""
    serving = subprocess.Popen(
        program("--serve", system, "--nodes", str(nodes), "--positions", str(positions)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert serving.stdin is not None and serving.stdout is not None
    try:
        addresses = json.loads(serving.stdout.readline() or "[]")
        if not addresses:
            raise SystemExit(f"the nodes of {system} did not start")
        words = ("--drive", system, "--values", str(values), "--seconds", str(seconds), *addresses)
        driving = subprocess.run(program(*words), stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, float] = json.loads(driving.stdout)
        return found
    finally:
        serving.stdin.close()
        serving.wait(30)


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--positions", type=int, default=1, help="of each of our nodes; theirs have one place each")
    parser.add_argument("--values", type=int, default=200, help="values of 100 bytes that are stored")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of question")
    parser.add_argument("--runs", type=int, default=3, help="turns; medians are printed")
    parser.add_argument("--quick", action="store_true", help="one short turn")
    parser.add_argument("--only", help="systems, with commas between them")
    parser.add_argument("--serve", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("--drive", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    parser.add_argument("addresses", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        if options.serve in THEIR_COPIES:
            serve_kademlia(options.nodes, THEIR_COPIES[options.serve])
        else:
            serve_peerstore(options.nodes, options.positions, options.serve == "disk")
        return
    if options.drive:
        if options.drive in THEIR_COPIES:
            drive_kademlia(options.addresses, options.values, options.seconds, THEIR_COPIES[options.drive])
        else:
            drive_peerstore(options.addresses, options.values, options.seconds)
        return
    runs, seconds, values = (1, 0.5, 30) if options.quick else (options.runs, options.seconds, options.values)
    systems = options.only.split(",") if options.only else list(SYSTEMS)
    found: dict[str, list[dict[str, float]]] = {system: [] for system in systems}
    for _ in range(runs):
        for system in systems:
            found[system].append(measure(system, options.nodes, options.positions, values, seconds))
    print_table(options.nodes, found)


def print_table(nodes: int, found: dict[str, list[dict[str, float]]]) -> None:
    """Medians, a system a column."""
    table = Table(title=f"{nodes} nodes in one process, the asker in another; per second")
    table.add_column("")
    for system in found:
        table.add_column(SYSTEMS[system], justify="right")
    kinds = dict.fromkeys(kind for runs in found.values() for run in runs for kind in run)
    kinds.pop(UNANSWERED, None)
    for kind in [*kinds, UNANSWERED]:
        cells = []
        for runs in found.values():
            numbers = [run[kind] for run in runs if kind in run]
            cells.append(f"{statistics.median(numbers):,.0f}" if numbers else "")
        table.add_row(kind, *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
