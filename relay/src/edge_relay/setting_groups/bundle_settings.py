"""The settings of the delivery of bundles, part of the relay's settings."""

from pydantic import Field
from pydantic_settings import BaseSettings


class BundleSettings(BaseSettings):
    """What published bundles use of one replica."""

    bundle_cache_bytes: int = Field(
        default=64 << 20,
        ge=0,
        description="Memory in bytes for pieces of published bundles that workers may fetch again. With 0, a piece is "
        "read from NATS for each worker, unless several wait for it at the same time.",
    )
    bundle_answers: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Answers with bundles that workers read from this replica at the same time; each needs up to 1 MiB "
        "besides the cache. Calls beyond it are refused with 429, and the worker repeats them.",
    )
    bundle_answers_per_worker: int = Field(default=4, ge=1, le=1000, description="The same for one worker.")
