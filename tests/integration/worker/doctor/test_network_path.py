"""The doctor names the fault between the machine and its relay: names, proxies, TLS, load balancers."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from integration.worker.doctor.conftest import Relay
from support.doctor.examination import Patient
from support.nats.server import eventually, free_port
from support.network.broken_paths import OPENED, front, inspector, passing_on, proxy, refusal
from support.network.certificates import Certificates, make_certificates

pytestmark = pytest.mark.asyncio(loop_scope="session")
PASSWORD = "Proxy-Passw0rd"
AFTER_THE_WAY = ["relay.url", "clock.skew", "relay.ready", "credential.known"]


def _through(url: str) -> dict[str, str]:
    return {"HTTPS_PROXY": url}


# Proxies


@asynccontextmanager
async def _real_proxy(folder: Path) -> AsyncIterator[int]:
    port_file = folder / "port"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--port-file", str(port_file),
        "--num-acceptors", "1", "--num-workers", "1", "--log-level", "ERROR", "--basic-auth", f"edge:{PASSWORD}",
    )  # fmt: skip
    try:
        await eventually(lambda: port_file.exists() and port_file.read_text().strip().isdigit())
        yield int(port_file.read_text())
    finally:
        process.terminate()
        await process.wait()


async def test_a_proxy_that_wants_a_login(worker: Patient, tmp_path: Path) -> None:
    worker.secrets += [PASSWORD, "wrong-password"]
    async with _real_proxy(tmp_path) as port:
        missing = await worker.examined(env=_through(f"http://127.0.0.1:{port}"))
        wrong = await worker.examined(env=_through(f"http://edge:wrong-password@127.0.0.1:{port}"))
        right = await worker.examined(env=_through(f"http://edge:{PASSWORD}@127.0.0.1:{port}"))
    detail, advice = missing.fault("proxy.tunnel")
    assert f"127.0.0.1:{port} answers 407" in detail
    assert "Basic, and none is set" in advice
    assert "--proxy-password-file" in advice
    _, advice = wrong.fault("proxy.tunnel")
    assert "the configured one is wrong" in advice
    assert not right.all("failed", "warning", "not_tried")
    assert "the variable HTTPS_PROXY, with a login" in right.of("settings.proxy")["detail"]


async def test_a_login_that_the_worker_does_not_speak(worker: Patient) -> None:
    answer = refusal("407 Login please", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM")
    async with proxy(answer) as url:
        _, advice = (await worker.examined(env=_through(url))).fault("proxy.tunnel")
    assert "a login by NTLM and Negotiate" in advice
    assert "cntlm" in advice


async def test_a_port_that_the_proxy_blocks(worker: Patient, relay: Relay) -> None:
    async with proxy(refusal("403 Forbidden", "X-Squid-Error: ERR_ACCESS_DENIED 0")) as url:
        report = await worker.examined("--proxy-url", url)
    detail, advice = report.fault("proxy.tunnel")
    assert "answers 403 Forbidden" in detail
    assert "ERR_ACCESS_DENIED" in detail
    assert f"to allow CONNECT to 127.0.0.1:{relay.port}. Most allow port 443 only" in advice
    assert report.all("not_tried")[:5] == ["tls.chain", *AFTER_THE_WAY]
    assert "the option --proxy-url" in report.of("settings.proxy")["detail"]


async def test_a_relay_that_the_proxy_does_not_reach(worker: Patient) -> None:
    async with proxy(refusal("503 Service Unavailable", "X-Squid-Error: ERR_CONNECT_FAIL 111")) as url:
        detail, advice = (await worker.examined(env=_through(url))).fault("proxy.tunnel")
    assert "ERR_CONNECT_FAIL" in detail
    assert "the proxy does not reach" in advice


async def test_a_proxy_that_is_down(worker: Patient) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    detail, advice = (await worker.examined(env=_through(url))).fault("proxy.connect")
    assert "connection refused" in detail
    assert "named by HTTPS_PROXY" in advice


async def test_a_proxy_with_a_certificate_of_an_unknown_authority(worker: Patient, certificates: Certificates) -> None:
    async with proxy(tls=certificates.server_context()) as url:
        detail, advice = (await worker.examined(env=_through(url))).fault("proxy.tls")
    assert "signed by 'Acme Root'" in detail
    assert "--proxy-ca-file" in advice


async def test_a_proxy_that_is_meant_for_plain_http_only(worker: Patient) -> None:
    """A classic: the worker would go directly, and be dropped by the firewall."""
    detail, advice = (await worker.examined(env={"HTTP_PROXY": "http://127.0.0.1:1"})).doubt("settings.proxy")
    assert "HTTP_PROXY is set, which is for http:// addresses only" in detail
    assert "HTTPS_PROXY" in advice


# Names and ports


async def test_a_name_that_nobody_knows(worker: Patient) -> None:
    worker.environment["EDGE_WORKER_RELAY_URL"] = "https://relay.invalid"
    report = await worker.examined()
    assert report.all("failed", "warning") == ["settings.relay", "dns.lookup"]
    assert "relay.invalid is not found" in report.of("dns.lookup")["detail"]
    assert "HTTPS_PROXY" in report.of("dns.lookup")["advice"]
    assert "while this worker was enrolled at" in report.of("settings.relay")["detail"]


async def test_a_port_where_nobody_listens(patient: Patient) -> None:
    report = await patient.examined("--relay-url", f"https://127.0.0.1:{free_port()}")
    assert report.all("failed") == ["tcp.connect"]


# TLS


def _together(folder: Path, *files: Path) -> str:
    both = folder / "both.pem"
    both.write_text("".join(file.read_text() for file in files))
    return str(both)


async def test_a_proxy_that_inspects_tls(
    worker: Patient, relay: Relay, certificates: Certificates, tmp_path: Path
) -> None:
    async with (
        inspector(certificates.server_context(), relay.url, relay.trusted) as port,
        proxy(OPENED, leads_to=port) as url,
    ):
        unknown = await worker.examined(env=_through(url))
        trusted = await worker.examined(
            "--ca-file", _together(tmp_path, relay.ca, certificates.ca_file), env=_through(url)
        )
        # Its authority is one of the system's, as where a company installs it on all machines.
        everywhere = await worker.examined(env=_through(url) | {"SSL_CERT_FILE": str(certificates.ca_file)})
    detail, advice = unknown.fault("tls.chain")
    assert "signed by 'Acme Root', and ca_file" in detail
    assert "'Edge Relay development CA" in detail
    assert "a proxy inspects TLS" in advice
    detail, _ = everywhere.doubt("tls.chain")
    assert "by an authority of this system and not by one of" in detail
    detail, advice = trusted.doubt("tls.chain")
    assert "signed by 'Acme Root'" in detail
    assert "probably by a proxy that inspects TLS" in detail
    assert "sees this worker's credential" in advice


async def test_an_authority_that_is_not_the_relays(worker: Patient, relay: Relay, certificates: Certificates) -> None:
    detail, advice = (await worker.examined("--ca-file", str(certificates.ca_file))).fault("tls.chain")
    assert "signed by 'Edge Relay development CA" in detail
    assert "holds 'Acme Root'" in detail
    assert "--ca-file" in advice


async def test_a_relay_with_an_authority_of_its_own_and_no_ca_file(worker: Patient) -> None:
    worker.environment.pop("EDGE_WORKER_CA_FILE")
    detail, advice = (await worker.examined()).fault("tls.chain")
    assert "signed by 'Edge Relay development CA" in detail
    assert advice.startswith("Get the authority's certificate")
    assert "ca.pem" in advice


@asynccontextmanager
async def _shows(relay: Relay, certificates: Certificates) -> AsyncIterator[dict[str, str]]:
    """A relay with another certificate, whose authority is trusted."""
    async with inspector(certificates.server_context(), relay.url, relay.trusted) as port:
        yield {
            "EDGE_WORKER_RELAY_URL": f"https://localhost:{port}",
            "EDGE_WORKER_CA_FILE": str(certificates.ca_file),
        }


async def test_an_expired_certificate(patient: Patient, relay: Relay, tmp_path: Path) -> None:
    expired = make_certificates(tmp_path, begins=timedelta(days=-9), ends=timedelta(days=-2))
    async with _shows(relay, expired) as env:
        report = await patient.examined(env=env)
    assert report.all("failed") == ["tls.chain"]
    assert "must be renewed" in report.of("tls.chain")["advice"]


async def test_a_clock_so_wrong_that_the_certificate_seems_not_valid(
    patient: Patient, relay: Relay, tmp_path: Path
) -> None:
    """The other side's clock is three days ahead; so is its certificate."""
    later = make_certificates(tmp_path, begins=timedelta(days=2), ends=timedelta(days=9))
    async with (
        passing_on(relay.url, relay.trusted, clock=timedelta(days=3)) as handler,
        front(handler, later.server_context()) as url,
    ):
        report = await patient.examined("--relay-url", url, "--ca-file", str(later.ca_file))
    assert report.all("failed") == ["tls.chain"]
    assert "this machine's clock is 3 days behind" in report.of("tls.chain")["detail"]
    assert "Set this machine's clock" in report.of("tls.chain")["advice"]


async def test_a_certificate_for_another_name(patient: Patient, relay: Relay, tmp_path: Path) -> None:
    other = make_certificates(tmp_path, host="relay.example.com")
    async with _shows(relay, other) as env:
        report = await patient.examined(env=env)
    assert report.all("failed") == ["tls.chain"]
    assert "not for localhost but for relay.example.com" in report.of("tls.chain")["detail"]
    assert "relay.example.com" in report.of("tls.chain")["advice"]


async def test_something_without_tls(patient: Patient, relay: Relay) -> None:
    operators = relay.edge.relays[0].operators_url.replace("http://", "https://")
    report = await patient.examined("--relay-url", operators)
    assert report.all("failed") == ["tls.chain"]
    assert "no TLS with" in report.of("tls.chain")["detail"]


# What answers


@asynccontextmanager
async def _front(handler: object, certificates: Certificates) -> AsyncIterator[dict[str, str]]:
    # Each handler of the table takes a request.
    async with front(handler, certificates.server_context()) as url:  # type: ignore[arg-type]
        yield {"EDGE_WORKER_RELAY_URL": url, "EDGE_WORKER_CA_FILE": str(certificates.ca_file)}


@pytest.mark.parametrize(("seconds", "status"), [(300, "failed"), (-20, "warning")])
async def test_a_skewed_clock(
    patient: Patient, relay: Relay, certificates: Certificates, seconds: int, status: str
) -> None:
    async with (
        passing_on(relay.url, relay.trusted, clock=timedelta(seconds=seconds)) as handler,
        _front(handler, certificates) as env,
    ):
        report = await patient.examined(env=env)
    assert (report.of("clock.skew")["status"], report.of("relay.ready")["status"]) == (status, "ok")
    assert ("5 minutes behind" if seconds > 0 else "20 seconds ahead of") in report.of("clock.skew")["detail"]
    assert "time server" in report.of("clock.skew")["advice"]


@pytest.mark.parametrize(("given", "real"), [("", "/edge-relay"), ("/wrong/deep", "")])
async def test_a_wrong_path_prefix(
    patient: Patient, relay: Relay, certificates: Certificates, given: str, real: str
) -> None:
    async with (
        passing_on(relay.url, relay.trusted, below=real) as handler,
        _front(handler, certificates) as env,
    ):
        url = env["EDGE_WORKER_RELAY_URL"]
        report = await patient.examined(env=env | {"EDGE_WORKER_RELAY_URL": url + given})
    assert report.all("failed") == ["relay.url"]
    assert "something else answers" in report.of("relay.url")["detail"]
    assert report.of("relay.url")["advice"].startswith(f"The relay is at {url}{real}: make that")


async def test_a_relay_that_is_down_behind_a_load_balancer(patient: Patient, certificates: Certificates) -> None:
    async def bad_gateway(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>502 Bad Gateway</html>", content_type="text/html")

    async with _front(bad_gateway, certificates) as env:
        report = await patient.examined(env=env)
    assert report.all("failed") == ["relay.ready"]
    assert "status 502" in report.of("relay.ready")["detail"]
    assert "the relay behind it is down" in report.of("relay.ready")["advice"]


async def test_a_page_to_log_in_at(worker: Patient, certificates: Certificates) -> None:
    """Whoever it is, it must not be shown the credential."""
    seen: list[str] = []

    async def portal(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(text="<html>Guest network: accept the terms</html>", content_type="text/html")

    async with _front(portal, certificates) as env:
        report = await worker.examined(env=env)
    assert report.all("failed") == ["relay.url"]
    assert "Guest network" in report.of("relay.url")["detail"]
    assert "page to log in at" in report.of("relay.url")["advice"]
    assert set(seen) == {""}
