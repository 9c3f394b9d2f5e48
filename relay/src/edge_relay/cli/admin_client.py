"""The calls of a command to `/v1/admin` of a relay."""

import ssl
import urllib.error
import urllib.request
from argparse import Namespace
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError
from typing_extensions import override

from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE, Failure
from edge_relay.settings import AdminSettings, SettingsError
from edge_relay.standalone.facts import Facts, read_facts
from edge_relay.standalone.private_files import read_secret
from edge_schemas.wire.errors import Problem

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Calls of one command. Synchronous: a command makes one call and ends."""

    url: str
    token: str
    ca_file: Path | None

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """The body of a good answer.

        Raises:
            Failure: The relay refused, or there was no answer.
        """
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else body.encode()
        try:
            request = urllib.request.Request(  # noqa: S310  # the scheme was checked
                self.url + path, data=data, headers=headers, method=method
            )
            with self._opener().open(request, timeout=TIMEOUT_S) as answer:
                return bytes(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            text = f"no answer from {self.url}: {_reason(error)}. Is the relay up, and is --url right?"
            raise Failure(text, EXIT_NO_ANSWER) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        try:
            tls = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except OSError as error:
            raise Failure(f"can't use the CA file {self.ca_file}: {error}", EXIT_USAGE) from None
        # The operators' listener is internal: no proxy has a part in it, and nobody may redirect the token.
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls), _NoRedirect()
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that points elsewhere is an error: the token would go along."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


def connect(options: Namespace) -> AdminClient:
    """From the options, else the environment; a data folder stands for all three.

    Raises:
        Failure: It is not clear which relay is meant.
    """
    try:
        settings = AdminSettings()
        facts = None if options.data_dir is None else read_facts(options.data_dir)
        token_file = _token_file(options, facts, settings)
        secret = settings.access_token.get_secret_value().strip() if settings.access_token else ""
        token = read_secret(token_file) if token_file is not None else secret
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    if not token:
        text = "an access token is needed: --data-dir of a standalone relay, --access-token-file, or RELAY_ACCESS_TOKEN"
        raise Failure(text, EXIT_USAGE)
    if not token.isascii() or not token.isprintable() or " " in token:
        # Nobody repeats it: what else stands beside the token may be one too.
        raise Failure("the access token is one word of ASCII characters; what was given is not", EXIT_USAGE)
    url = str(options.url or (facts.operator_url if facts is not None else "") or settings.admin_url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url: {url!r} is no http:// or https:// address", EXIT_USAGE)
    return AdminClient(url, token, options.ca_file or settings.admin_ca_file)


def _token_file(options: Namespace, facts: Facts | None, settings: AdminSettings) -> Path | None:
    given: Path | None = options.access_token_file
    if given is not None:
        return given
    return settings.access_token_file if facts is None else facts.access_token_file


def _refusal(error: urllib.error.HTTPError) -> Failure:
    body = error.read(1 << 16)
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return Failure(f"status {error.code}, not from the operators' listener of a relay: check --url")
    hints = {
        "unauthenticated": ": check the access token",
        "credential_revoked": ": 'edge-relay access-token create' makes another",
    }
    status = EXIT_NO_ANSWER if problem.retryable and problem.status >= 500 else 1
    return Failure(f"refused ({problem.code}): {problem.detail or problem.title}{hints.get(problem.code, '')}", status)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def segment(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="")
