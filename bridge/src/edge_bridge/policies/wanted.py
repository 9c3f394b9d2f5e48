"""What a policy becomes by a file and by options. No NATS here."""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_schemas.policies.policy import AccessKind, Policy, PolicyFile, PolicyMode

MAX_FILE_BYTES = 1 << 20


class WrongPolicy(Exception):
    """What was given is no policy; the text explains what is wrong, and with what."""


def read_file(name: str) -> PolicyFile:
    """The policy in a file: JSON if its name ends so, else TOML. `-` is standard input.

    Raises:
        WrongPolicy: It can't be read.
    """
    try:
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1) if name == "-" else _read(Path(name))
        if len(data) > MAX_FILE_BYTES:
            raise WrongPolicy(f"{name} has more than {MAX_FILE_BYTES} bytes")
        content: Any = json.loads(data) if name.endswith(".json") else tomllib.loads(data.decode())
    except OSError as error:
        raise WrongPolicy(f"{name} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WrongPolicy(f"{name} is no {'JSON' if name.endswith('.json') else 'TOML'}: {error}") from None
    return _checked(content, f"{name}: ")


def changed(before: PolicyFile, *, mode: str | None, allow: Sequence[str] = (), drop: Sequence[str] = ()) -> PolicyFile:
    """A policy with another mode, or with more or fewer patterns.

    Args:
        before: The policy in the file, or the stored one.
        mode: None to leave it.
        allow: `KIND=PATTERN`.
        drop: Likewise; each must be there.

    Raises:
        WrongPolicy: An option is wrong.
    """
    patterns: dict[str, list[str]] = {kind.value: list(those) for kind, those in before.allow.items()}
    for kind, pattern in map(_parse, allow):
        known = patterns.setdefault(kind, [])
        if pattern not in known:
            known.append(pattern)
    for kind, pattern in map(_parse, drop):
        if pattern not in patterns.get(kind, ()):
            raise WrongPolicy(f"--drop {kind}={pattern}: the policy has no such pattern")
        patterns[kind].remove(pattern)
    kept = {kind: those for kind, those in patterns.items() if those}
    return _checked({"mode": mode or before.mode, "allow": kept}, "")


def editable(policy: Policy) -> PolicyFile:
    """A stored policy as people write it.

    Raises:
        WrongPolicy: A later version has stored it.
    """
    return _checked({"mode": policy.mode, "allow": policy.allow}, "the stored policy: ")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _parse(option: str) -> tuple[str, str]:
    kind, equals, pattern = option.partition("=")
    if not equals or not pattern:
        raise WrongPolicy(f"{option!r} must be KIND=PATTERN, for example connection=erp_*")
    if kind not in {one.value for one in AccessKind}:
        raise WrongPolicy(f"{kind!r} is no kind: use one of {', '.join(AccessKind)}")
    return kind, pattern


def _checked(content: object, where: str) -> PolicyFile:
    try:
        return PolicyFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the policy"
        advice = f"; keys are mode ({', '.join(PolicyMode)}) and allow, with {', '.join(AccessKind)}"
        raise WrongPolicy(f"{where}{place}: {first['msg']}{advice}") from None
