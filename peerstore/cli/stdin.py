"""Standard input for a thread that must end when the command is stopped."""

from __future__ import annotations

import os
import select
import threading

__all__ = ["InterruptibleInput"]


class InterruptibleInput:
    """A stream of bytes from a descriptor; leaving the context ends it.

    A thread that sits in ``read`` on a terminal or a pipe cannot be stopped,
    and a program cannot end while it has one.  So it waits until there is
    something to read, or a word that nobody wants it any more.

    :param descriptor: what to read; it stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._wake, self._tell = os.pipe()
        self._lock = threading.Lock()
        self._over = False

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes; none at the end, or once it is over."""
        with self._lock:
            if self._over:
                return b""
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLIN)
            waiting.register(self._wake, select.POLLIN)
            if self._wake in {descriptor for descriptor, _ in waiting.poll()}:
                return b""
            return os.read(self._descriptor, size if size >= 0 else 1 << 20)

    def give_up(self) -> None:
        """Let a read that waits return; there are no more after this."""
        os.write(self._tell, b"!")

    def __enter__(self) -> InterruptibleInput:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()
        with self._lock:
            self._over = True
            os.close(self._wake)
            os.close(self._tell)
