"""Settings of the relay that change only what operators are shown: addresses that others have."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class ShownSettings(BaseSettings):
    """A part of the relay's settings."""

    public_url: str | None = Field(
        default=None,
        max_length=2000,
        pattern=r"^https?://[^\s]+$",
        description="Address by which workers reach the relays, for the command that operators are shown to enrol one.",
    )
    public_ca_file: Path | None = Field(
        default=None,
        description="PEM file with the private CA that workers need to trust this address, for the same command.",
    )
    airflow_url: str | None = Field(
        default=None,
        max_length=2000,
        pattern=r"^https?://[^\s]+$",
        description="Address of Airflow's UI as operators' browsers reach it, for links from jobs to their tasks.",
    )
