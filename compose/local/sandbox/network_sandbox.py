"""Runs a program that can reach nothing but a forward proxy: the machine of an edge site.

`python -m local.sandbox.network_sandbox --proxy-port N --facts FILE [--probe NAME=HOST:PORT ...] -- PROGRAM ARGUMENT...`

Where Linux allows user namespaces, the program gets a network of its own with nothing in it but a loopback interface
and one port. That port is the box's: it listens inside, and what is accepted there is carried to the proxy from
outside. Where that is not allowed, Landlock (kernel 6.7 and later) permits TCP connections to the proxy's port only.
Otherwise the box refuses to start, unless `EDGE_DEMO_ISOLATION=none` says that it may run without walls.

Before the program starts, the box tries to reach each probe directly, from inside and from outside, and writes to the
facts file what came of it. The box ends with the program and takes whatever the program left behind with it.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from local.processes.die_with_parent import follow_parent
from local.processes.process_table import adopt_orphans, end_of
from local.sandbox import isolation
from local.sandbox.isolation import Kind, NotPossible


@dataclass(frozen=True)
class Probe:
    """What came of a direct TCP connection; an empty text means that it succeeded."""

    name: str
    address: str
    inside: str
    outside: str


@dataclass(frozen=True)
class Facts:
    """What the box found about itself.

    Attributes:
        kind: How the program is kept in.
        proxy_port: Where the program finds the proxy on 127.0.0.1.
        probes: What else it could reach.
    """

    kind: Kind
    proxy_port: int
    probes: list[Probe]

    @property
    def tight(self) -> bool:
        """Whether everything that was tried is there, and none of it could be reached from inside."""
        return bool(self.probes) and all(probe.inside and not probe.outside for probe in self.probes)


def read_facts(path: Path) -> Facts:
    """The facts as a box wrote them."""
    found = json.loads(path.read_text())
    return Facts(found["kind"], found["proxy_port"], [Probe(**probe) for probe in found["probes"]])


def main() -> int:
    """Be the box."""
    options = _parse()
    ours, theirs = socket.socketpair()
    box = os.getpid()
    program = os.fork()
    if program == 0:
        ours.close()
        _inside(options, theirs, box)
    theirs.close()
    return asyncio.run(_outside(options, ours, program))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edge_box", description="Run a program that can reach only a forward proxy.")
    parser.add_argument("--proxy-port", type=int, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--probe", action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("program", nargs="+")
    return parser.parse_args()


# --- inside: the child, which becomes the program ----------------------------------------------------------------


def _inside(options: argparse.Namespace, outside: socket.socket, box: int) -> None:
    """Build the walls, try them, hand the listening socket out, become the program. Never returns."""
    try:
        kind, listener = isolation.enter(options.proxy_port)
        follow_parent(box)  # after the walls: a change of credentials takes the leash away
        tried = {name: _connect(address) for name, address in _probes(options)}
        report = json.dumps({"kind": kind, "tried": tried}).encode()
        # A socket belongs to the network it was made in, whichever process holds it.
        socket.send_fds(outside, [report], [listener.fileno()] if listener else [])
        outside.recv(1)  # the facts are written and somebody accepts
        os.environ["HTTPS_PROXY"] = os.environ["HTTPS_PROXY"].replace(
            "{port}", str(_port(listener, options.proxy_port))
        )
        os.environ.pop("PYTHONPATH", None)  # it leads to this module, which is not the program's business
        os.execv(options.program[0], options.program)
    except (NotPossible, OSError) as problem:
        print(f"edge_box: {problem}", file=sys.stderr, flush=True)
        os._exit(71)


def _port(listener: socket.socket | None, proxy_port: int) -> int:
    port: int = listener.getsockname()[1] if listener else proxy_port
    return port


def _probes(options: argparse.Namespace) -> list[tuple[str, str]]:
    return [(name, address) for name, _, address in (probe.partition("=") for probe in options.probe)]


def _connect(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as refused:
        return str(refused) or type(refused).__name__
    return ""


# --- outside: carries what is accepted to the proxy --------------------------------------------------------------


async def _outside(options: argparse.Namespace, inside: socket.socket, program: int) -> int:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, os.kill, program, signum)
    report, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, inside, 65536, 1)
    if not report:
        return await end_of(program)  # it has said why
    listener = socket.socket(fileno=descriptors[0]) if descriptors else None
    await asyncio.to_thread(_write_facts, options, json.loads(report), _port(listener, options.proxy_port))
    server = await _forward(listener, options.proxy_port) if listener else None
    inside.send(b".")
    inside.close()
    try:
        return await end_of(program)
    finally:
        if server:
            server.close()


def _write_facts(options: argparse.Namespace, report: dict[str, dict[str, str]], port: int) -> None:
    probes = [Probe(name, at, report["tried"][name], _connect(at)) for name, at in _probes(options)]
    draft = options.facts.with_suffix(".new")
    draft.write_text(json.dumps({"kind": report["kind"], "proxy_port": port, "probes": [asdict(p) for p in probes]}))
    draft.rename(options.facts)


async def _forward(listener: socket.socket, proxy_port: int) -> asyncio.Server:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", proxy_port)
        except (OSError, TimeoutError):
            writer.transport.abort()  # like a proxy that is down: the connection breaks
            return
        await asyncio.gather(_pump(reader, onward_writer), _pump(onward_reader, writer))

    return await asyncio.start_server(carry, sock=listener)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one side broke off; so does the other
    finally:
        writer.close()


if __name__ == "__main__":
    adopt_orphans()
    sys.exit(main())
