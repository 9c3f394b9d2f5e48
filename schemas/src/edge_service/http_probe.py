"""One HTTP GET for a doctor: direct, without redirects, with errors in words."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO

from typing_extensions import override

from edge_service.threads import run_in_daemon_thread

TIMEOUT_S = 5.0
MAX_BYTES = 8 << 20


class NoHttpAnswer(Exception):
    """There was no HTTP answer; the text says what failed."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """An HTTP answer, whatever its status.

    Attributes:
        date: Unix time by the server's clock, None if it does not report it; whole seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: float | None


async def probe(
    url: str, headers: Mapping[str, str] | None = None, *, tls: ssl.SSLContext | None = None
) -> ProbeResult:
    """Get a URL, without a proxy.

    Raises:
        NoHttpAnswer: No answer.
    """
    return await run_in_daemon_thread(lambda: _get(url, headers or {}, tls))


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """A TLS context that trusts the CAs in the file, else those of the machine.

    Raises:
        OSError: The file can't be used.
    """
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    @override
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _get(url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> ProbeResult:
    if not url.startswith(("http://", "https://")):
        raise NoHttpAnswer("the address must begin with http:// or https://")
    sent = {"User-Agent": "edge-relay-doctor", **headers}
    request = urllib.request.Request(url, headers=sent)  # noqa: S310  # checked above
    https = urllib.request.HTTPSHandler(context=tls) if tls else urllib.request.HTTPSHandler()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https, _NoRedirects())
    try:
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            return _result(reply.status, reply.headers, reply.read(MAX_BYTES))
    except urllib.error.HTTPError as reply:
        with reply:
            return _result(reply.code, reply.headers, reply.read(MAX_BYTES))
    except urllib.error.URLError as error:
        raise NoHttpAnswer(_explain(error.reason)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoHttpAnswer(_explain(error)) from error


def _result(status: int, headers: Message, body: bytes) -> ProbeResult:
    date = headers.get("Date")
    return ProbeResult(status, dict(headers.items()), body, parsedate_to_datetime(date).timestamp() if date else None)


def _explain(error: object) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror():
            return f"its name is not known: {error.strerror}"
        case TimeoutError():
            return f"no answer within {TIMEOUT_S:g} s"
        case OSError():
            return error.strerror or str(error)
        case ValueError():
            return f"its address or answer can't be read: {error}"
        case _:
            return f"what answers speaks no HTTP ({type(error).__name__})"
