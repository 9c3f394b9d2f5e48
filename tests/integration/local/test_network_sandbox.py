"""The box lets its program out through the proxy and nowhere else."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.processes.child import Child, clean_environment
from local.processes.process_table import still_there
from local.sandbox.isolation import CHOICE
from local.sandbox.network_sandbox import Facts, read_facts
from local.system.proxy import ForwardProxy

COMPOSE = Path(__file__).parents[3] / "compose"
GREETING = b"hello from outside"

# Goes through the proxy it is told about, with the login it is told, and writes down what came back.
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
    """A server outside, which greets whoever comes."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ForwardProxy]:
    """A forward proxy that asks for a login."""
    forward = ForwardProxy(tmp_path / "proxy")
    await forward.start()
    yield forward
    await forward._child.crash()  # it takes a second to leave


def box(folder: Path, proxy: ForwardProxy, target: int, kind: str, **extra: str) -> Child:
    argv = [
        *(sys.executable, "-m", "local.sandbox.network_sandbox", "--proxy-port", str(proxy.port), "--facts", str(folder / "facts")),
        *("--probe", f"target=127.0.0.1:{target}", "--", sys.executable, "-c", VISIT, f"127.0.0.1:{target}"),
    ]
    environment = {"PYTHONPATH": str(COMPOSE), "HTTPS_PROXY": proxy.url_with_login("{port}"), CHOICE: kind}
    return Child("box", argv, log=folder / "box.log", cwd=folder, env=clean_environment(environment | extra))


@pytest.mark.skipif(sys.platform != "linux", reason="isolation is Linux's")
@pytest.mark.parametrize("kind", ["namespace", "landlock"])
async def test_only_the_proxy_leads_out(tmp_path: Path, proxy: ForwardProxy, target: int, kind: str) -> None:
    boxed = box(tmp_path, proxy, target, kind)
    await boxed.start()
    status = await boxed.wait()
    said = (tmp_path / "box.log").read_bytes()
    if b"cannot isolate" in said:
        pytest.skip(said.decode())
    assert status == 7
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(GREETING)
    facts = read_facts(tmp_path / "facts")
    assert facts.kind == kind
    assert facts.tight, facts
    assert proxy.tunnels() == [f"127.0.0.1:{target}"]


async def test_without_walls_the_facts_say_so(tmp_path: Path, proxy: ForwardProxy, target: int) -> None:
    boxed = box(tmp_path, proxy, target, "none")
    await boxed.start()
    assert await boxed.wait() == 7
    facts: Facts = read_facts(tmp_path / "facts")
    assert facts.kind == "none"
    assert not facts.tight


async def test_nothing_stays_behind_in_a_box(tmp_path: Path, proxy: ForwardProxy, target: int) -> None:
    """The program leaves a process in a session of its own behind."""
    from local.processes import process_table as proc

    boxed = box(tmp_path, proxy, target, "none")
    await boxed.start()
    seen: dict[int, proc.Seen] = {}
    while boxed.running:
        seen |= proc.family(boxed.pid)
        await asyncio.sleep(0.005)
    assert len(seen) >= 2
    assert still_there(seen) == []


async def test_an_impossible_wall_is_an_error_that_says_what_to_do(
    tmp_path: Path, proxy: ForwardProxy, target: int
) -> None:
    boxed = box(tmp_path, proxy, target, "no such thing")
    await boxed.start()
    assert await boxed.wait() == 71
    assert "cannot isolate the worker" in (tmp_path / "box.log").read_text()
    assert f"{CHOICE}=none" in (tmp_path / "box.log").read_text()
    assert not (tmp_path / "facts").exists()


async def test_the_proxy_wants_the_login_and_tunnels_only(proxy: ForwardProxy, target: int) -> None:
    right = base64.b64encode(f"{proxy.login.user}:{proxy.login.password}".encode()).decode()
    wrong = base64.b64encode(f"{proxy.login.user}:guess".encode()).decode()
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", None) == 407
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", wrong) == 407
    assert await _ask(proxy, f"GET http://127.0.0.1:{target}/", right) == 405
    assert proxy.tunnels() == []
    assert await _ask(proxy, f"CONNECT 127.0.0.1:{target}", right) == 200
    assert proxy.tunnels() == [f"127.0.0.1:{target}"]


async def test_the_login_stands_in_no_argument_list(proxy: ForwardProxy) -> None:
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
