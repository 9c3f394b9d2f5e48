"""Why an installation failed, told by what pip wrote: which layer, and what to do."""

import re
from dataclasses import dataclass

_RETRY = re.compile(r"^.*Retrying \(Retry\(.*$", re.MULTILINE)
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]",
        "disk",
        "The disk of the runtime folder is full: make room, or name a folder elsewhere with --dir.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "hashes",
        (
            "What the index or wheel folder has is not what the lock names. A mirror that rebuilds packages, or "
            "somebody who changed one: do not install it; compare it with the public index."
        ),
    ),
    (
        r"In --require-hashes mode",
        "lock",
        "The centre's lock lacks a requirement or its hash: make it anew with all that Airflow needs.",
    ),
    (
        r"407 Proxy Authentication|407 Client Error|Tunnel connection failed: 407|\b407\b.*[Pp]roxy",
        "proxy",
        (
            "The proxy wants a user and password (407): set proxy_user and proxy_password_file, or put them into "
            "HTTPS_PROXY."
        ),
    ),
    (
        r"Tunnel connection failed: \d+",
        "proxy",
        "The proxy does not let this machine reach the index: have it allowed, or name a mirror with --index-url.",
    ),
    (
        r"Cannot connect to proxy|Unable to connect to proxy|ProxyError",
        "proxy",
        "The proxy cannot be reached: check proxy_url or HTTPS_PROXY, which `edge-worker doctor` shows.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError",
        "TLS",
        (
            "The certificate of the index, or of a proxy that inspects TLS, is not trusted: name its authority with "
            "ca_file."
        ),
    ),
    (
        r"\b40[13] Client Error",
        "index",
        "The index refuses: give user and password by PIP_INDEX_URL, ~/.netrc or pip's own configuration file.",
    ),
    (
        (
            r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded|"
            r"Connection (?:refused|reset)|RemoteDisconnected|5\d\d Server Error"
        ),
        "index",
        (
            "The index cannot be reached: name the site's mirror with --index-url or PIP_INDEX_URL, a proxy with "
            "proxy_url, or bring the wheels along (--wheels)."
        ),
    ),
    (
        r"is not a trusted or secure host",
        "index",
        "pip trusts no index at http:// but on this machine: use https://, or name its host in PIP_TRUSTED_HOST.",
    ),
    (
        r"conflicting dependencies",
        "versions",
        "The index has no set of versions that go together: have the centre name a lock ([edge_relay] runtime_lock).",
    ),
    (
        r"No matching distribution found",
        "wheels",
        (
            "It has no wheel for this Python and machine: name another Python with --python, or add the wheel to "
            "the index or the wheel folder."
        ),
    ),
    (
        r"ensurepip is not available|No module named '?(?:venv|ensurepip)",
        "Python",
        (
            "This Python lacks its venv module: on Debian and Ubuntu 'apt install python3-venv' (for a Python of its "
            "own version, python3.12-venv for instance), or name another one with --python."
        ),
    ),
)


@dataclass(frozen=True)
class Fault:
    """What went wrong.

    Attributes:
        layer: Where: disk, proxy, index, …
        detail: What the program said, one line.
        advice: What to do.
    """

    layer: str
    detail: str
    advice: str


def explain(log: str) -> Fault:
    """The fault that a log of pip or venv tells of. A try that was repeated says nothing: only its end does."""
    text = _RETRY.sub("", log)
    for sign, layer, advice in _SIGNS:
        if (match := re.search(sign, text)) is not None:
            return Fault(layer, _line_at(text, match.start()), advice)
    return Fault("installation", _last_error(text), "Its whole log is in the runtime folder: install.log.")


def _line_at(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return _plain(text[begin : end if end >= 0 else len(text)])


def _last_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return _plain((errors or lines or ["it said nothing"])[-1])


def _plain(line: str) -> str:
    """Without the time that pip's log begins a line with, and without what could steer a terminal."""
    line = re.sub(r"^\d{4}-\d\d-\d\dT[\d:,]+ ", "", line).strip()
    return "".join(char if char.isprintable() else "?" for char in line)[:400]
