"""The configuration of a nats-server with one account and one user per role.

In production NATS is operated separately; `render_config` shows which users it needs and their permissions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from edge_broker.permissions import ROLES, rights

CLUSTER = "edge-relay"
"""The name of the cluster, and of the user with which its servers log in to each other."""
CLUSTER_PORT = 6222
LOGIN_TIMEOUT_S = 10
"""A relay logs in again while a thousand workers poll. If the server gives up after its default of two seconds, a busy
relay may be refused again and again."""


@dataclass(frozen=True, slots=True)
class Node:
    """One of the servers of a cluster.

    Attributes:
        name: Its name, which is also its host name for the other servers and the clients.
        names: Of all servers, with this one.
        password: With which the servers log in to each other.
    """

    name: str
    names: tuple[str, ...]
    password: str = field(repr=False)

    def config(self, host: str, port: int) -> dict[str, object]:
        """What the configuration of a cluster's server has in addition."""
        login = {"user": CLUSTER, "password": self.password}
        others = [f"nats-route://{CLUSTER}:{self.password}@{name}:{CLUSTER_PORT}" for name in self.names]
        return {
            "server_name": self.name,
            "client_advertise": f"{self.name}:{port}",
            "cluster": {
                "name": CLUSTER,
                "listen": f"{host}:{CLUSTER_PORT}",
                "authorization": login,
                "routes": others,
            },
        }


def render_config(
    *,
    host: str,
    port: int,
    store_dir: Path,
    passwords: Mapping[str, str],
    monitor: str | None = None,
    max_store_bytes: int | None = None,
    node: Node | None = None,
) -> str:
    """The server's configuration, as JSON, which nats-server reads too. It holds the passwords, so keep it private.

    Args:
        host: To listen on for clients, and for the other servers of a cluster.
        port: For clients.
        store_dir: Of JetStream.
        passwords: One for each role.
        monitor: `host:port` of the monitoring listener, which needs no password.
        max_store_bytes: The most that JetStream uses of this server's disk. Without it the fill level is unknown.
        node: For a cluster.
    """
    users = [
        {
            "user": role,
            "password": passwords[role],
            "permissions": {"publish": list(rights(role).publish), "subscribe": list(rights(role).subscribe)},
        }
        for role in ROLES
    ]
    room: dict[str, object] = {} if max_store_bytes is None else {"max_file_store": max_store_bytes}
    # The account's limit is that of all servers together: each copy of a stream counts.
    limits = (
        "enabled" if max_store_bytes is None else {"max_store": max_store_bytes * len(node.names if node else (1,))}
    )
    config: dict[str, object] = {
        "listen": f"{host}:{port}",
        "authorization": {"timeout": LOGIN_TIMEOUT_S},
        "jetstream": {"store_dir": str(store_dir), **room},
        "accounts": {"EDGE": {"jetstream": limits, "users": users}},
        **({} if monitor is None else {"http": monitor}),
        **({} if node is None else node.config(host, port)),
    }
    return orjson.dumps(config, option=orjson.OPT_INDENT_2).decode()
