"""Small text files that people write or copy: tokens, passwords, settings. Other editors write them in other ways."""

import codecs
from pathlib import Path

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class NotText(ValueError):
    """The file is not UTF-8 text. The error names the fault, without the content, which may be a secret."""


def read_text_file(path: Path) -> str:
    """The text of a file, without a byte order mark, its lines ended by a single newline.

    Raises:
        OSError: The file cannot be read.
        NotText: The file is not UTF-8.
    """
    return text_of(path.read_bytes())


def text_of(content: bytes) -> str:
    """See `read_text_file`.

    Raises:
        NotText: The content is not UTF-8.
    """
    if content.startswith(_UTF_16):
        raise NotText("it is UTF-16 text: save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotText(f"byte {error.start + 1} is not UTF-8 text: save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
