"""Run a program that can reach only a forward proxy, like the machine of an edge site.

`python -m local.sandbox.network_sandbox --proxy-port N --facts FILE [--probe NAME=HOST:PORT ...] -- PROGRAM ARG...`

Where Linux allows user namespaces, the program gets its own network, which has a loopback interface only. The sandbox
listens there on one port, and forwards each connection from outside the namespace to the proxy. Where user namespaces
are not allowed, Landlock (kernel 6.7 and later) permits TCP connections to the proxy's port only. Where neither works,
the sandbox refuses to start, unless `EDGE_DEMO_ISOLATION=none` allows a run without isolation.

Before the program starts, the sandbox tries a direct connection to each probe address, from inside and from outside,
and writes the results to the facts file. The sandbox ends with the program, and ends all processes that the program
left behind.
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

from local.processes.die_with_parent import die_with_parent
from local.processes.orphans import adopt_orphans, wait_and_end_orphans
from local.sandbox.isolation import IsolationKind, IsolationNotPossible, isolate_this_process

_EXIT_NOT_STARTED = 71


@dataclass(frozen=True)
class Probe:
    """The results of two direct TCP connections: the error as text, or an empty text if the connection succeeded."""

    name: str
    address: str
    inside: str
    outside: str


@dataclass(frozen=True)
class SandboxFacts:
    """What the sandbox reports about itself.

    Attributes:
        kind: How the program is isolated.
        proxy_port: Port on 127.0.0.1 at which the program finds the proxy.
        probes: The direct connections that were tried.
    """

    kind: IsolationKind
    proxy_port: int
    probes: list[Probe]

    @property
    def is_isolated(self) -> bool:
        """Whether each probe address answered from outside, and none could be reached from inside."""
        return bool(self.probes) and all(probe.inside and not probe.outside for probe in self.probes)


def read_facts(path: Path) -> SandboxFacts:
    """Read the facts file of a sandbox."""
    found = json.loads(path.read_text())
    return SandboxFacts(found["kind"], found["proxy_port"], [Probe(**probe) for probe in found["probes"]])


def main() -> int:
    """Run the sandbox until its program ends; the program's exit status."""
    options = _parse()
    outer_end, inner_end = socket.socketpair()
    sandbox = os.getpid()
    program = os.fork()
    if program == 0:
        outer_end.close()
        _run_inside(options, inner_end, sandbox)
    inner_end.close()
    return asyncio.run(_run_outside(options, outer_end, program))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="network_sandbox", description="Run a program that can reach only a forward proxy."
    )
    parser.add_argument("--proxy-port", type=int, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--probe", action="append", default=[], metavar="NAME=HOST:PORT")
    parser.add_argument("program", nargs="+")
    return parser.parse_args()


# --- inside: the child process, which becomes the program --------------------------------------------------------


def _run_inside(options: argparse.Namespace, outside: socket.socket, sandbox: int) -> None:
    """Isolate this process, try the probes, send the listening socket out, become the program. Never returns."""
    try:
        kind, listener = isolate_this_process(options.proxy_port)
        die_with_parent(sandbox)  # after the isolation: a change of credentials resets the parent-death signal
        tried = {name: _connect(address) for name, address in _probes(options)}
        report = json.dumps({"kind": kind, "tried": tried}).encode()
        # A socket belongs to the network in which it was created, whichever process holds it.
        socket.send_fds(outside, [report], [listener.fileno()] if listener else [])
        outside.recv(1)  # the facts are written, and the other process accepts connections
        os.environ["HTTPS_PROXY"] = os.environ["HTTPS_PROXY"].replace(
            "{port}", str(_port(listener, options.proxy_port))
        )
        os.environ.pop("PYTHONPATH", None)  # it leads to this module, which the program must not see
        os.execv(options.program[0], options.program)
    except (IsolationNotPossible, OSError) as problem:
        print(f"network sandbox: {problem}", file=sys.stderr, flush=True)
        os._exit(_EXIT_NOT_STARTED)


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


# --- outside: forwards accepted connections to the proxy ---------------------------------------------------------


async def _run_outside(options: argparse.Namespace, inside: socket.socket, program: int) -> int:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, os.kill, program, signum)
    report, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, inside, 65536, 1)
    if not report:
        return await wait_and_end_orphans(program)  # it has printed the reason
    listener = socket.socket(fileno=descriptors[0]) if descriptors else None
    await asyncio.to_thread(_write_facts, options, json.loads(report), _port(listener, options.proxy_port))
    server = await _serve(listener, options.proxy_port) if listener else None
    inside.send(b".")
    inside.close()
    try:
        return await wait_and_end_orphans(program)
    finally:
        if server:
            server.close()


def _write_facts(options: argparse.Namespace, report: dict[str, dict[str, str]], port: int) -> None:
    probes = [Probe(name, at, report["tried"][name], _connect(at)) for name, at in _probes(options)]
    draft = options.facts.with_suffix(".new")
    draft.write_text(json.dumps({"kind": report["kind"], "proxy_port": port, "probes": [asdict(p) for p in probes]}))
    draft.rename(options.facts)


async def _serve(listener: socket.socket, proxy_port: int) -> asyncio.Server:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                proxy_reader, proxy_writer = await asyncio.open_connection("127.0.0.1", proxy_port)
        except (OSError, TimeoutError):
            writer.transport.abort()  # as with a proxy that does not run: the connection breaks
            return
        await asyncio.gather(_copy(reader, proxy_writer), _copy(proxy_reader, writer))

    return await asyncio.start_server(forward, sock=listener)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # one connection broke; the other one is closed too
    finally:
        writer.close()


if __name__ == "__main__":
    adopt_orphans()
    sys.exit(main())
