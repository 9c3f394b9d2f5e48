"""The calls of a producer."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from edge_relay.cli.admin_client import AdminClient, parse, segment
from edge_relay.cli.output import EXIT_USAGE, Failure
from edge_relay.settings import SettingsError
from edge_relay.standalone.info import read_info
from edge_schemas.producers.submissions import (
    BatchResult,
    Cancellation,
    JobStatus,
    Submission,
    SubmissionBatch,
    Submitted,
)
from edge_schemas.why.for_producers import WaitAnswer
from edge_schemas.wire import routes
from edge_service.private_files import read_secret

_MARGIN_S = 15.0
_CA_OPTION = "--ca-file or RELAY_CA_FILE"


class ProducerSettings(BaseSettings):
    """The settings of a producer's commands."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    url: str | None = Field(default=None, description="Base URL of the workers' listener.")
    access_token_file: Path | None = Field(default=None, description="File with the producer's access token.")
    access_token: SecretStr | None = Field(
        default=None, description="The access token itself, where a file is not possible. The file has precedence."
    )
    ca_file: Path | None = Field(default=None, description="PEM CA file of the relay, or of a proxy that inspects TLS.")


@dataclass(frozen=True, slots=True)
class ProducerCalls:
    """Submits, follows and cancels."""

    client: AdminClient

    def submit(self, queue: str, submission: Submission) -> Submitted:
        """Submit one job.

        Raises:
            Failure: The relay refused it, or there was no answer.
        """
        path = routes.QUEUE_JOBS.format(queue=segment(queue))
        return parse(Submitted, self.client.call("POST", path, submission.model_dump_json(exclude_defaults=True)))

    def submit_batch(self, queue: str, batch: SubmissionBatch) -> BatchResult:
        """Submit many; each is accepted or refused for itself."""
        path = routes.QUEUE_JOB_BATCHES.format(queue=segment(queue))
        return parse(BatchResult, self.client.call("POST", path, batch.model_dump_json(exclude_defaults=True)))

    def status(self, job: str, *, wait_s: float = 0.0) -> JobStatus:
        """How a job stands, at its end or after this time."""
        query = {"wait": f"{wait_s:g}"}
        answer = self.client.call("GET", routes.JOB.format(job=job), query=query, timeout_s=wait_s + _MARGIN_S)
        return parse(JobStatus, answer)

    def why(self, job: str) -> WaitAnswer:
        """Why a job waits."""
        return parse(WaitAnswer, self.client.call("GET", routes.JOB_WHY.format(job=job)))

    def log(self, job: str, offset: int, *, wait_s: float = 0.0) -> bytes:
        """The log from this offset; nothing if nothing was added within this time."""
        query = {"offset": str(offset), "wait": f"{wait_s:g}"}
        return self.client.call("GET", routes.JOB_LOG.format(job=job), query=query, timeout_s=wait_s + _MARGIN_S)

    def cancel(self, job: str) -> JobStatus:
        """Cancel a job."""
        body = Cancellation().model_dump_json()
        return parse(JobStatus, self.client.call("POST", routes.JOB_CANCEL.format(job=job), body))


def connect(options: Namespace) -> ProducerCalls:
    """Calls to the relay of the options, else of the environment; a data folder replaces both.

    Raises:
        Failure: Address or token is missing or invalid.
    """
    settings = ProducerSettings()
    try:
        info = None if options.data_dir is None else read_info(options.data_dir)
        file = options.access_token_file or (info.access_token_file if info is not None else settings.access_token_file)
        secret = settings.access_token.get_secret_value().strip() if settings.access_token else ""
        token = read_secret(file) if file is not None else secret
    except (SettingsError, OSError, ValueError) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    url = options.relay or (info.relay_url if info is not None else settings.url)
    if not url:
        raise Failure("which relay? --relay URL, RELAY_URL, or --data-dir of a standalone relay", EXIT_USAGE)
    if not str(url).startswith(("http://", "https://")):
        raise Failure(f"--relay: {url!r} is not an http:// or https:// address", EXIT_USAGE)
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        text = "the access token of a producer is needed: --access-token-file, RELAY_ACCESS_TOKEN_FILE"
        raise Failure(text, EXIT_USAGE)
    ca_file = options.ca_file or settings.ca_file or (info.ca_file if info is not None else None)
    client = AdminClient(str(url).rstrip("/"), token, ca_file, uses_proxy=True, option="--relay", ca_option=_CA_OPTION)
    return ProducerCalls(client)
