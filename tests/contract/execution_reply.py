"""An answer of the Execution API."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    content_type: str
    body: Any

    @property
    def reason(self) -> str:
        """Of a refusal in Airflow's form, with the exact content type without which the SDK reads no refusal."""
        assert self.content_type == "application/json"
        reason: str = self.body["detail"]["reason"]
        return reason
