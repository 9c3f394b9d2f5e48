"""The commands that make a machine a worker, as operators are shown them: with the relay's address and private CA."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from edge_relay.gate.centre import Centre
from edge_schemas.signing.key_sets import fingerprint, read_set
from edge_service.text_files import NotText, read_text_file

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
UNKNOWN_URL = "https://RELAY:8443"
"""Stands for the address where `RELAY_PUBLIC_URL` is not set."""


@dataclass(frozen=True, slots=True)
class EnrollCommand:
    """How a machine enrols at this relay.

    Attributes:
        url: Of the relay, as workers reach it; None if it is not known.
        ca_pem: The private CA that a worker needs to trust it; None if there is none.
        centre: Knows the key that signs jobs; None if the relay has no gate.
    """

    url: str | None = None
    ca_pem: str | None = None
    centre: Centre | None = None

    def text(self, token: str | None = None) -> str:
        """Lines for a shell on the worker's machine. Without a token, the command asks for one."""
        lines = []
        if self.ca_pem is not None:
            # The agent needs it as well, not only the enrolment.
            lines = ["cat > ca.pem <<'END'", self.ca_pem, "END", 'export EDGE_WORKER_CA_FILE="$PWD/ca.pem"']
        enroll = f"edge-worker enroll --relay-url {shlex.quote(self.url or UNKNOWN_URL)}"
        if token is not None and (key := self._signing_key()) is not None:
            # Who comes in between later, as an intercepting proxy does, can offer no other key.
            enroll += f" --signing-key {key}"
        lines.append(enroll if token is None else f"echo {shlex.quote(token)} | {enroll}")
        return "\n".join(lines)

    async def refresh(self) -> None:
        """Find out which key signs jobs now."""
        if self.centre is not None:
            await self.centre.facts()

    def _signing_key(self) -> str | None:
        facts = None if self.centre is None else self.centre.known
        newest = None if facts is None or not facts.signing_keys else read_set(facts.signing_keys[-1])
        return None if newest is None else fingerprint(newest.public_keys[0])


def enroll_command(url: str | None, ca_file: Path | None, centre: Centre | None = None) -> EnrollCommand:
    """Of the settings.

    Raises:
        ValueError: The file can't be read, or holds no certificate; the text says so.
    """
    if ca_file is None:
        return EnrollCommand(url, centre=centre)
    try:
        pem = read_text_file(ca_file)
    except (OSError, NotText) as error:
        msg = f"RELAY_PUBLIC_CA_FILE: {ca_file}: {error}"
        raise ValueError(msg) from None
    # Only these: a key that is in the file by mistake must not be shown, and other text is of no use in a command.
    certificates = _CERTIFICATE.findall(pem)
    if not certificates:
        msg = f"RELAY_PUBLIC_CA_FILE: {ca_file} holds no certificate as PEM"
        raise ValueError(msg)
    return EnrollCommand(url, "\n".join(certificates), centre)
