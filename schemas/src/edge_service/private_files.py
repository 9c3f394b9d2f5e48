"""Files that only their owner may read, replaced completely or not at all."""

import os
import secrets
from pathlib import Path

from edge_service.text_files import read_text_file

PRIVATE = 0o600
PUBLIC = 0o644
PRIVATE_DIR = 0o700


def make_private_dir(path: Path) -> Path:
    """Create a folder and its parents with mode 0700; an existing folder gets this mode too."""
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIR)
    path.chmod(PRIVATE_DIR)
    return path


def write_file(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Replace a file: after a crash, and for readers, it has either the old content or the new one.

    The mode is set before the first byte is written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_or_create(path: Path, new_secret: str) -> str:
    """The secret in a file; `new_secret` is written there if there is no file yet.

    Raises:
        ValueError: The file is empty.
    """
    if not path.exists():
        write_file(path, f"{new_secret}\n".encode())
    return read_secret(path)


def read_secret(path: Path) -> str:
    """The secret in a file, without white space around it.

    Raises:
        OSError: It can't be read.
        ValueError: It is empty.
    """
    text = read_text_file(path).strip()
    if not text:
        msg = f"{path} is empty; it must hold a secret"
        raise ValueError(msg)
    return text
