"""The last sieve: whatever was seen on the way, no secret of this worker leaves a doctor."""

import base64
import dataclasses
from collections.abc import Iterable

from edge_service.findings import Finding
from edge_worker.relay.proxy import Proxy
from edge_worker.settings import Settings
from edge_worker.state.state import Identity

_HIDDEN = "***"
_SHORTEST = 4
"""A shorter one is a part of too many words, and none of ours is that short."""


class Sieve:
    """Knows the secrets and takes them out of findings."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, *secrets: str | None) -> None:
        """Never shows these."""
        self._secrets.update(secret for secret in secrets if secret and len(secret) >= _SHORTEST)

    def know(self, settings: Settings, identity: Identity | None, proxy: Proxy | None) -> None:
        """Never shows what these hold."""
        if settings.enroll_token is not None:
            self.add(settings.enroll_token.get_secret_value())
        if identity is not None:
            self.add(identity.secret)
        if proxy is not None and proxy.authorization is not None:
            encoded = proxy.authorization.removeprefix("Basic ")
            _, _, password = base64.b64decode(encoded).decode().partition(":")
            self.add(encoded, password)

    def passed(self, finding: Finding) -> Finding:
        """The finding without secrets."""
        return dataclasses.replace(finding, detail=self._clean(finding.detail), advice=self._clean(finding.advice))

    def _clean(self, text: str) -> str:
        for secret in _longest_first(self._secrets):
            text = text.replace(secret, _HIDDEN)
        return text


def _longest_first(secrets: Iterable[str]) -> list[str]:
    return sorted(secrets, key=len, reverse=True)
