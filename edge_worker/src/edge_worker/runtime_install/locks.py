"""Reads a lock: pinned requirements in pip's format, and no other line that pip would accept.

A lock comes from the centre, through the relay. Options, addresses and paths in it are refused: it may select releases
of the site's own index, not the source of the code.
"""

import hashlib
import re
from dataclasses import dataclass

_PIN = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"(?P<extras>\[[A-Za-z0-9._, -]*\])?"
    r"\s*==\s*(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?P<marker>\s*;[^#;@]*?)?"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})*)"
)
_COMMENT = re.compile(r"(^|\s)#.*$")
_OF_AIRFLOW = ("apache-airflow", "apache-airflow-core")


class LockRefused(Exception):
    """The text is not a lock; the message contains the line and the reason."""


@dataclass(frozen=True)
class Lock:
    """Pinned requirements.

    Attributes:
        text: As pip reads it: one requirement a line, without comments.
        digest: SHA-256 of the text, in hexadecimal.
        airflow: The version of Airflow that it pins.
        requirements: The number of requirements.
    """

    text: str
    digest: str
    airflow: str
    requirements: int


def read_lock(text: str) -> Lock:
    """The lock in a text.

    Raises:
        LockRefused: The text contains something else, or does not pin Airflow.
    """
    lines: list[str] = []
    airflow: str | None = None
    for number, line in _logical_lines(text):
        match = _PIN.fullmatch(line)
        if match is None or "--" in (match["marker"] or ""):
            raise LockRefused(
                f"line {number} is not a pinned requirement (name==version, optionally a marker and --hash=sha256:…): "
                f"{line[:80]!r}"
            )
        lines.append(re.sub(r"\s+", " ", line))
        if re.sub(r"[-_.]+", "-", match["name"]).lower() in _OF_AIRFLOW:
            airflow = airflow or match["version"]
    if airflow is None:
        raise LockRefused("it does not pin apache-airflow")
    plain = "\n".join(lines) + "\n"
    return Lock(plain, hashlib.sha256(plain.encode()).hexdigest(), airflow, len(lines))


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines without comments; continued lines are joined and have the number of the first."""
    found: list[tuple[int, str]] = []
    begun, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = _COMMENT.sub("", raw).strip()
        begun = begun or number
        parts.append(line.removesuffix("\\").strip())
        if line.endswith("\\"):
            continue
        if joined := " ".join(part for part in parts if part):
            found.append((begun, joined))
        begun, parts = 0, []
    if joined := " ".join(part for part in parts if part):
        found.append((begun, joined))
    return found
