"""The process of the forward proxy: the `proxy.py` package, CONNECT only.

`python -m local.system.proxy_server --port N --tunnels FILE` reads `{"user": …, "password": …}` from its standard
input, so that the login is in no argument list. It appends `host:port` to the file for each tunnel that it opens.
"""

import json
import sys
from pathlib import Path

from proxy import Proxy, sleep_loop
from proxy.common.flag import flags
from proxy.http.exception import HttpRequestRejected
from proxy.http.parser import HttpParser
from proxy.http.proxy import HttpProxyBasePlugin

# Longer than the poll timeout. The package's default of 10 s is shorter than that of any proxy in use.
_IDLE_S = 150

flags.add_argument("--tunnels", default="", help="File in which each tunnel is recorded.")


class ConnectOnly(HttpProxyBasePlugin):
    """Reject every method other than CONNECT, and record each target. Runs after the package's login check."""

    def before_upstream_connection(self, request: HttpParser) -> HttpParser | None:
        """Called once per connection."""
        if request.method != b"CONNECT" or request.host is None:
            raise HttpRequestRejected(status_code=405, reason=b"CONNECT only")
        with Path(self.flags.tunnels).open("a") as log:
            log.write(f"{request.host.decode()}:{request.port}\n")
        return request


def main() -> None:
    """Serve until a signal arrives."""
    login = json.load(sys.stdin)
    # One process and one thread are enough for one site.
    small = ["--num-acceptors", "1", "--num-workers", "1", "--timeout", str(_IDLE_S)]
    with Proxy(
        ["--hostname", "127.0.0.1", *small, *sys.argv[1:]],
        basic_auth=f"{login['user']}:{login['password']}",
        plugins=[ConnectOnly],
    ) as running:
        sleep_loop(running)


if __name__ == "__main__":
    main()
