"""`edge-relay standalone` and the commands next to it, as processes: what a person types and what a person sees."""

import asyncio
import os
import signal
import socket
import ssl
import stat
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from edge_relay.cli import broker, main
from edge_schemas.wire import routes
from edge_schemas.wire.workers import SecretKind, hash_secret, new_secret
from edge_service.signing.key_files import KEYS_FILE
from support.nats.server import eventually

PROGRAM = Path(sys.executable).with_name("edge-relay")
ANY_PORT = ("--port", "0", "--operator-port", "0", "--nats-port", "0")


class Standalone:
    """A running `edge-relay standalone`."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, output: Path) -> None:
        self.data_dir = data_dir
        self.process = process
        self.output = output

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = orjson.loads((self.data_dir / "standalone.json").read_bytes())
        return facts

    def nats_pid(self) -> int:
        return int((self.data_dir / "nats" / "nats-server.pid").read_text())

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def call(self, method: str, path: str, secret: str, json: object = None) -> tuple[int, Any]:
        """A call to the workers' listener by a strict client."""
        context = ssl.create_default_context(cafile=self.facts["ca_file"])
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        headers = {"Authorization": f"Bearer {secret}"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
            session.request(method, self.facts["relay_url"] + path, json=json, headers=headers, ssl=context) as answer,
        ):
            return answer.status, await answer.json(content_type=None)


@asynccontextmanager
async def standalone(data_dir: Path, *options: str, wait: bool = True) -> AsyncIterator[Standalone]:
    """One that has come up, killed at the end if it still runs."""
    output = data_dir.parent / f"{data_dir.name}.out"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(PROGRAM), "standalone", "--data-dir", str(data_dir), *options, stdout=file, stderr=file
        )
    running = Standalone(data_dir, process, output)
    try:
        if wait:
            await eventually(lambda: _up(running), timeout_s=30, what="standalone.json")
        yield running
    finally:
        await running.stop()


def _up(running: Standalone) -> bool:
    assert running.process.returncode is None, running.output.read_text()
    return (running.data_dir / "standalone.json").exists()


def _argv(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]


def _gone(pid: int) -> bool:
    """Whether a process has ended; in a container its new parent may never ask for its status."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def run(*words: str, **variables: str) -> tuple[int, str, str]:
    """A command; status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM),
        *words,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_from_nothing_to_an_enrolled_worker_and_back(tmp_path: Path) -> None:
    """In a long path with spaces: tokens, workers, revocation, by the commands that it prints."""
    data_dir = tmp_path / ("long " * 30) / ("path" * 20)
    data_dir.parent.mkdir()
    async with standalone(data_dir, *ANY_PORT) as relay:
        await eventually(lambda: "workers list" in relay.output.read_text(), what="the greeting")
        said = relay.output.read_text()
        assert relay.facts["relay_url"] in said
        token = said.partition("echo ")[2].split()[0]
        secret = new_secret(SecretKind.WORKER)
        body = {"protocol": 1, "secret_hash": hash_secret(secret), "hostname": "evil\x1b[2J\u202ename"}
        status, enrolled = await relay.call("POST", routes.ENROLL, token, body)
        assert (status, enrolled["site"]) == (200, "laptop")
        name = enrolled["worker"]

        status, listing, _ = await run("workers", "list", "--data-dir", str(data_dir))
        assert status == 0
        assert name in listing
        assert "\x1b" not in listing
        assert "\u202e" not in listing
        status, out, _ = await run("workers", "revoke", name, "--reason", "stolen", "--data-dir", str(data_dir))
        assert (status, "revoked" in out) == (0, True)
        status, problem = await relay.call("POST", routes.POLL, secret, {})
        assert (status, problem["code"]) == (401, "credential_revoked")

        status, out, _ = await run(
            *("enroll-token", "create", "--queues", "a,b c", "--site", "plant", "--uses", "2", "--ttl", "30m"),
            *("--json", "--data-dir", str(data_dir)),
        )
        made = orjson.loads(out)
        assert (status, made["queues"], made["uses"]) == (0, ["a", "b c"], 2)
        (applied, unchanged, _), (_, out, _), (_, found, _) = await asyncio.gather(
            run("streams", "apply", "--data-dir", str(data_dir)),
            run("access-token", "create", "--name", "me", "--json", "--data-dir", str(data_dir)),
            run("doctor", "--data-dir", str(data_dir), "--gate-urls", "http://127.0.0.1:9", "--json"),
        )
        assert (applied, unchanged.count("unchanged")) == (0, 14)
        # There is no keeper next to it; everything else is fine.
        complaints = [one["check"] for one in orjson.loads(found) if one["status"] in ("failed", "warning")]
        assert complaints == ["gate.connect"], found
        variables = {"RELAY_ACCESS_TOKEN": orjson.loads(out)["token"], "RELAY_ADMIN_URL": relay.facts["operator_url"]}
        assert (await run("workers", "list", "--json", **variables))[0] == 0
        assert await relay.stop() == 0
    assert not (data_dir / "standalone.json").exists()
    assert not (data_dir / "nats" / "nats-server.pid").exists()


async def test_a_second_start_keeps_what_there_was(tmp_path: Path) -> None:
    """The CA, the secrets and the enrolled workers; but a data folder serves one at a time."""
    data_dir, secret = tmp_path / "data", new_secret(SecretKind.WORKER)
    async with standalone(data_dir, *ANY_PORT) as relay:
        out = (
            await run("enroll-token", "create", "--queues", "q", "--site", "s", "--json", "--data-dir", str(data_dir))
        )[1]
        body = {"protocol": 1, "secret_hash": hash_secret(secret)}
        assert (await relay.call("POST", routes.ENROLL, orjson.loads(out)["token"], body))[0] == 200
        kept = {path: path.read_bytes() for name in ("tls", "secrets") for path in (data_dir / name).iterdir()}
        status, _, err = await run("standalone", "--data-dir", str(data_dir), *ANY_PORT)
        assert (status, "another 'edge-relay standalone' uses" in err) == (1, True)
        assert (await relay.call("POST", routes.POLL, secret, {}))[0] == 400
    async with standalone(data_dir, *ANY_PORT) as relay:
        assert {path: path.read_bytes() for path in kept} == kept
        assert (await relay.call("POST", routes.POLL, secret, {}))[0] == 400
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (data_dir / "secrets").iterdir()}
    assert files.pop(KEYS_FILE) == 0o644, "it is no secret"
    assert set(files.values()) == {0o600}
    assert stat.S_IMODE((data_dir / "secrets").stat().st_mode) == 0o700


async def test_taken_ports(tmp_path: Path) -> None:
    """A default that is taken gives way to the next one; a port that was asked for does not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ("--port", "--operator-port", "--nats-port")
        wishes = ({**dict.fromkeys(options, "0"), option: port} for option in options)
        words = ([word for pair in wish.items() for word in pair] for wish in wishes)
        # A folder each: of two that start in one, the later is refused for that.
        starts = (
            run("standalone", "--data-dir", str(tmp_path / f"of{option}"), *each)
            for option, each in zip(options, words, strict=True)
        )
        for option, (status, _, err) in zip(options, await asyncio.gather(*starts), strict=True):
            assert (status, f"port {port} on 127.0.0.1 is taken" in err, option in err) == (2, True, True)
    # One after the other: what is free is looked up before it is taken.
    async with standalone(tmp_path / "one") as one, standalone(tmp_path / "two") as two:
        urls = [relay.facts[name] for relay in (one, two) for name in ("relay_url", "operator_url", "nats_url")]
        assert len(set(urls)) == 6


async def test_a_signal_during_the_start_is_obeyed(tmp_path: Path) -> None:
    """Also while it waits for something: no server is left behind."""
    data_dir = tmp_path / "data"
    async with standalone(data_dir, *ANY_PORT, wait=False) as relay:
        pid_file = data_dir / "nats" / "nats-server.pid"
        await eventually(pid_file.exists, timeout_s=30, what="nats-server is up")
        left = relay.nats_pid()
        assert await relay.stop() in {0, 1}
        assert _gone(left)


async def test_a_killed_nats_server_comes_back(tmp_path: Path) -> None:
    async with standalone(tmp_path / "data", *ANY_PORT) as relay:
        token = (relay.data_dir / "secrets" / "access.token").read_text().strip()
        before = relay.nats_pid()
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: relay.nats_pid() != before, what="a new nats-server")

        async def ready() -> bool:
            return (await relay.call("GET", routes.READYZ, token))[0] == 200

        await eventually(ready, what="the relay is ready again")
        assert "nats_server_restarted" in relay.output.read_text()


async def test_the_gates_addresses_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secret that belongs to them is in the data folder."""
    monkeypatch.setenv("RELAY_GATE_URLS", "http://127.0.0.1:9")
    async with standalone(tmp_path / "data", *ANY_PORT) as relay:
        assert relay.facts["gate_urls"] == ["http://127.0.0.1:9"]


async def test_nats_server_ends_with_a_killed_relay(tmp_path: Path) -> None:
    async with standalone(tmp_path / "data", *ANY_PORT) as killed:
        nats = killed.nats_pid()
        killed.process.kill()
        await killed.process.wait()
        await eventually(lambda: _gone(nats), timeout_s=30, what="the end of nats-server")


async def test_after_a_kill_the_next_start_takes_over(tmp_path: Path) -> None:
    """A nats-server that a killed run left behind must not continue next to the new one on the same files.

    The folder is one that a version without user `admin` made.
    """
    data_dir = tmp_path / "data"
    async with standalone(data_dir, *ANY_PORT) as killed:
        nats = data_dir / "nats"
        argv = _argv(killed.nats_pid())
        killed.process.kill()
        await killed.process.wait()
        await eventually(lambda: _gone(killed.nats_pid()), timeout_s=30, what="the end of nats-server")
    # As on a system where a process does not end with its parent.
    leftover = await asyncio.create_subprocess_exec(*argv, stdout=DEVNULL, stderr=DEVNULL)
    left = leftover.pid
    (nats / "nats-server.pid").write_text(f"{left}\n")
    (data_dir / "secrets" / "admin.password").unlink()
    assert (data_dir / "standalone.json").exists()
    async with standalone(data_dir, *ANY_PORT, wait=False) as relay:
        await eventually(lambda: _up(relay) and relay.facts["pid"] == relay.process.pid, timeout_s=30)
        assert relay.nats_pid() != left
        assert _gone(left)
        assert (await run("workers", "list", "--data-dir", str(data_dir)))[0] == 0
        assert (await run("streams", "apply", "--data-dir", str(data_dir)))[0] == 0


async def test_sigint_while_polls_are_parked_ends_in_order(tmp_path: Path) -> None:
    data_dir, secret = tmp_path / "data", new_secret(SecretKind.WORKER)
    async with standalone(data_dir, *ANY_PORT) as relay:
        out = (
            await run("enroll-token", "create", "--queues", "q", "--site", "s", "--json", "--data-dir", str(data_dir))
        )[1]
        body = {"protocol": 1, "secret_hash": hash_secret(secret)}
        await relay.call("POST", routes.ENROLL, orjson.loads(out)["token"], body)
        versions = {"agent": "1", "python": "3", "platform": "x"}
        report = {"protocol": 1, "incarnation": 1, "seq": 1, "slots": 1, "free": 1, "versions": versions}
        report["settings_version"] = 1
        parked = asyncio.create_task(relay.call("POST", routes.POLL, secret, report))

        async def polled() -> bool:
            return "ago" in (await run("workers", "list", "--data-dir", str(data_dir)))[1]

        await eventually(polled, what="the poll is parked")
        relay.process.send_signal(signal.SIGINT)
        status, problem = await parked
        assert (status, problem["code"]) == (503, "draining")
        assert await relay.process.wait() == 0


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["workers", "list"], 2, "access token is needed"),
        (["workers", "list", "--data-dir", "/nowhere"], 2, "no standalone relay is up"),
        (["workers", "list", "--url", "file:///etc/passwd"], 2, "not an http:// or https://"),
        (["workers", "list", "--url", "http://127.0.0.1:9"], 3, "no answer from http://127.0.0.1:9"),
        (["enroll-token", "create", "--queues", "q", "--site", "a.b"], 2, "site"),
        (["enroll-token", "create", "--queues", "q", "--site", "s", "--ttl", "soon"], 2, "90s, 30m, 1h or 7d"),
        (["streams", "apply"], 2, "--admin-password-file"),
        (["serve", "--port", "99999"], 2, "port"),
        (["serve"], 2, "RELAY_NATS_PASSWORD_FILE"),
        (["nats-config", "--secrets-dir", "/nowhere"], 2, "--create"),
        ([], 2, "usage"),
    ],
)
def test_errors_say_what_to_do(
    words: list[str], status: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--url" in words:
        monkeypatch.setenv("RELAY_ACCESS_TOKEN", "era_x")
    try:
        found: object = main(words)
    except SystemExit as exit_:  # argparse
        found = exit_.code
    assert found == status
    assert says in capsys.readouterr().err


async def test_nats_config_is_what_a_server_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With it, and with the password of user admin, the streams are made."""
    secrets, store = tmp_path / "secrets", tmp_path / "store"
    words = ("nats-config", "--create", "--secrets-dir", str(secrets), "--host", "127.0.0.1", "--store-dir", str(store))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    first = await run(*words, "--port", str(port))
    assert first[0] == 0
    assert await run(*words, "--port", str(port)) == first
    config = tmp_path / "nats.conf"
    config.write_text(first[1])
    server = await asyncio.create_subprocess_exec(
        str(PROGRAM.with_name("nats-server")), "-c", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        apply = ("streams", "apply", "--nats-urls", f"nats://127.0.0.1:{port}", "--admin-password-file")
        status, out, err = await run(*apply, str(secrets / "admin.password"))
        assert (status, out.count("created")) == (0, 14), err
        monkeypatch.setattr(broker, "CONNECT_S", 0.5)
        assert await asyncio.to_thread(main, [*apply, str(secrets / "relay.password")]) == 3
        assert "password of user admin" in capsys.readouterr().err
    finally:
        server.terminate()
        await server.wait()


async def test_version_and_help() -> None:
    assert (await run("--version"))[1].startswith("edge-relay ")
    assert "standalone" in (await run("--help"))[1]
    assert "--nats-urls" in (await run("serve", "--help"))[1]
