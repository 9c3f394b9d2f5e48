"""TCP ports on loopback: choose a free one, and check whether a program listens on one."""

import asyncio
import random
import socket
from contextlib import ExitStack, suppress

FIRST, LAST = 15_000, 32_000
"""Below the range of ports that the kernel uses for outgoing connections, so a free port stays free for a while."""
_CONNECT_TIMEOUT_S = 2
_given: set[int] = set()


def choose_port(preferred: int | None = None) -> int:
    """Return a free TCP port on loopback, and never the same port twice in this process.

    Args:
        preferred: Used if it is free, because a well-known port is easier to find.
    """
    with ExitStack() as held:
        for wanted in [preferred] if preferred else []:
            if wanted not in _given and _bind(held, wanted):
                _given.add(wanted)
                return wanted
        while True:
            # At random, because other processes choose ports too, and the caller listens on its port only later.
            port = random.randint(FIRST, LAST)
            if port not in _given and _bind(held, port):
                _given.add(port)
                return port


async def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a program accepts connections on the port."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return True
    return False


def _bind(held: ExitStack, port: int) -> int | None:
    listener = held.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        # If another program listens on this port on all addresses, bind() on one address works, but listen() fails.
        listener.listen(1)
    except OSError:
        return None
    bound: int = listener.getsockname()[1]
    return bound
