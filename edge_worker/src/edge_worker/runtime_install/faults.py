"""Why an installation failed, from the output of pip: which layer, and what to do."""

import re
from dataclasses import dataclass

_RETRY = re.compile(r"^.*Retrying \(Retry\(.*$", re.MULTILINE)
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]",
        "disk",
        "The disk of the runtime folder is full: free some space, or choose another folder with --dir.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "hashes",
        (
            "The files in the index or wheel folder differ from those in the lock. A mirror rebuilds packages, or "
            "a package was tampered with: do not install it; compare it with the public index."
        ),
    ),
    (
        r"In --require-hashes mode",
        "lock",
        "The centre's lock lacks a requirement or its hash: make it again with all that Airflow needs.",
    ),
    (
        r"407 Proxy Authentication|407 Client Error|Tunnel connection failed: 407|\b407\b.*[Pp]roxy",
        "proxy",
        (
            "The proxy requires a user and password (407): set proxy_user and proxy_password_file, or put them into "
            "HTTPS_PROXY."
        ),
    ),
    (
        r"Tunnel connection failed: \d+",
        "proxy",
        "The proxy does not allow this machine to reach the index: have it allowed, or set a mirror with --index-url.",
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
            "The certificate of the index, or of a proxy that inspects TLS, is not trusted: add its authority with "
            "ca_file."
        ),
    ),
    (
        r"\b40[13] Client Error",
        "index",
        "The index refuses access: set user and password in PIP_INDEX_URL, ~/.netrc or pip's own configuration file.",
    ),
    (
        (
            r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|Max retries exceeded|"
            r"Connection (?:refused|reset)|RemoteDisconnected|5\d\d Server Error"
        ),
        "index",
        (
            "The index cannot be reached: set the site's mirror with --index-url or PIP_INDEX_URL, a proxy with "
            "proxy_url, or copy the wheels to this machine (--wheels)."
        ),
    ),
    (
        r"is not a trusted or secure host",
        "index",
        "pip trusts an index at http:// only on this machine: use https://, or add its host to PIP_TRUSTED_HOST.",
    ),
    (
        r"conflicting dependencies",
        "versions",
        "The index has no compatible set of versions: have the centre name a lock ([edge_relay] runtime_lock).",
    ),
    (
        r"No matching distribution found",
        "wheels",
        (
            "There is no wheel for this Python and machine: choose another Python with --python, or add the wheel to "
            "the index or the wheel folder."
        ),
    ),
    (
        r"ensurepip is not available|No module named '?(?:venv|ensurepip)",
        "Python",
        (
            "This Python lacks its venv module: on Debian and Ubuntu 'apt install python3-venv' (for a Python of its "
            "own version, python3.12-venv for instance), or choose another one with --python."
        ),
    ),
)


@dataclass(frozen=True)
class Fault:
    """What went wrong.

    Attributes:
        layer: Where: disk, proxy, index, …
        detail: One line of the program's output.
        advice: What to do.
    """

    layer: str
    detail: str
    advice: str


def explain(log: str) -> Fault:
    """The fault in a log of pip or venv. Tries that pip has repeated are ignored: only the last one counts."""
    text = _RETRY.sub("", log)
    for sign, layer, advice in _SIGNS:
        if (match := re.search(sign, text)) is not None:
            return Fault(layer, _line_at(text, match.start()), advice)
    return Fault("installation", _last_error(text), "The complete log is in the runtime folder: install.log.")


def _line_at(text: str, position: int) -> str:
    begin = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return _plain(text[begin : end if end >= 0 else len(text)])


def _last_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return _plain((errors or lines or ["there is no output"])[-1])


def _plain(line: str) -> str:
    """The line without the time of pip's log, and without control characters."""
    line = re.sub(r"^\d{4}-\d\d-\d\dT[\d:,]+ ", "", line).strip()
    return "".join(char if char.isprintable() else "?" for char in line)[:400]
