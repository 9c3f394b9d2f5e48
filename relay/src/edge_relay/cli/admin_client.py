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
from edge_relay.standalone.info import StandaloneInfo, read_info
from edge_relay.standalone.private_files import read_secret
from edge_schemas.wire.errors import Problem

TIMEOUT_S = 15.0
MAX_ANSWER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Calls the relay for a command. Synchronous: a command makes one call and ends."""

    url: str
    token: str
    ca_file: Path | None

    def call(self, method: str, path: str, body: str | None = None) -> bytes:
        """The body of a successful answer.

        Raises:
            Failure: The relay refused the call, or there was no answer.
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
        # The operators' listener is internal: the call uses no proxy, and the token must not be redirected.
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls), _NoRedirect()
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the token would be sent to another address."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


def connect(options: Namespace) -> AdminClient:
    """A client from the options, else from the environment; a data folder replaces all three.

    Raises:
        Failure: Address or token is missing or invalid.
    """
    try:
        settings = AdminSettings()
        info = None if options.data_dir is None else read_info(options.data_dir)
        token_file = _token_file(options, info, settings)
        secret = settings.access_token.get_secret_value().strip() if settings.access_token else ""
        token = read_secret(token_file) if token_file is not None else secret
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    if not token:
        text = "an access token is needed: --data-dir of a standalone relay, --access-token-file, or RELAY_ACCESS_TOKEN"
        raise Failure(text, EXIT_USAGE)
    if not token.isascii() or not token.isprintable() or " " in token:
        # The text does not quote it: the rest of the file may be a secret too.
        raise Failure("the access token must be one word of ASCII characters", EXIT_USAGE)
    url = str(options.url or (info.operator_url if info is not None else "") or settings.admin_url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url: {url!r} is not an http:// or https:// address", EXIT_USAGE)
    return AdminClient(url, token, options.ca_file or settings.admin_ca_file)


def _token_file(options: Namespace, info: StandaloneInfo | None, settings: AdminSettings) -> Path | None:
    given: Path | None = options.access_token_file
    if given is not None:
        return given
    return settings.access_token_file if info is None else info.access_token_file


def _refusal(error: urllib.error.HTTPError) -> Failure:
    body = error.read(1 << 16)
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return Failure(f"status {error.code}, not from the operators' listener of a relay: check --url")
    hints = {
        "unauthenticated": ": check the access token",
        "credential_revoked": ": 'edge-relay access-token create' creates another",
    }
    status = EXIT_NO_ANSWER if problem.retryable and problem.status >= 500 else 1
    return Failure(f"refused ({problem.code}): {problem.detail or problem.title}{hints.get(problem.code, '')}", status)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def segment(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="")
