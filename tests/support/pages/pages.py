"""The commands of a documentation page: each is run by a test, or listed with the reason why no test can run it."""

import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

ROOT = Path(__file__).parents[3]
NO_RELEASE = "nothing is on the package index before the first release; the quickstart's test installs the checkout"

Act = TypeVar("Act")


@dataclass(frozen=True)
class Page(Generic[Act]):
    """A page and its commands.

    Attributes:
        name: Its path from the root of the repository.
        run: How a test runs each command.
        not_run: The other commands, each with the reason why no test can run it.
    """

    name: str
    run: Mapping[str, Act]
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def commands(self) -> list[str]:
        """Every line of the `sh` blocks in order, without comments, with continuation lines joined."""
        lines = "".join(self.blocks("sh")).replace("\\\n", " ").splitlines()
        bare = (re.sub(r"\s+#\s.*$", "", line) for line in lines)
        return [re.sub(r"\s+", " ", line).strip() for line in bare if line.strip() and not line.startswith("#")]

    def blocks(self, language: str) -> list[str]:
        """The code blocks in a language, without their indentation in the page."""
        text = (ROOT / self.name).read_text()
        found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
        return [textwrap.dedent(block) for _, block in found]
