"""The development CA: what a strict client accepts, what is kept and what is renewed."""

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from edge_relay.standalone import tls

NOW = datetime.now(UTC)
HOSTS = ["localhost", "127.0.0.1", "::1", "relay.example"]


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def handshake(files: tls.TlsFiles, name: str) -> None:
    """A client as strict as Python 3.13 connects by this name."""
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(files.cert, files.key)
    client_side = ssl.create_default_context(cafile=str(files.ca_cert))
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=server_side) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side, server_hostname=name)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("name", HOSTS)
async def test_a_strict_client_accepts_every_host(tmp_path: Path, name: str) -> None:
    await handshake(tls.ensure(tmp_path, HOSTS, now=NOW), name)


async def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tls.ensure(tmp_path, HOSTS, now=NOW), "evil.example")


def test_nobody_else_can_read_the_keys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = tls.ensure(tmp_path / "new" / "tls", HOSTS, now=NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.ca_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.ca_key.parent.stat().st_mode) == 0o700


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in (tls.ensure(tmp_path, HOSTS, now=NOW).key.parent).iterdir()}
    tls.ensure(tmp_path, list(reversed(HOSTS)), now=NOW + timedelta(days=1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@pytest.mark.parametrize(
    ("hosts", "later"),
    [([*HOSTS, "new.example"], timedelta()), (HOSTS, tls.SERVER_LIFE - tls.RENEW_BEFORE + timedelta(minutes=1))],
    ids=["hosts changed", "about to expire"],
)
async def test_the_certificate_is_renewed_below_the_same_ca(tmp_path: Path, hosts: list[str], later: timedelta) -> None:
    files = tls.ensure(tmp_path, HOSTS, now=NOW)
    ca, cert = serial(files.ca_cert), serial(files.cert)
    tls.ensure(tmp_path, hosts, now=NOW + later)
    assert serial(files.ca_cert) == ca
    assert serial(files.cert) != cert


def test_a_ca_about_to_expire_is_renewed_with_its_certificate(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, HOSTS, now=NOW)
    ca, cert = serial(files.ca_cert), serial(files.cert)
    tls.ensure(tmp_path, HOSTS, now=NOW + tls.CA_LIFE)
    assert serial(files.ca_cert) != ca
    assert serial(files.cert) != cert


@pytest.mark.parametrize("damage", ["ca.pem", "ca.key", "relay.pem", "relay.key"])
async def test_a_damaged_or_foreign_file_is_replaced(tmp_path: Path, damage: str) -> None:
    """A run that was killed between two files leaves a key and a certificate that do not go together."""
    other = tls.ensure(tmp_path / "other", HOSTS, now=NOW)
    files = tls.ensure(tmp_path / "mine", HOSTS, now=NOW)
    for content in (b"", (other.key.parent / damage).read_bytes()):
        (tmp_path / "mine" / damage).write_bytes(content)
        tls.ensure(tmp_path / "mine", HOSTS, now=NOW)
        await handshake(files, "localhost")


@pytest.mark.parametrize("host", ["", "a b", "a..b", "https://x", "ex*mple"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(tls.HostRefused):
        tls.ensure(tmp_path, [host], now=NOW)
