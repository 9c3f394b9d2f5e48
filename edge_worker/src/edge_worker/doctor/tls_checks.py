"""TLS with the relay: is its certificate trusted, who signed it, and does a proxy inspect the connection?"""

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from edge_schemas.wire import routes
from edge_service.findings import Check, Finding, failed, ok, warning
from edge_worker.doctor.certificate import Certificate, read_certificate
from edge_worker.doctor.limits import Deadline
from edge_worker.doctor.network_path import NetworkPath, NoHttp, Stream, TunnelRefused, trusting_only, unverified
from edge_worker.doctor.path_checks import describe, names_of, signed_by

TLS = "tls.chain"
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_HOST = {62, 64}
_MAX_AUTHORITIES = 8
_ENDS_SOON = timedelta(days=7)
SKEW_THAT_MATTERS_S = 60.0
INSPECTORS = re.compile(
    r"proxy|gateway|firewall|inspect|intercept|mitm|decrypt|web ?filter|zscaler|netskope|blue ?coat|symantec web"
    r"|forcepoint|websense|fortin?et|fortigate|palo ?alto|sophos|mcafee|skyhigh|umbrella|check ?point|squid|kaspersky"
    r"|avast|barracuda|watchguard|sonicwall|untangle|burp|charles|fiddler",
    re.IGNORECASE,
)
_OWN_AUTHORITY = re.compile(r"\bEdge Relay\b")
_NEEDS_CA = (
    "Get the authority's certificate (PEM; it is not secret) and configure the file with --ca-file. If the relay made "
    "its own authority, the file is ca.pem in its TLS folder."
)
_IS_INSPECTED = (
    "The proxy reads the traffic and sees this worker's credential. Have its operators exempt the relay's name from "
    "inspection, or accept the risk."
)


@dataclass(frozen=True)
class Authorities:
    """The authorities in a `ca_file`: name and DER form of each."""

    file: Path | None
    all: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, file: Path | None) -> "Authorities":
        """The authorities in a file. It is readable, otherwise the settings would have been refused."""
        if file is None:
            return cls(None, ())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=str(file))
        found = ((read_certificate(der), der) for der in context.get_ca_certs(binary_form=True))
        return cls(file, tuple((certificate.subject, der) for certificate, der in found if certificate is not None))

    @property
    def names(self) -> str:
        """For people."""
        return ", ".join(repr(name) for name, _ in self.all) or "no authority"


def tls_check(path: NetworkPath, ca_file: Path | None, needs: str, deadline: Deadline) -> Check:
    """The check of the relay's certificate."""
    return deadline.check(
        TLS,
        _TlsChecks(path, ca_file).chain,
        needs=(needs,),
        limit_s=8,
        when_late="The TLS handshake gets no answer: a firewall that filters by name, or an overloaded relay?",
    )


class _TlsChecks:
    def __init__(self, path: NetworkPath, ca_file: Path | None) -> None:
        self._path = path
        self._ca_file = ca_file

    async def chain(self) -> Finding:
        try:
            async with self._path.secured(self._path.tls) as stream:
                found = read_certificate(stream.certificate())
            return await self._trusted(found)
        except ssl.SSLCertVerificationError as error:
            return await self._untrusted(error)
        except (ssl.SSLError, OSError) as error:
            advice = (
                f"Does a relay with TLS listen at {self._path.relay.authority}? A firewall that filters by host name "
                "also closes the connection here."
            )
            return failed(TLS, f"no TLS with {self._path.relay.authority}: {describe(error)}", advice)
        except (NoHttp, TunnelRefused):
            return failed(
                TLS, "the proxy opened one tunnel and refused the next", "Try again; ask the operators of the proxy."
            )

    async def _trusted(self, found: Certificate | None) -> Finding:
        authorities = Authorities.of(self._ca_file)
        anchor = await self._anchor(authorities)
        signer = f"{signed_by(found)}" + (f", trusted by {authorities.file}" if anchor else "")
        detail = f"the certificate of {self._path.relay.host} is {signer}"
        if inspector := self._inspector(found, anchor, authorities):
            return warning(TLS, f"{detail}: {inspector}", _IS_INSPECTED)
        if found is not None and found.not_after - datetime.now(UTC) < _ENDS_SOON:
            when = found.not_after.strftime("%Y-%m-%d %H:%M UTC")
            return warning(TLS, f"{detail} and expires {when}", "Ask the relay's operator to renew it.")
        until = found.not_after.strftime(" and valid until %Y-%m-%d") if found else ""
        return ok(TLS, f"{detail}{until}")

    def _inspector(self, found: Certificate | None, anchor: str | None, authorities: Authorities) -> str:
        """Why a proxy in between seems to have made the certificate; empty if nothing indicates it."""
        if found is None:
            return ""
        if authorities.all and anchor is None:
            return (
                f"by an authority of this system and not by one of {authorities.file} ({authorities.names}), so "
                "perhaps by a proxy that inspects TLS"
            )
        own = [name for name, _ in authorities.all if _OWN_AUTHORITY.search(name)]
        if anchor is not None and own and anchor not in own:
            return f"not by {own[0]!r} in the same file, so probably by a proxy that inspects TLS"
        if INSPECTORS.search(found.issuer):
            return "its name suggests a proxy that inspects TLS"
        return ""

    async def _anchor(self, authorities: Authorities) -> str | None:
        """Which of the authorities has signed the relay's certificate."""
        for name, der in authorities.all[:_MAX_AUTHORITIES]:
            try:
                async with self._path.secured(trusting_only(der)):
                    return name
            except (ssl.SSLError, OSError, NoHttp, TunnelRefused):
                continue
        return None

    async def _untrusted(self, error: ssl.SSLCertVerificationError) -> Finding:
        host = self._path.relay.host
        async with self._path.secured(unverified()) as stream:
            found = read_certificate(stream.certificate())
            if error.verify_code in {_EXPIRED, _NOT_YET_VALID} and found is not None:
                return _out_of_date(host, found, await self._skew(stream))
        if error.verify_code in _WRONG_HOST:
            names = names_of(found)
            advice = f"Use one of these names in the relay's URL, or have the certificate made for {host} too: {names}."
            return failed(TLS, f"the certificate is not for {host} but for {names}; {signed_by(found)}", advice)
        return self._unknown_authority(host, error.verify_message, found)

    async def _skew(self, stream: Stream) -> float | None:
        """How far this machine's clock is ahead of the other side's, in seconds; the other side is not verified."""
        try:
            request = (
                f"HEAD {routes.HEALTHZ} HTTP/1.1\r\nHost: {self._path.relay.authority}\r\nConnection: close\r\n\r\n"
            )
            head = await stream.ask(request.encode())
        except (OSError, NoHttp):
            return None
        return skew_s(head.first("date"), datetime.now(UTC))

    def _unknown_authority(self, host: str, why: str, found: Certificate | None) -> Finding:
        authorities = Authorities.of(self._ca_file)
        detail = f"the certificate of {host} is not trusted ({why}): {signed_by(found)}"
        if found is None:
            return failed(TLS, detail, _NEEDS_CA)
        if authorities.file is None:
            own = _OWN_AUTHORITY.search(found.issuer)
            return failed(TLS, detail, _NEEDS_CA if own else f"{_inspected(found)} {_NEEDS_CA}")
        detail += f", and ca_file {authorities.file} holds {authorities.names}"
        if any(name == found.issuer for name, _ in authorities.all):
            advice = "The names are the same, but the keys differ: the authority was made again. " + _NEEDS_CA
            return failed(TLS, detail, advice)
        return failed(TLS, detail, f"{_inspected(found)} {_NEEDS_CA}")


def _inspected(found: Certificate) -> str:
    return (
        f"If {found.issuer!r} is your network's, a proxy inspects TLS and answers in the relay's place: preferably "
        "have the relay's name exempted, or add that authority to the ca_file. If it is the relay's:"
    )


def _out_of_date(host: str, found: Certificate, skew: float | None) -> Finding:
    valid = f"{found.not_before:%Y-%m-%d %H:%M} to {found.not_after:%Y-%m-%d %H:%M} UTC"
    detail = f"the certificate of {host} is valid from {valid}, and here it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    if skew is not None and abs(skew) > SKEW_THAT_MATTERS_S:
        detail += f"; this machine's clock is {clock_difference(skew)} the other side's"
        return failed(TLS, detail, "Set this machine's clock (NTP); the certificate is probably valid.")
    if found.not_after < datetime.now(UTC):
        return failed(TLS, detail, "Inform the relay's operator: the certificate has expired and must be renewed.")
    return failed(TLS, detail, "Is this machine's clock right? If it is, the relay's certificate is not valid yet.")


def skew_s(date: str, now: datetime) -> float | None:
    """This machine's clock minus that of an HTTP `Date` header, which has whole seconds; None if it is not a time."""
    try:
        other = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    if other.tzinfo is None:
        return None
    return (now - other).total_seconds() - 0.5


def clock_difference(skew: float) -> str:
    """`3.0 hours ahead of`, `12 seconds behind`."""
    size, unit = abs(skew), "seconds"
    for longer, factor in (("minutes", 60), ("hours", 60), ("days", 24)):
        if size < 2 * factor:
            break
        size, unit = size / factor, longer
    return f"{size:.0f} {unit} {'ahead of' if skew > 0 else 'behind'}"
