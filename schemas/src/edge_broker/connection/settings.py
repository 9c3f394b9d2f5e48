"""How to reach the servers of NATS."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach NATS.

    Attributes:
        urls: Servers of one cluster, without credentials.
        role: The NATS user's name and the prefix of its inboxes; see `permissions`.
        ca_file: For `tls://` servers with a CA of their own.
    """

    urls: tuple[str, ...]
    role: str
    password: str = field(repr=False)
    ca_file: Path | None = None
