"""The calls of a command to `/v1/admin` of a relay."""

import ssl
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError
from typing_extensions import override

from edge_relay.cli.contexts import Context, read_contexts
from edge_relay.cli.output import EXIT_NO_ANSWER, EXIT_USAGE, Failure
from edge_relay.settings import AdminSettings, SettingsError
from edge_relay.standalone.info import StandaloneInfo, read_info
from edge_schemas.wire.errors import Problem
from edge_service.private_files import read_secret

TIMEOUT_S = 15.0
ACTION_TIMEOUT_S = 120.0
"""Of an action: it may change thousands of entries."""
MAX_ANSWER_BYTES = 64 << 20
_NOT_MODIFIED = 304

Model = TypeVar("Model", bound=BaseModel)


class Answer(NamedTuple):
    """A good answer.

    Attributes:
        body: None if it is what the caller has already, by its etag.
    """

    body: bytes | None
    etag: str | None


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Calls the relay for a command. Synchronous: a command makes one call after the other.

    Attributes:
        uses_proxy: Go through the proxy that the environment names. The operators' listener is internal, so its calls
            do not; the workers' listener may be anywhere.
        option: That names the address, for texts.
        ca_option: That names the CA file, for texts.
    """

    url: str
    token: str
    ca_file: Path | None
    uses_proxy: bool = False
    option: str = "--url"
    ca_option: str = "--ca-file or RELAY_ADMIN_CA_FILE"

    def call(
        self,
        method: str,
        path: str,
        body: str | None = None,
        query: Mapping[str, str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> bytes:
        """The body of a successful answer.

        Raises:
            Failure: The relay refused the call, or there was no answer.
        """
        headers = {"Content-Type": "application/json"}
        data = None if body is None else body.encode()
        return self._send(method, _with_query(path, query), headers, data, timeout_s).body or b""

    def read(self, path: str, query: Mapping[str, str] | None = None, *, etag: str | None = None) -> Answer:
        """What is at this path, unless it is still what has this etag.

        Raises:
            Failure: The relay refused the call, or there was no answer.
        """
        headers = {} if etag is None else {"If-None-Match": etag}
        return self._send("GET", _with_query(path, query), headers, None, TIMEOUT_S)

    def _send(self, method: str, path: str, headers: dict[str, str], data: bytes | None, timeout_s: float) -> Answer:
        headers["Authorization"] = f"Bearer {self.token}"
        try:
            request = urllib.request.Request(  # noqa: S310  # the scheme was checked
                self.url + path, data=data, headers=headers, method=method
            )
            with self._opener().open(request, timeout=timeout_s) as answer:
                body = bytes(answer.read(MAX_ANSWER_BYTES + 1))
                etag = answer.headers.get("ETag")
        except urllib.error.HTTPError as error:
            if error.code == _NOT_MODIFIED:
                return Answer(None, error.headers.get("ETag"))
            raise _refusal(error, self.option) from None
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError):
                # No repetition helps.
                text = f"the certificate of {self.url} is not trusted: {_reason(error)}. Name its CA: {self.ca_option}"
                raise Failure(text, EXIT_USAGE) from None
            text = f"no answer from {self.url}: {_reason(error)}. Is the relay up, and is {self.option} right?"
            raise Failure(text, EXIT_NO_ANSWER) from None
        if len(body) > MAX_ANSWER_BYTES:
            raise Failure(f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB: ask for less, see --limit")
        return Answer(body, etag)

    def _opener(self) -> urllib.request.OpenerDirector:
        try:
            tls = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except OSError as error:
            raise Failure(f"can't use the CA file {self.ca_file}: {error}", EXIT_USAGE) from None
        # The token must not be redirected.
        return urllib.request.build_opener(
            urllib.request.ProxyHandler(None if self.uses_proxy else {}),
            urllib.request.HTTPSHandler(context=tls),
            _NoRedirect(),
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the token would be sent to another address."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


def wrong_input(error: ValidationError) -> Failure:
    """What is wrong with what was typed, without the values."""
    from edge_relay.http.bodies import explain  # it imports aiohttp, which takes time

    return Failure(explain(error), EXIT_USAGE)


def parse(model: type[Model], body: bytes) -> Model:
    """An answer as its model.

    Raises:
        Failure: It is something else.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError:
        text = "the answer is not what this command expects: is it from a relay, of this version? Check --url"
        raise Failure(text) from None


def connect(options: Namespace) -> AdminClient:
    """A client from the options, else from the environment, else from a context; a data folder replaces all three.

    A context is not mixed with an address from elsewhere: its token must not be sent to another relay.

    Raises:
        Failure: Address or token is missing or invalid.
    """
    try:
        settings = AdminSettings()
        info = None if options.data_dir is None else read_info(options.data_dir)
        context = None if info is not None else _context(options, settings)
        token_file = _token_file(options, info, settings, context)
        secret = settings.access_token.get_secret_value().strip() if settings.access_token else ""
        token = read_secret(token_file) if token_file is not None else secret
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    if not token:
        text = (
            "an access token is needed: 'edge-relay context add', --data-dir of a standalone relay, "
            "--access-token-file, or RELAY_ACCESS_TOKEN"
        )
        raise Failure(text, EXIT_USAGE)
    if not token.isascii() or not token.isprintable() or " " in token:
        # The text does not quote it: the rest of the file may be a secret too.
        raise Failure("the access token must be one word of ASCII characters", EXIT_USAGE)
    found = info.operator_url if info is not None else context.url if context is not None else None
    url = str(options.url or found or settings.admin_url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise Failure(f"--url: {url!r} is not an http:// or https:// address", EXIT_USAGE)
    ca_file = options.ca_file or settings.admin_ca_file
    if ca_file is None and context is not None and context.ca_file is not None:
        ca_file = Path(context.ca_file)
    return AdminClient(url, token, ca_file)


def _context(options: Namespace, settings: AdminSettings) -> Context | None:
    """The context that counts; None if options or environment name the relay."""
    if options.context is not None and options.url is not None:
        raise Failure("--context names the relay already: leave --url out", EXIT_USAGE)
    if options.context is None and (options.url is not None or "admin_url" in settings.model_fields_set):
        return None
    if options.context is not None:
        return read_contexts().get(options.context)
    contexts = read_contexts()
    return None if contexts.current is None else contexts.get(contexts.current)


def _token_file(
    options: Namespace, info: StandaloneInfo | None, settings: AdminSettings, context: Context | None
) -> Path | None:
    """The file of the token; None if it is in the environment, or nowhere."""
    given: Path | None = options.access_token_file
    if given is not None:
        return given
    if info is not None:
        return info.access_token_file
    if options.context is None and (settings.access_token_file is not None or settings.access_token is not None):
        return settings.access_token_file
    return settings.access_token_file if context is None else Path(context.access_token_file)


def _refusal(error: urllib.error.HTTPError, option: str) -> Failure:
    body = error.read(1 << 16)
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return Failure(f"status {error.code}, not from a relay: check {option}")
    hints = {
        "unauthenticated": ": check the access token",
        "credential_revoked": ": 'edge-relay access-token create' creates another",
        "forbidden": ": 'edge-relay tokens list' shows what each access token may do",
    }
    if not problem.detail:
        hints["not_found"] = f": check {option}"
    status = EXIT_NO_ANSWER if problem.retryable and problem.status >= 500 else 1
    return Failure(f"refused ({problem.code}): {problem.detail or problem.title}{hints.get(problem.code, '')}", status)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def segment(name: str) -> str:
    """A name as a segment of a path."""
    return quote(name, safe="")


def _with_query(path: str, query: Mapping[str, str] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path
