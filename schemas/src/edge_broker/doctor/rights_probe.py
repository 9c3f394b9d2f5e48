"""Try every right of a role without an effect.

A message is sent to a subject of each pattern. It changes nothing: a question, a command for a stream or consumer that
does not exist, or a message that names another stream and is rejected by the one that listens.
"""

import json

from edge_broker.doctor.probe import Probe
from edge_broker.permissions import rights

NOWHERE = "_doctor_"
"""No queue, team or consumer has this token: an underscore is always followed by two hexadecimal digits there."""
_API = "$JS.API."
_READ = json.dumps({"last_by_subj": NOWHERE}).encode()
_OTHER_STREAM = json.dumps({"stream_name": NOWHERE, "config": {"ack_policy": "explicit"}}).encode()
_MATCHES_NOTHING = json.dumps({"filter": NOWHERE}).encode()
_HARMLESS = {
    "INFO": b"",
    "STREAM.NAMES": b"",
    "STREAM.LIST": b"",
    "STREAM.INFO": b"",
    "STREAM.MSG.GET": _READ,
    "DIRECT.GET": _READ,
    "CONSUMER.NAMES": b"",
    "CONSUMER.LIST": b"",
    "CONSUMER.INFO": b"",
    "CONSUMER.CREATE": _OTHER_STREAM,
    "CONSUMER.DELETE": b"",
    "CONSUMER.MSG.NEXT": b"",
    "STREAM.PURGE": _MATCHES_NOTHING,
}
"""Calls of the API with what can be sent to them; `*` and `>` behind them become `NOWHERE`."""


def harmless(pattern: str) -> tuple[str, bytes] | None:
    """A subject of the pattern and a message that has no effect there; None if none is known."""
    subject = ".".join(NOWHERE if token in ("*", ">") else token for token in pattern.split("."))
    if not pattern.startswith(_API):
        return subject, b""
    call = pattern.removeprefix(_API)
    name = next((name for name in _HARMLESS if call == name or call.startswith(f"{name}.")), None)
    return None if name is None else (subject, _HARMLESS[name])


async def missing_rights(probe: Probe, role: str) -> list[str]:
    """What the logged-in user lacks of its role's rights, for people."""
    wanted = rights(role)
    missing = []
    for pattern in dict.fromkeys(wanted.publish):
        message = harmless(pattern)
        if message is not None and not await probe.may_publish(*message):
            missing.append(f"publish {pattern}")
    missing += [f"subscribe {pattern}" for pattern in wanted.subscribe if not await probe.may_subscribe(pattern)]
    return missing


def allows(role: str, subject: str) -> bool:
    """Whether a role's rights include publishing to a subject."""
    return any(_matches(pattern.split("."), subject.split(".")) for pattern in rights(role).publish)


def _matches(pattern: list[str], subject: list[str]) -> bool:
    for number, part in enumerate(pattern):
        if part == ">":
            return len(subject) > number
        if number >= len(subject) or part not in ("*", subject[number]):
            return False
    return len(pattern) == len(subject)
