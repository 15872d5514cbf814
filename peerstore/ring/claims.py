"""What others say of us: that a host with our key is another than we are."""

from __future__ import annotations

from typing import NamedTuple

from peerstore.wire.bodies import HostRecord

__all__ = ["Claim", "Claims", "MAX_ADDRESS", "MAX_CLAIMS", "MAX_INCARNATION"]

MAX_ADDRESS = 255
MAX_INCARNATION = 1 << 62
#: Addresses that are remembered until somebody looks there (``ring.identity``).
MAX_CLAIMS = 16


class Claim(NamedTuple):
    """Somebody says that the host with our key is another than we."""

    incarnation: int
    address: str


class Claims:
    """Claims that nobody has looked into yet, one for each address."""

    def __init__(self) -> None:
        self._by_address: dict[str, int] = {}

    def note(self, own: HostRecord, claim: Claim) -> None:
        """Kept if it is not just as we are, or were at this address."""
        incarnation, address = claim
        if not 0 < len(address) <= MAX_ADDRESS or not 0 <= incarnation < MAX_INCARNATION:
            return
        if address == own.addresses[0] and incarnation <= own.incarnation:
            return
        if address in self._by_address or len(self._by_address) < MAX_CLAIMS:
            self._by_address[address] = max(incarnation, self._by_address.get(address, 0))

    def take(self) -> list[Claim]:
        """What was noted since this was last asked."""
        found, self._by_address = self._by_address, {}
        return [Claim(incarnation, address) for address, incarnation in sorted(found.items())]
