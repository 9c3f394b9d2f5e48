"""Removes the secrets of this worker from findings, wherever the text of a finding comes from."""

import base64
import dataclasses
from collections.abc import Iterable

from edge_service.findings import Finding
from edge_worker.relay.proxy import Proxy
from edge_worker.settings import Settings
from edge_worker.state.state import Identity

_HIDDEN = "***"
_SHORTEST = 4
"""A shorter secret would be part of too many words, and none of the worker's is that short."""


class Redactor:
    """Knows the secrets and replaces them in findings."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, *secrets: str | None) -> None:
        """Adds secrets."""
        self._secrets.update(secret for secret in secrets if secret and len(secret) >= _SHORTEST)

    def add_from(self, settings: Settings, identity: Identity | None, proxy: Proxy | None) -> None:
        """Adds the secrets in these."""
        if settings.enroll_token is not None:
            self.add(settings.enroll_token.get_secret_value())
        if identity is not None:
            self.add(identity.secret, identity.next_secret)
        if proxy is not None and proxy.authorization is not None:
            encoded = proxy.authorization.removeprefix("Basic ")
            _, _, password = base64.b64decode(encoded).decode().partition(":")
            self.add(encoded, password)

    def redacted(self, finding: Finding) -> Finding:
        """The finding without secrets."""
        return dataclasses.replace(finding, detail=self._redact(finding.detail), advice=self._redact(finding.advice))

    def _redact(self, text: str) -> str:
        for secret in _longest_first(self._secrets):
            text = text.replace(secret, _HIDDEN)
        return text


def _longest_first(secrets: Iterable[str]) -> list[str]:
    return sorted(secrets, key=len, reverse=True)
