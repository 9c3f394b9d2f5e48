"""Names, proxy and TCP: can this machine connect to the relay's port at all?"""

import re
import socket
import ssl
from ipaddress import ip_address

from edge_service.findings import Check, Finding, failed, ok
from edge_worker.doctor.certificate import Certificate, read_certificate
from edge_worker.doctor.limits import Deadline, in_thread
from edge_worker.doctor.network_path import Head, Hop, NetworkPath, NoHttp, TunnelRefused, unverified

DNS, TCP, PROXY, PROXY_TLS, TUNNEL = "dns.lookup", "tcp.connect", "proxy.connect", "proxy.tls", "proxy.tunnel"
_SPOKEN_BY_LOCAL_PROXIES = {"ntlm", "negotiate", "kerberos"}
_SQUID_ERROR = re.compile(r"ERR_[A-Z_]+")
_ASK_THE_PROXY = "Ask the operators of the proxy"


def checks_of(path: NetworkPath, deadline: Deadline) -> list[Check]:
    """From names to the relay's TCP port; the last check is `last_check(path)`."""
    checks = _PathChecks(path)
    first = path.first.authority
    names = deadline.check(
        DNS,
        checks.names,
        limit_s=5,
        when_late="The name servers in /etc/resolv.conf do not answer; ask the operators of this network.",
    )
    if path.proxy_hop is None:
        dropped = (
            f"The packets to {first} are dropped: have the firewall allow them, or configure the proxy (--proxy-url)."
        )
        return [names, deadline.check(TCP, checks.tcp, needs=(DNS,), limit_s=6, when_late=dropped)]
    dropped = f"The packets to the proxy {first} are dropped: is it still the right proxy, is a firewall in between?"
    found = [names, deadline.check(PROXY, checks.proxy, needs=(DNS,), limit_s=6, when_late=dropped)]
    if path.proxy_hop.scheme == "https":
        plain = "Does the proxy accept TLS on this port? If not, its URL begins with http://."
        found.append(deadline.check(PROXY_TLS, checks.proxy_tls, needs=(PROXY,), limit_s=5, when_late=plain))
    if path.relay.scheme == "https":
        silent = (
            f"The proxy accepted the request for a tunnel to {path.relay.authority} and does not answer it: perhaps it "
            "cannot reach the relay. Ask its operators to check its log."
        )
        found.append(deadline.check(TUNNEL, checks.tunnel, needs=(found[-1].id,), limit_s=8, when_late=silent))
    return found


def last_check(path: NetworkPath) -> str:
    """The id of the check after which there is a connection to the relay."""
    if path.proxy_hop is None:
        return TCP
    if path.relay.scheme == "https":
        return TUNNEL
    return PROXY_TLS if path.proxy_hop.scheme == "https" else PROXY


class _PathChecks:
    def __init__(self, path: NetworkPath) -> None:
        self._path = path
        self._owner = "the proxy's" if path.proxy_hop else "the relay's"

    async def names(self) -> Finding:
        hop, owner = self._path.first, self._owner
        relay = self._path.relay.host
        note = ""
        if self._path.proxy_hop is not None and not _is_address(relay):
            note = f"; the name {relay} is looked up by the proxy, not here"
        if _is_address(hop.host):
            return ok(DNS, f"{hop.host} is {owner} address{note}")
        try:
            found = await in_thread(lambda: socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM))
        except socket.gaierror as error:
            return failed(DNS, f"{owner} name {hop.host} is not found: {error.strerror}", self._unknown_name())
        except UnicodeError:
            return failed(DNS, f"{hop.host} is not a valid host name", "Check the name for a typing error.")
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return ok(DNS, f"{hop.host} is {', '.join(addresses[:4])}{note}")

    def _unknown_name(self) -> str:
        if self._path.proxy_hop is not None:
            return (
                "Check the proxy's URL for a typing error, or ask the operators of this network for the proxy's name."
            )
        return (
            "Check the relay's URL for a typing error. If no external name can be looked up from this network, it "
            "probably has a proxy: configure it with --proxy-url or HTTPS_PROXY."
        )

    async def tcp(self) -> Finding:
        advice = (
            "Is the port right, and does the relay run? If this network allows connections to the outside only through "
            "a proxy, configure it with --proxy-url or HTTPS_PROXY."
        )
        try:
            async with self._path.connected() as stream:
                return ok(TCP, f"{self._path.relay.authority} accepts connections ({stream.peer})")
        except OSError as error:
            return failed(TCP, f"{self._path.relay.authority}: {describe(error)}", advice)

    async def proxy(self) -> Finding:
        try:
            async with self._path.connected() as stream:
                return ok(PROXY, f"{self._proxy} accepts connections ({stream.peer})")
        except OSError as error:
            advice = f"Is the proxy up, and are name and port right? {self._named_by}"
            return failed(PROXY, f"{self._proxy}: {describe(error)}", advice)

    @property
    def _proxy(self) -> str:
        return f"the proxy {self._path.first.authority}"

    @property
    def _named_by(self) -> str:
        return f"It is named by {self._path.proxy.source}." if self._path.proxy else ""

    async def proxy_tls(self) -> Finding:
        try:
            async with self._path.at_proxy() as stream:
                found = read_certificate(stream.certificate())
                return ok(PROXY_TLS, f"{self._proxy} is trusted; {signed_by(found)}")
        except ssl.SSLCertVerificationError as error:
            found = read_certificate(await self._shown_by_proxy())
            advice = (
                f"Get the certificate of that authority (PEM) from the operators of the proxy and configure it with "
                f"--proxy-ca-file. If the proxy's certificate is for another name, use that name in the proxy's URL: "
                f"{names_of(found)}."
            )
            detail = f"the certificate of {self._proxy} is not trusted: {error.verify_message}; {signed_by(found)}"
            return failed(PROXY_TLS, detail, advice)
        except (ssl.SSLError, OSError) as error:
            advice = "Does the proxy accept TLS on this port? If not, its URL begins with http://."
            return failed(PROXY_TLS, f"no TLS with {self._proxy}: {describe(error)}", advice)

    async def _shown_by_proxy(self) -> bytes:
        async with self._path.at_proxy(unverified()) as stream:
            return stream.certificate()

    async def tunnel(self) -> Finding:
        relay = self._path.relay
        try:
            async with self._path.tunnelled() as stream:
                del stream
                login = (
                    "with the configured login" if self._path.proxy and self._path.proxy.headers else "without a login"
                )
                return ok(TUNNEL, f"{self._proxy} opens a tunnel to {relay.authority}, {login}")
        except TunnelRefused as refused:
            status = f"{refused.head.status} {refused.head.reason}".strip()
            detail = f"{self._proxy} answers {status} to CONNECT {relay.authority}"
            squid = _SQUID_ERROR.search(refused.head.first("x-squid-error"))
            return failed(TUNNEL, f"{detail} ({squid[0]})" if squid else detail, self._why_refused(refused.head, relay))
        except NoHttp:
            advice = f"Something else listens there, or the proxy requires TLS (https://). {self._named_by}"
            return failed(TUNNEL, f"{self._proxy} does not answer as a proxy does", advice)
        except OSError as error:
            advice = f"{_ASK_THE_PROXY} to check its log; if it requires TLS, its URL begins with https://."
            return failed(TUNNEL, f"{self._proxy}, when asked for a tunnel: {describe(error)}", advice)

    def _why_refused(self, head: Head, relay: Hop) -> str:
        # tinyproxy answers a wrong password with 401.
        if head.status in {401, 407}:
            return self._login(head)
        if head.status in {403, 405}:
            port = "" if relay.port == 443 else " Most allow port 443 only: the relay can listen there."
            return f"{_ASK_THE_PROXY} to allow CONNECT to {relay.authority}.{port}"
        if head.status == 400:
            return f"The proxy did not understand the request: is it a proxy, with plain HTTP? {self._named_by}"
        if head.status == 404 or head.status >= 500:
            return (
                f"The path works as far as the proxy, but the proxy does not reach {relay.authority}. Is the name "
                f"right, can the proxy look it up, and does the relay run? {_ASK_THE_PROXY} to try it from there."
            )
        return f"{_ASK_THE_PROXY} why it refuses this machine."

    def _login(self, head: Head) -> str:
        schemes = [value.split()[0].lower() for value in head.all("proxy-authenticate") if value]
        wanted = " and ".join(sorted({scheme.upper() if scheme == "ntlm" else scheme.title() for scheme in schemes}))
        if schemes and "basic" not in schemes:
            local = (
                " Run a local proxy that supports it, such as cntlm or px, and configure that one with --proxy-url."
                if _SPOKEN_BY_LOCAL_PROXIES & set(schemes)
                else " Ask the operators of the proxy for Basic."
            )
            return f"The proxy requires a login by {wanted}; the worker supports Basic only.{local}"
        given = self._path.proxy is not None and self._path.proxy.headers is not None
        where = (
            "Set user and password with --proxy-user and --proxy-password-file, or in the proxy's URL (special "
            "characters percent-encoded)."
        )
        if given:
            return f"The proxy requires a login by {wanted or 'Basic'}, and the configured one is wrong. {where}"
        return f"The proxy requires a login by {wanted or 'Basic'}, and none is set. {where}"


def signed_by(certificate: Certificate | None) -> str:
    """Who signed a certificate, for people."""
    if certificate is None:
        return "its certificate cannot be read"
    return "signed by itself" if certificate.is_self_signed else f"signed by {certificate.issuer!r}"


def names_of(certificate: Certificate | None) -> str:
    """The names for which a certificate is valid."""
    return ", ".join(certificate.names[:6] or (certificate.subject,)) if certificate else "it cannot be read"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def describe(error: OSError) -> str:
    """Why a connection failed, for people."""
    if isinstance(error, ConnectionRefusedError):
        return "no service listens there (connection refused)"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was closed without an answer"
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}".replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__
