"""Which ports to listen on."""

import random
import socket
from contextlib import ExitStack

FIRST, LAST = 15_000, 32_000
"""Below the range from which systems take the ports of outgoing connections: what is free here stays so for a while."""
_given: set[int] = set()


def choose(preferred: int | None = None) -> int:
    """A TCP port on loopback that is free and that this process was not given before.

    Args:
        preferred: Taken if it is free, because a familiar port is easier to find again.
    """
    with ExitStack() as held:
        for wanted in [preferred] if preferred else []:
            if wanted not in _given and _bind(held, wanted):
                _given.add(wanted)
                return wanted
        while True:
            # At random: other processes choose too, and what is chosen is listened on only later.
            port = random.randint(FIRST, LAST)
            if port not in _given and _bind(held, port):
                _given.add(port)
                return port


def _bind(held: ExitStack, port: int) -> int | None:
    listener = held.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        # A port that somebody listens on for all addresses can be bound for one, but not listened on.
        listener.listen(1)
    except OSError:
        return None
    bound: int = listener.getsockname()[1]
    return bound
