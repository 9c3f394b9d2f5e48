"""Where a server of NATS listens, as it is written in a setting."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

DEFAULT_PORT = 4222
SCHEMES = ("nats", "tls")


class AddressWrong(ValueError):
    """The address of a server can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """The address in a URL such as `nats://host:port`.

        Raises:
            AddressWrong: It can't be used.
        """
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            port = parts.port or DEFAULT_PORT
        except ValueError:
            raise AddressWrong(f"{url}: the port is not a number up to 65535") from None
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise AddressWrong(f"{url} is no address of a NATS server, such as nats://host:4222 or tls://host:4222")
        return cls(parts.hostname, port, parts.scheme == "tls")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
