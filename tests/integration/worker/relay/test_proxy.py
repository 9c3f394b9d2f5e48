"""Through a real CONNECT proxy with basic authentication, over TLS, to a relay with a private authority."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_schemas.wire.polls import PROTOCOL
from edge_schemas.wire.workers import EnrollRequest
from edge_worker.relay.call_result import NoAnswer
from edge_worker.relay.client import RelayClient
from edge_worker.relay.proxy import Proxy, resolve_proxy
from edge_worker.relay.retry import Fate, fate_of
from edge_worker.relay.tls import tls_context
from edge_worker.settings import Settings
from support.network.certificates import Certificates
from support.network.forward_proxy import forward_proxy
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay

_USER, _PASSWORD = "user", "p@ss word"
_REQUEST = EnrollRequest(protocol=PROTOCOL, secret_hash="0" * 64)


@asynccontextmanager
async def _proxy(folder: Path, *options: str) -> AsyncIterator[int]:
    async with forward_proxy(folder, "--basic-auth", f"{_USER}:{_PASSWORD}", *options) as port:
        yield port


@pytest.fixture
async def tls_relay(certificates: Certificates) -> AsyncIterator[FakeRelay]:
    fake = FakeRelay(tls=certificates.server_context())
    await fake.start()
    yield fake
    await fake.stop()


def _client(relay: FakeRelay, settings: Settings, environment: dict[str, str]) -> RelayClient:
    proxy = resolve_proxy(relay.url, settings, environment)
    return RelayClient(relay.url, ENROLL_TOKEN, tls=tls_context(settings), proxy=proxy)


async def test_credentials_from_the_environment(
    tls_relay: FakeRelay, certificates: Certificates, tmp_path: Path
) -> None:
    async with _proxy(tmp_path) as port:
        environment = {"HTTPS_PROXY": f"http://{_USER}:p%40ss%20word@127.0.0.1:{port}"}
        async with _client(tls_relay, Settings(ca_file=certificates.ca_file), environment) as client:
            assert (await client.enroll(_REQUEST)).worker == "worker-1"


async def test_credentials_from_settings(tls_relay: FakeRelay, certificates: Certificates, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(_PASSWORD + "\n")
    async with _proxy(tmp_path) as port:
        settings = Settings(
            ca_file=certificates.ca_file,
            proxy_url=f"127.0.0.1:{port}",
            proxy_user=_USER,
            proxy_password_file=password,
        )
        async with _client(tls_relay, settings, {"HTTPS_PROXY": "http://127.0.0.1:1"}) as client:
            assert (await client.enroll(_REQUEST)).worker == "worker-1"


async def test_a_wrong_password_is_said_to_be_the_proxys_and_is_retried_slowly(
    tls_relay: FakeRelay, certificates: Certificates, tmp_path: Path
) -> None:
    async with _proxy(tmp_path) as port:
        environment = {"HTTPS_PROXY": f"http://{_USER}:wrong@127.0.0.1:{port}"}
        async with _client(tls_relay, Settings(ca_file=certificates.ca_file), environment) as client:
            with pytest.raises(NoAnswer, match=f"the proxy http://127.0.0.1:{port} answered 407") as refused:
                await client.enroll(_REQUEST)
    assert fate_of(refused.value) is Fate.RETRY_SLOWLY
    assert "wrong" not in str(refused.value)
    assert not tls_relay.requests


async def test_a_dead_proxy_is_no_reason_to_go_direct(tls_relay: FakeRelay, certificates: Certificates) -> None:
    environment = {"HTTPS_PROXY": "http://127.0.0.1:1"}
    async with _client(tls_relay, Settings(ca_file=certificates.ca_file), environment) as client:
        with pytest.raises(NoAnswer, match=r"the proxy http://127\.0\.0\.1:1 cannot be reached"):
            await client.enroll(_REQUEST)
    assert not tls_relay.requests


async def test_no_proxy_goes_direct(tls_relay: FakeRelay, certificates: Certificates) -> None:
    environment = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.0/8"}
    async with _client(tls_relay, Settings(ca_file=certificates.ca_file), environment) as client:
        assert (await client.enroll(_REQUEST)).worker == "worker-1"


async def test_a_proxy_that_is_itself_reached_over_tls(
    tls_relay: FakeRelay, certificates: Certificates, tmp_path: Path
) -> None:
    files = ("--cert-file", str(certificates.cert_file), "--key-file", str(certificates.key_file))
    async with _proxy(tmp_path, *files) as port:
        environment = {"HTTPS_PROXY": f"https://{_USER}:p%40ss%20word@127.0.0.1:{port}"}
        settings = Settings(ca_file=certificates.ca_file, proxy_ca_file=certificates.ca_file)
        async with _client(tls_relay, settings, environment) as client:
            assert (await client.enroll(_REQUEST)).worker == "worker-1"


async def test_a_relay_with_an_unknown_authority_is_not_trusted(tls_relay: FakeRelay) -> None:
    async with RelayClient(tls_relay.url, ENROLL_TOKEN, tls=tls_context(Settings()), proxy=None) as client:
        with pytest.raises(NoAnswer, match="is not trusted"):
            await client.enroll(_REQUEST)


def test_a_proxy_shows_no_credential() -> None:
    proxy = Proxy("http://p:1", "proxy_url", "Basic c2VjcmV0")
    assert "c2VjcmV0" not in repr(proxy)
