"""Checks of the servers from outside: DNS, connection, version, TLS, and the roles' credentials and rights."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge_broker import layout
from edge_broker.doctor.address import Address, AddressWrong
from edge_broker.doctor.check_ids import CA_FILE, CONNECT, DNS, TLS, VERSION, credentials, rights
from edge_broker.doctor.probe import Probe
from edge_broker.doctor.reasons import reason, tls_advice
from edge_broker.doctor.rights_probe import missing_rights
from edge_broker.doctor.session import NatsSession
from edge_broker.doctor.wire import ProbeFailed
from edge_service.findings import Finding, failed, ok, warning
from edge_service.threads import run_in_daemon_thread

EXPIRES_SOON = timedelta(days=21)


class ServerChecks:
    """The checks; each uses what the ones before it left in the session."""

    def __init__(self, session: NatsSession) -> None:
        self._session = session

    async def dns(self) -> Finding:
        """The names of all servers are known."""
        session = self._session
        try:
            addresses = [Address.parse(url) for url in session.urls]
        except AddressWrong as error:
            return failed(DNS, str(error), f"Correct {session.setting}.")
        answers = await asyncio.gather(*map(_resolve, addresses), return_exceptions=True)
        good, bad = [], []
        for address, answer in zip(addresses, answers, strict=True):
            if isinstance(answer, BaseException):
                bad.append(f"{address.host}: {reason(answer)}")
            else:
                session.addresses.append(address)
                good.append(f"{address.host} is {answer}")
        return _of_servers(DNS, good, bad, f"Is the name in {session.setting} right? This machine's DNS must know it.")

    async def connect(self) -> Finding:
        """Each address is that of a NATS server."""
        session = self._session
        answers = await asyncio.gather(*map(session.connect, session.addresses), return_exceptions=True)
        good, bad = [], []
        for address, answer in zip(session.addresses, answers, strict=True):
            if isinstance(answer, Probe):
                session.greeted.append(answer)
                good.append(f"{address} is nats-server {answer.info.get('version')}")
            elif isinstance(answer, (OSError, ProbeFailed)):
                bad.append(f"{address}: {reason(answer)}")
            else:
                raise answer
        advice = f"Is nats-server up there, is {session.setting} right, and do firewalls let this machine through?"
        return _of_servers(CONNECT, good, bad, advice)

    async def version(self) -> Finding:
        """No server is too old."""
        oldest = ".".join(map(str, layout.OLDEST_SERVER))
        bad = [
            f"{probe.address} is nats-server {probe.info.get('version')}"
            for probe in self._session.greeted
            if probe.version < layout.OLDEST_SERVER
        ]
        if bad:
            text = f"Install nats-server {oldest} or later: an older one ignores what streams need, without an error."
            return failed(VERSION, "; ".join(bad), text)
        return ok(VERSION, f"{oldest} or later, as it must be")

    async def tls(self) -> Finding:
        """TLS where it is wanted, with a certificate that is trusted and stays valid."""
        session = self._session
        good, bad, advice = [], [], ""
        for probe in session.greeted:
            address = probe.address
            if not probe.needs_tls:
                if address.tls or session.ca_file is not None:
                    bad.append(f"{address} speaks no TLS: the password goes there in clear")
                    advice = f"Turn TLS on in nats-server, or write nats:// and no CA file in {session.setting}."
                else:
                    good.append(f"{address} asks for no TLS")
                session.usable.append(address)
                continue
            try:
                valid_until = await probe.secure(session.ca_file)
            except (ssl.SSLError, OSError) as error:
                bad.append(f"{address}: {reason(error)}")
                advice = tls_advice(error, session.setting)
                continue
            session.usable.append(address)
            if valid_until - datetime.now(UTC) < EXPIRES_SOON:
                bad.append(f"the certificate of {address} ends at {valid_until:%F}")
                advice = advice or "Renew the certificate of nats-server."
            else:
                good.append(f"{address}: certificate valid until {valid_until:%F}")
        if not bad:
            return ok(TLS, "; ".join(good))
        return (warning if session.usable else failed)(TLS, "; ".join(bad), advice)

    async def credentials(self, role: str) -> Finding:
        """A role can log in."""
        session = self._session
        probe = await session.connect(session.usable[0])
        if probe.needs_tls:
            await probe.secure(session.ca_file)
        try:
            await probe.log_in(role, session.passwords[role])
        except ProbeFailed as error:
            text = (
                f"Give nats-server and this machine the same password of user {role}: {role}.password in the secrets "
                "folder. 'edge-relay nats-config' prints a configuration with all users."
            )
            return failed(credentials(role), f"user {role} is refused: {error}", text)
        session.probes[role] = probe
        return ok(credentials(role), f"user {role} is accepted by {probe.address}")

    async def rights(self, role: str) -> Finding:
        """A role may do all that it needs."""
        missing = await missing_rights(self._session.probes[role], role)
        if missing:
            text = (
                "Give it these rights in nats-server and reload: 'edge-relay nats-config' prints the users with what "
                "each may do."
            )
            return failed(rights(role), f"user {role} may not {', '.join(missing)}", text)
        return ok(rights(role), f"user {role} may do all that it needs")


def ca_file_finding(setting: str, path: Path | None) -> Finding:
    """Whether the CA file that a setting names can be used."""
    if path is None:
        return ok(CA_FILE, "NATS servers are trusted by the machine's CAs")
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError is one
        text = f"Name a PEM file with the CA of nats-server in {setting}, or nothing."
        return failed(CA_FILE, f"{setting}: {path} can't be used: {reason(error)}", text)
    return ok(CA_FILE, f"NATS servers are trusted by the CAs in {path}")


def _of_servers(check: str, good: Sequence[str], bad: Sequence[str], advice: str) -> Finding:
    if not bad:
        return ok(check, "; ".join(dict.fromkeys(good)))
    return (warning if good else failed)(check, "; ".join(dict.fromkeys(bad)), advice)


async def _resolve(address: Address) -> str:
    answers = await run_in_daemon_thread(
        lambda: socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    )
    return str(answers[0][4][0])
