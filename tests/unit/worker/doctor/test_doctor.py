"""Parts of the doctor that no broken set-up shows in full."""

import asyncio
import dataclasses
import datetime as dt
import json
import os
import re
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_service.findings import Finding, Status, ok, warning
from edge_worker.doctor import (
    checks,
    machine_checks,
    path_checks,
    relay_checks,
    runtime_checks,
    settings_checks,
    state_checks,
    tls_checks,
)
from edge_worker.doctor.certificate import read_certificate
from edge_worker.doctor.limits import Deadline, in_thread
from edge_worker.doctor.network_path import Head, NoHttp
from edge_worker.doctor.redact import Redactor
from edge_worker.doctor.settings_checks import SourcedSettings
from edge_worker.doctor.tls_checks import clock_difference, skew_s
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.settings import Settings
from edge_worker.state.runtime_dir import SOCKET_NAME

RELAY = "https://relay.example.com"


def _certificate(common: str | None, organisation: str | None, *, years: int = 1) -> bytes:
    names = [(NameOID.COMMON_NAME, common), (NameOID.ORGANIZATION_NAME, organisation)]
    issuer = x509.Name([x509.NameAttribute(oid, value) for oid, value in names if value])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay")])
    alternative = x509.SubjectAlternativeName([x509.DNSName("relay.example.com"), x509.DNSName("*.example.org")])
    key = ec.generate_private_key(ec.SECP256R1())
    begins = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins.replace(year=2026 + years))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("common", "organisation", "name"),
    [
        ("Acme CA", None, "Acme CA"),
        ("Proxy", "Åkme Industri", "Proxy (Åkme Industri)"),
        ("Acme Proxy", "Acme", "Acme Proxy"),
        (None, "Acme", "Acme"),
        (None, None, "a nameless signer"),
    ],
)
def test_a_certificate_says_who_signed_it(common: str | None, organisation: str | None, name: str) -> None:
    """40 years on, times are written in another form."""
    for years in (1, 40):
        found = read_certificate(_certificate(common, organisation, years=years))
        assert found is not None
        assert (found.issuer, found.subject) == (name, "relay")
        assert found.names == ("relay.example.com", "*.example.org")
        assert (found.not_before.isoformat(), found.not_after.year) == ("2026-01-02T03:04:05+00:00", 2026 + years)


def test_what_is_no_certificate_is_none() -> None:
    """Whoever answers at the other end chooses these bytes."""
    whole = _certificate("Acme CA", "Acme")
    assert read_certificate(b"") is None
    for cut in range(1, len(whole)):
        assert read_certificate(whole[:cut]) is None
    for place in range(0, len(whole), 7):
        read_certificate(whole[:place] + b"\xff" + whole[place + 1 :])


def test_no_authority_that_everybody_trusts_is_taken_for_a_proxy() -> None:
    """A false alarm at each site would be read at none."""
    everywhere = ssl.create_default_context(cafile=certifi.where()).get_ca_certs(binary_form=True)
    names = [found.subject for der in everywhere if (found := read_certificate(der)) is not None]
    assert len(names) == len(everywhere) > 50
    assert not [name for name in names if tls_checks.INSPECTORS.search(name)]
    for name in ("Zscaler Intermediate Root CA", "FortiGate CA", "mitmproxy", "Acme Web Proxy", "Sophos SSL CA"):
        assert tls_checks.INSPECTORS.search(name)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(61, "61 seconds ahead of"), (-300, "5 minutes behind"), (7300, "2 hours ahead of"), (-9e5, "10 days behind")],
)
def test_a_clock_is_told_in_a_unit_that_people_use(seconds: float, told: str) -> None:
    assert clock_difference(seconds) == told


def test_a_date_that_is_none_tells_no_skew() -> None:
    now = dt.datetime(2026, 1, 2, 3, 4, 15, tzinfo=dt.UTC)
    assert skew_s("Fri, 02 Jan 2026 03:04:05 GMT", now) == 9.5
    for nonsense in ("", "yesterday", "Fri, 02 Jan 2026 03:04:05 -0000"):
        assert skew_s(nonsense, now) is None


@pytest.mark.parametrize("head", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 \xb2\r\n\r\n", b"\r\n\r\n"])
def test_what_is_no_http_is_seen(head: bytes) -> None:
    with pytest.raises(NoHttp):
        Head.parse(head)


def test_the_page_lists_every_check() -> None:
    page = (Path(__file__).parents[4] / "docs" / "howto" / "first-start-fails.md").read_text()
    _, _, ours = page.partition("`edge-worker doctor`")
    modules = (
        checks, machine_checks, relay_checks, runtime_checks, settings_checks, state_checks,
        tls_checks, path_checks,
    )  # fmt: skip
    ids = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z-]+\.[a-z_]+", value)
    }
    ids.discard(SOCKET_NAME)
    assert len(ids) > 25
    assert not {one for one in ids if f"`{one}`" not in ours}


# Settings


def _proxy(proxies: Mapping[str, str], **settings: object) -> Finding:
    given = SourcedSettings(
        Settings.model_validate(settings), {"proxy_url": "the file x"}, frozenset(proxies), dict(proxies)
    )
    return settings_checks.proxy_finding(given, RELAY)[0]


@pytest.mark.parametrize(
    ("proxies", "settings", "status", "words"),
    [
        ({}, {}, "ok", "no proxy is set"),
        ({"HTTPS_PROXY": "http://p:1"}, {}, "ok", "http://p:1 from the variable HTTPS_PROXY, without a login"),
        ({"HTTPS_PROXY": "http://p:1"}, {"proxy_url": "http://u:pw@q:2"}, "ok", "http://q:2 from the file x, with a"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, {}, "ok", "NO_PROXY says that relay.example.com"),
        ({"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2"}, {}, "warning", "and HTTPS_PROXY differ"),
        ({"http_proxy": "http://p:1"}, {}, "warning", "http_proxy is set, which is for http:// addresses only"),
        ({}, {"proxy_url": "http://p:1", "proxy_user": "u"}, "warning", "proxy_user is set without a password"),
        ({"ALL_PROXY": "socks5://p:1"}, {}, "failed", "ALL_PROXY: a proxy of kind 'socks5' is not supported"),
        ({}, {"proxy_url": "http://p:1", "proxy_password_file": "/no/such"}, "failed", "proxy_password_file"),
    ],
)  # fmt: skip
def test_which_proxy_is_told_with_who_named_it(
    proxies: dict[str, str], settings: dict[str, object], status: str, words: str
) -> None:
    found = _proxy(proxies, **settings)
    assert (found.status, words in found.detail) == (status, True), found


# Limits


def test_a_user_without_a_name_is_found_before_the_first_task_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    found = machine_checks.user_finding(settings, {"HOME": "/"})
    assert (found.check, found.status) == ("machine.user", "failed")
    assert "54321" in found.detail
    assert machine_checks.user_finding(settings, {"USER": "plant"}).detail == "tasks run as plant"


async def test_what_takes_too_long_ends_and_says_what_to_do() -> None:
    """Also what hangs in a thread: a network file system that is away."""
    release = threading.Event()

    async def hang() -> Finding:
        return await in_thread(lambda: ok("x.y", str(release.wait(20))))

    check = Deadline(20).check("x.y", hang, limit_s=0.05, when_late="Look at the disk.")
    found = await check.run()
    release.set()
    assert isinstance(found, Finding)
    assert (found.status, found.advice) == (Status.FAILED, "Look at the disk.")


async def test_after_the_end_of_the_whole_nothing_is_tried() -> None:
    async def never() -> Finding:
        raise AssertionError

    deadline = Deadline(0.01)
    await asyncio.sleep(0.02)
    found = await deadline.check("x.y", never, limit_s=5, when_late="").run()
    assert isinstance(found, Finding)
    assert found.status is Status.NOT_TRIED


def test_no_secret_passes_the_redactor(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter22\n")
    settings = Settings.model_validate(
        {"proxy_url": "http://p:1", "proxy_user": "u", "proxy_password_file": password, "enroll_token": "ere_token"}
    )
    proxy = resolve_proxy(RELAY, settings, {})
    assert proxy is not None
    assert proxy.authorization is not None
    redactor = Redactor()
    redactor.add_from(settings, None, proxy)
    said = warning("x.y", f"a page with {proxy.authorization} and hunter22", "say ere_token again")
    passed = json.dumps(dataclasses.asdict(redactor.redacted(said)))
    for secret in ("hunter22", "ere_token", proxy.authorization.split()[1]):
        assert secret not in passed
