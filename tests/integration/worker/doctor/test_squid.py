"""The same through a real Squid, where there is one: what it answers is what the doctor was made for."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from integration.worker.doctor.conftest import Relay
from support.doctor.examination import Patient
from support.nats.server import eventually, free_port

SQUID = shutil.which("squid", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
NTLM = Path("/usr/lib/squid/ntlm_fake_auth")
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.soak,
    pytest.mark.skipif(SQUID is None, reason="needs squid"),
]
PASSWORD = "Squid-Passw0rd"
_CHECKER = f"""#!/bin/sh
while read -r user password; do
    if [ "$user $password" = "edge {PASSWORD}" ]; then echo OK; else echo ERR; fi
done
"""


def _readable_for_all() -> tuple[Path, Path]:
    folder = Path(tempfile.mkdtemp(prefix="squid-"))
    folder.chmod(0o755)
    checker = folder / "checker"
    checker.write_text(_CHECKER)
    checker.chmod(0o755)
    return folder, checker


@asynccontextmanager
async def _squid(*rules: str) -> AsyncIterator[str]:
    """Its URL. Started by root it becomes another user, who must be able to read what it needs."""
    assert SQUID is not None
    port = free_port()
    folder, checker = _readable_for_all()
    lines = [
        f"http_port 127.0.0.1:{port}",
        "pid_filename none",
        "cache deny all",
        "access_log none",
        "cache_log /dev/null",
        "shutdown_lifetime 0 seconds",
        *(rule.format(checker=checker) for rule in rules),
    ]
    (folder / "squid.conf").write_text("\n".join(lines) + "\n")
    process = await asyncio.create_subprocess_exec(
        SQUID, "-N", "-f", str(folder / "squid.conf"), stderr=asyncio.subprocess.DEVNULL
    )

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, what="squid listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


async def test_a_squid_with_a_login(worker: Patient, relay: Relay) -> None:
    worker.secrets += [PASSWORD, "wrong-password"]
    rules = (
        "auth_param basic program {checker}",
        "acl known proxy_auth REQUIRED",
        f"acl relay port {relay.port}",
        "http_access deny CONNECT !relay",
        "http_access allow known",
        "http_access deny all",
    )
    async with _squid(*rules) as url:
        missing = await worker.examined("--proxy-url", url)
        wrong = await worker.examined(env={"HTTPS_PROXY": url.replace("//", "//edge:wrong-password@")})
        right = {"HTTPS_PROXY": url.replace("//", f"//edge:{PASSWORD}@")}
        good = await worker.examined(env=right)
        blocked = await worker.examined("--relay-url", f"https://localhost:{free_port()}", env=right)
    detail, advice = missing.fault("proxy.tunnel")
    assert "answers 407 Proxy Authentication Required" in detail
    assert "ERR_CACHE_ACCESS_DENIED" in detail
    assert "none is set" in advice
    assert "the configured one is wrong" in wrong.fault("proxy.tunnel")[1]
    assert not good.all("failed", "warning", "not_tried")
    assert blocked.all("failed") == ["proxy.tunnel"]
    assert "answers 403 Forbidden" in blocked.of("proxy.tunnel")["detail"]
    assert "to allow CONNECT to localhost:" in blocked.of("proxy.tunnel")["advice"]


async def test_a_relay_that_a_squid_does_not_find(worker: Patient) -> None:
    async with _squid("http_access allow all") as url:
        down = await worker.examined("--proxy-url", url, "--relay-url", f"https://localhost:{free_port()}")
        unknown = await worker.examined("--proxy-url", url, "--relay-url", "https://relay.invalid")
    assert "ERR_CONNECT_FAIL" in down.of("proxy.tunnel")["detail"]
    for report in (down, unknown):
        assert report.all("failed") == ["proxy.tunnel"]
        assert "the proxy does not reach" in report.of("proxy.tunnel")["advice"]


@pytest.mark.skipif(not NTLM.exists(), reason="needs the NTLM helper of squid")
async def test_a_squid_that_wants_ntlm(worker: Patient) -> None:
    rules = (f"auth_param ntlm program {NTLM}", "acl known proxy_auth REQUIRED", "http_access allow known")
    async with _squid(*rules) as url:
        _, advice = (await worker.examined("--proxy-url", url)).fault("proxy.tunnel")
    assert "a login by NTLM; the worker supports Basic only" in advice
