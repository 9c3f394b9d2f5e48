"""Names, proxy and TCP: may this machine speak to the relay's port at all?"""

import re
import socket
import ssl
from ipaddress import ip_address

from edge_service.findings import Check, Finding, failed, ok
from edge_worker.doctor.certificate import Certificate, read_certificate
from edge_worker.doctor.limits import Deadline, in_thread
from edge_worker.doctor.network_path import Head, Hop, NetworkPath, NoHttp, TunnelRefused, trusting_nobody

DNS, TCP, PROXY, PROXY_TLS, TUNNEL = "dns.lookup", "tcp.connect", "proxy.connect", "proxy.tls", "proxy.tunnel"
_SPOKEN_ELSEWHERE = {"ntlm", "negotiate", "kerberos"}
_SQUID_ERROR = re.compile(r"ERR_[A-Z_]+")
_ASK_THE_PROXY = "Ask those who run the proxy"


def way_checks(way: NetworkPath, deadline: Deadline) -> list[Check]:
    """From names to the relay's TCP port; the last one is `reaches(way)`."""
    looks = _WayLooks(way)
    first = way.first.authority
    names = deadline.check(
        DNS,
        looks.names,
        limit_s=5,
        when_late="The name servers in /etc/resolv.conf do not answer; ask who runs this network.",
    )
    if way.proxy_hop is None:
        dropped = (
            f"Something drops the packets to {first}: have the firewall allow it, or name the proxy (--proxy-url)."
        )
        return [names, deadline.check(TCP, looks.tcp, needs=(DNS,), limit_s=6, when_late=dropped)]
    dropped = f"Something drops the packets to the proxy {first}: is it still the right one, is a firewall in between?"
    checks = [names, deadline.check(PROXY, looks.proxy, needs=(DNS,), limit_s=6, when_late=dropped)]
    if way.proxy_hop.scheme == "https":
        plain = "Does the proxy speak TLS on this port? If not, its URL begins with http://."
        checks.append(deadline.check(PROXY_TLS, looks.proxy_tls, needs=(PROXY,), limit_s=5, when_late=plain))
    if way.relay.scheme == "https":
        silent = (
            f"The proxy took the request for a tunnel to {way.relay.authority} and does not answer it: the relay may "
            "be away behind it. Ask those who run it to look into its log."
        )
        checks.append(deadline.check(TUNNEL, looks.tunnel, needs=(checks[-1].id,), limit_s=8, when_late=silent))
    return checks


def reaches(way: NetworkPath) -> str:
    """The id of the check after which a connection to the relay stands."""
    if way.proxy_hop is None:
        return TCP
    if way.relay.scheme == "https":
        return TUNNEL
    return PROXY_TLS if way.proxy_hop.scheme == "https" else PROXY


class _WayLooks:
    def __init__(self, way: NetworkPath) -> None:
        self._way = way
        self._whose = "the proxy's" if way.proxy_hop else "the relay's"

    async def names(self) -> Finding:
        hop, whose = self._way.first, self._whose
        relay = self._way.relay.host
        aside = ""
        if self._way.proxy_hop is not None and not _is_address(relay):
            aside = f"; the name {relay} is looked up by the proxy, not here"
        if _is_address(hop.host):
            return ok(DNS, f"{hop.host} is {whose} address{aside}")
        try:
            found = await in_thread(lambda: socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM))
        except socket.gaierror as error:
            return failed(DNS, f"{whose} name {hop.host} is not found: {error.strerror}", self._unknown_name())
        except UnicodeError:
            return failed(DNS, f"{hop.host} is no name of a host", "Look for a typing error in it.")
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        return ok(DNS, f"{hop.host} is {', '.join(addresses[:4])}{aside}")

    def _unknown_name(self) -> str:
        if self._way.proxy_hop is not None:
            return "Look for a typing error in the proxy's URL, or ask who runs this network for the proxy's name."
        return (
            "Look for a typing error in the relay's URL. If names outside cannot be looked up from this network at "
            "all, it probably has a proxy: name it with --proxy-url or HTTPS_PROXY."
        )

    async def tcp(self) -> Finding:
        advice = (
            "Is the port right, and does the relay run? If this network lets nobody out but a proxy, name the proxy "
            "with --proxy-url or HTTPS_PROXY."
        )
        try:
            async with self._way.connected() as stream:
                return ok(TCP, f"{self._way.relay.authority} takes connections ({stream.peer})")
        except OSError as error:
            return failed(TCP, f"{self._way.relay.authority}: {in_words(error)}", advice)

    async def proxy(self) -> Finding:
        try:
            async with self._way.connected() as stream:
                return ok(PROXY, f"{self._proxy} takes connections ({stream.peer})")
        except OSError as error:
            advice = f"Is the proxy up, and are name and port right? {self._named_by}"
            return failed(PROXY, f"{self._proxy}: {in_words(error)}", advice)

    @property
    def _proxy(self) -> str:
        return f"the proxy {self._way.first.authority}"

    @property
    def _named_by(self) -> str:
        return f"It is named by {self._way.proxy.source}." if self._way.proxy else ""

    async def proxy_tls(self) -> Finding:
        try:
            async with self._way.at_proxy() as stream:
                found = read_certificate(stream.certificate())
                return ok(PROXY_TLS, f"{self._proxy} is trusted; {signed_by(found)}")
        except ssl.SSLCertVerificationError as error:
            found = read_certificate(await self._shown_by_proxy())
            advice = (
                f"Get the certificate of that authority (PEM) from those who run the proxy and name it with "
                f"--proxy-ca-file. If it is for another name, use that name in the proxy's URL: {names_of(found)}."
            )
            detail = f"the certificate of {self._proxy} is not trusted: {error.verify_message}; {signed_by(found)}"
            return failed(PROXY_TLS, detail, advice)
        except (ssl.SSLError, OSError) as error:
            advice = "Does the proxy speak TLS on this port? If not, its URL begins with http://."
            return failed(PROXY_TLS, f"no TLS with {self._proxy}: {in_words(error)}", advice)

    async def _shown_by_proxy(self) -> bytes:
        async with self._way.at_proxy(trusting_nobody()) as stream:
            return stream.certificate()

    async def tunnel(self) -> Finding:
        relay = self._way.relay
        try:
            async with self._way.tunnelled() as stream:
                del stream
                login = (
                    "with the login that was given"
                    if self._way.proxy and self._way.proxy.headers
                    else "without a login"
                )
                return ok(TUNNEL, f"{self._proxy} opens a tunnel to {relay.authority}, {login}")
        except TunnelRefused as refused:
            said = f"{refused.head.status} {refused.head.reason}".strip()
            detail = f"{self._proxy} answers {said} to CONNECT {relay.authority}"
            squid = _SQUID_ERROR.search(refused.head.first("x-squid-error"))
            return failed(TUNNEL, f"{detail} ({squid[0]})" if squid else detail, self._why_refused(refused.head, relay))
        except NoHttp:
            advice = f"Something else listens there, or it wants TLS (https://). {self._named_by}"
            return failed(TUNNEL, f"{self._proxy} does not answer as a proxy does", advice)
        except OSError as error:
            advice = f"{_ASK_THE_PROXY} what its log says; if it wants TLS, its URL begins with https://."
            return failed(TUNNEL, f"{self._proxy}, asked for a tunnel: {in_words(error)}", advice)

    def _why_refused(self, head: Head, relay: Hop) -> str:
        # tinyproxy answers a wrong password with 401.
        if head.status in {401, 407}:
            return self._login(head)
        if head.status in {403, 405}:
            port = "" if relay.port == 443 else " Most allow port 443 only: the relay can listen there."
            return f"{_ASK_THE_PROXY} to allow CONNECT to {relay.authority}.{port}"
        if head.status == 400:
            return f"The proxy did not understand: is it one, and does it speak plain HTTP? {self._named_by}"
        if head.status == 404 or head.status >= 500:
            return (
                f"This way is good as far as the proxy, but the proxy does not reach {relay.authority}. Is the name "
                f"right, can the proxy look it up, and does the relay run? {_ASK_THE_PROXY} to try it from there."
            )
        return f"{_ASK_THE_PROXY} why it refuses this machine."

    def _login(self, head: Head) -> str:
        schemes = [value.split()[0].lower() for value in head.all("proxy-authenticate") if value]
        wanted = " and ".join(sorted({scheme.upper() if scheme == "ntlm" else scheme.title() for scheme in schemes}))
        if schemes and "basic" not in schemes:
            local = (
                " Run a local proxy that speaks it, such as cntlm or px, and name that one with --proxy-url."
                if _SPOKEN_ELSEWHERE & set(schemes)
                else " Ask those who run it for Basic."
            )
            return f"The proxy wants a login by {wanted}; the worker speaks Basic only.{local}"
        given = self._way.proxy is not None and self._way.proxy.headers is not None
        where = (
            "Give user and password with --proxy-user and --proxy-password-file, or in the proxy's URL (special "
            "characters percent-encoded)."
        )
        if given:
            return f"The proxy wants a login by {wanted or 'Basic'}, and the one it was given is wrong. {where}"
        return f"The proxy wants a login by {wanted or 'Basic'}, and none is set. {where}"


def signed_by(certificate: Certificate | None) -> str:
    """Who vouches for a certificate, for people."""
    if certificate is None:
        return "its certificate cannot be read"
    return "signed by itself" if certificate.is_self_signed else f"signed by {certificate.issuer!r}"


def names_of(certificate: Certificate | None) -> str:
    """Whose certificate it is."""
    return ", ".join(certificate.names[:6] or (certificate.subject,)) if certificate else "it cannot be read"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def in_words(error: OSError) -> str:
    """Why a connection failed, for people."""
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was closed without an answer"
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}".replace("_", " ").lower()
    return error.strerror or str(error) or type(error).__name__
