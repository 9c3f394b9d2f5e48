"""Looks for secrets where they must not be: files, environments, arguments, memory, traffic."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}")
_CHUNK = 4 << 20
_OVERLAP = 4096


class Search:
    """The patterns: named secrets by their real values, and any signed token."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = {name: value.encode() for name, value in secrets.items()}

    def within(self, data: bytes, where: str) -> set[str]:
        """What the data hold, each as `name in where`."""
        found = {f"{name} in {where}" for name, value in self._secrets.items() if value in data}
        if any(_is_token(match) for match in TOKEN.findall(data)):
            found.add(f"token in {where}")
        return found

    def folders(self, roots: Iterable[Path]) -> set[str]:
        """What the files below these folders hold."""
        files = [file for root in roots for file in root.rglob("*") if file.is_file()]
        return {hit for file in files for hit in self.within(file.read_bytes(), str(file))}

    def process(self, pid: int) -> set[str]:
        """What environment, arguments and memory of a process hold.

        Raises:
            OSError: It has ended, or this user may not look.
        """
        found: set[str] = set()
        for part in ("environ", "cmdline"):
            found |= self.within(Path(f"/proc/{pid}/{part}").read_bytes(), f"{part} of {pid}")
        return found | self._memory(pid)

    def _memory(self, pid: int) -> set[str]:
        found: set[str] = set()
        regions = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for region in regions:
                limits, rights, *_ = region.split()
                if "r" not in rights or region.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                    continue
                start, end = (int(limit, 16) for limit in limits.split("-"))
                for at in range(start, end, _CHUNK - _OVERLAP):
                    memory.seek(at)
                    try:
                        found |= self.within(memory.read(min(_CHUNK, end - at)), f"memory of {pid}")
                    except OSError:
                        break  # unmapped since, or an unreadable page
        return found


def _is_token(text: bytes) -> bool:
    """Whether its first part is the header of a signed token; libraries hold examples that are none."""
    head = text.split(b".", 1)[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header
