"""A program in the network sandbox can reach the proxy and nothing else."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import ProcessEntry, process_family, still_running
from local.sandbox.isolation import ISOLATION_VARIABLE
from local.sandbox.network_sandbox import SandboxFacts, read_facts
from local.system.proxy import ForwardProxy

COMPOSE = Path(__file__).parents[3] / "compose"
GREETING = b"hello from outside"

# Connects through the configured proxy with the configured login, and prints the response.
VISIT = """
import base64, os, socket, subprocess, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
login = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
with socket.create_connection((proxy.hostname, proxy.port), timeout=10) as s:
    lines = f"CONNECT {sys.argv[1]} HTTP/1.1", f"Host: {sys.argv[1]}", f"Proxy-Authorization: Basic {login}", "", ""
    s.sendall("\\r\\n".join(lines).encode())
    answer = b""
    while piece := s.recv(1000):
        answer += piece
sys.stdout.buffer.write(answer)
sys.stdout.flush()
subprocess.Popen(["sleep", "600"], start_new_session=True)
sys.exit(7)
"""


@pytest.fixture
async def target() -> AsyncIterator[int]:
    """A server outside the sandbox, which sends a greeting on each connection."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ForwardProxy]:
    """A forward proxy that requires a login."""
    forward = ForwardProxy(tmp_path / "proxy")
    await forward.start()
    yield forward
    await forward._child.crash()  # its orderly end takes a second


def sandbox(folder: Path, proxy: ForwardProxy, target: int, kind: str, **extra: str) -> Child:
    argv = [
        *(
            sys.executable,
            "-m",
            "local.sandbox.network_sandbox",
            "--proxy-port",
            str(proxy.port),
            "--facts",
            str(folder / "facts"),
        ),
        *("--probe", f"target=127.0.0.1:{target}", "--", sys.executable, "-c", VISIT, f"127.0.0.1:{target}"),
    ]
    environment = {"PYTHONPATH": str(COMPOSE), "HTTPS_PROXY": proxy.url_with_login("{port}"), ISOLATION_VARIABLE: kind}
    return Child("sandbox", argv, log=folder / "sandbox.log", cwd=folder, env=clean_environment(environment | extra))


@pytest.mark.skipif(sys.platform != "linux", reason="isolation is Linux's")
@pytest.mark.parametrize("kind", ["namespace", "landlock"])
async def test_only_the_proxy_can_be_reached(tmp_path: Path, proxy: ForwardProxy, target: int, kind: str) -> None:
    sandboxed = sandbox(tmp_path, proxy, target, kind)
    await sandboxed.start()
    status = await sandboxed.wait()
    output = (tmp_path / "sandbox.log").read_bytes()
    if b"cannot isolate" in output:
        pytest.skip(output.decode())
    assert status == 7
    assert output.startswith(b"HTTP/1.1 200")
    assert output.endswith(GREETING)
    facts = read_facts(tmp_path / "facts")
    assert facts.kind == kind
    assert facts.is_isolated, facts
    assert proxy.tunnels() == [f"127.0.0.1:{target}"]


async def test_the_facts_report_a_run_without_isolation(tmp_path: Path, proxy: ForwardProxy, target: int) -> None:
    sandboxed = sandbox(tmp_path, proxy, target, "none")
    await sandboxed.start()
    assert await sandboxed.wait() == 7
    facts: SandboxFacts = read_facts(tmp_path / "facts")
    assert facts.kind == "none"
    assert not facts.is_isolated


async def test_the_sandbox_ends_all_processes_of_its_program(tmp_path: Path, proxy: ForwardProxy, target: int) -> None:
    """The program leaves a process behind, which has its own session."""
    sandboxed = sandbox(tmp_path, proxy, target, "none")
    await sandboxed.start()
    seen: dict[int, ProcessEntry] = {}
    while sandboxed.running:
        seen |= process_family(sandboxed.pid)
        await asyncio.sleep(0.005)
    assert len(seen) >= 2
    assert still_running(seen) == []


async def test_an_impossible_isolation_is_an_error_that_names_a_fix(
    tmp_path: Path, proxy: ForwardProxy, target: int
) -> None:
    sandboxed = sandbox(tmp_path, proxy, target, "no such thing")
    await sandboxed.start()
    assert await sandboxed.wait() == 71
    assert "cannot isolate the worker" in (tmp_path / "sandbox.log").read_text()
    assert f"{ISOLATION_VARIABLE}=none" in (tmp_path / "sandbox.log").read_text()
    assert not (tmp_path / "facts").exists()


async def test_the_proxy_requires_the_login_and_allows_connect_only(proxy: ForwardProxy, target: int) -> None:
    right = base64.b64encode(f"{proxy.login.user}:{proxy.login.password}".encode()).decode()
    wrong = base64.b64encode(f"{proxy.login.user}:guess".encode()).decode()
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", None) == 407
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", wrong) == 407
    assert await _ask(proxy, f"GET http://127.0.0.1:{target}/", right) == 405
    assert proxy.tunnels() == []
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", right) == 200
    assert proxy.tunnels() == [f"127.0.0.1:{target}"]


async def test_the_login_is_in_no_argument_list(proxy: ForwardProxy) -> None:
    assert proxy.login.password not in _arguments(proxy.child.pid)
    assert proxy.login.password not in repr(proxy.login)


def _arguments(pid: int) -> str:
    listed = Path(f"/proc/{pid}/cmdline")
    if not listed.exists():
        pytest.skip("arguments are read through /proc")
    arguments = listed.read_text()
    assert "local.system.proxy_server" in arguments
    return arguments


async def _ask(proxy: ForwardProxy, what: str, login: str | None) -> int:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        authorization = f"Proxy-Authorization: Basic {login}\r\n" if login else ""
        writer.write(f"{what} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n".encode())
        first = await reader.readline()
        writer.close()
    return int(first.split()[1])
