"""Free ports: for listeners that may move to another port, and for those that may not."""

import socket

from edge_relay.settings import SettingsError

PORTS_TRIED = 100


def choose_port(host: str, wanted: int | None, default: int, option: str, *, besides: int | None = None) -> int:
    """A port that is free right now and not `besides`: the wanted one, or the next one from the default upwards.

    Raises:
        SettingsError: The wanted port, or each one that was tried, is in use.
    """
    candidates = range(default, default + PORTS_TRIED) if wanted is None else (wanted,)
    for port in candidates:
        found = None if port == besides else _free(host, port)
        if found is not None:
            return found
    taken = (
        f"port {wanted} on {host} is taken" if wanted is not None else f"no port from {default} on is free on {host}"
    )
    raise SettingsError(f"{taken}: choose another one with {option}, or {option} 0 for any")


def _free(host: str, port: int) -> int | None:
    """The port, or another one for 0; None if it can't be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsError(f"--host: {host!r} is no address of this machine: {error}") from None
    with socket.socket(family, kind, protocol) as probe:
        # As the server does: a port that an earlier run has just closed is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return None
        return int(probe.getsockname()[1])
