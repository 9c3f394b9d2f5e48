"""One HTTP GET for a doctor: direct, without redirects, with what went wrong in words."""

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

from edge_service.threads import aside

TIMEOUT_S = 5.0
MAX_BYTES = 8 << 20


class LookFailed(Exception):
    """There was no HTTP answer; the text says how far it came."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An HTTP answer, whatever its status.

    Attributes:
        date: Unix time by the server's clock, None if it does not tell; whole seconds.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    date: float | None


async def look(url: str, headers: Mapping[str, str] | None = None, *, tls: ssl.SSLContext | None = None) -> Seen:
    """Get a URL, past every proxy.

    Raises:
        LookFailed: No answer.
    """
    return await aside(lambda: _get(url, headers or {}, tls))


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to trust: the CAs in the file, else those of the machine.

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


def _get(url: str, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> Seen:
    if not url.startswith(("http://", "https://")):
        raise LookFailed("the address must begin with http:// or https://")
    sent = {"User-Agent": "edge-relay-doctor", **headers}
    request = urllib.request.Request(url, headers=sent)  # noqa: S310  # looked at above
    https = urllib.request.HTTPSHandler(context=tls) if tls else urllib.request.HTTPSHandler()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https, _NoRedirects())
    try:
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            return _seen(reply.status, reply.headers, reply.read(MAX_BYTES))
    except urllib.error.HTTPError as reply:
        with reply:
            return _seen(reply.code, reply.headers, reply.read(MAX_BYTES))
    except urllib.error.URLError as error:
        raise LookFailed(_explain(error.reason)) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise LookFailed(_explain(error)) from error


def _seen(status: int, headers: Message, body: bytes) -> Seen:
    date = headers.get("Date")
    return Seen(status, dict(headers.items()), body, parsedate_to_datetime(date).timestamp() if date else None)


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
