"""The content of a certificate, read from its DER form.

The standard library decodes only trusted certificates, but the doctor needs the untrusted ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_COMMON_NAME, _ORGANISATION, _UNIT = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x04\x0b"
_ALTERNATIVE_NAMES = b"\x55\x1d\x11"
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_OCTETS, _BMP_STRING, _UTC_TIME = 0x04, 0x1E, 0x17
_DNS_NAME, _ADDRESS = 0x82, 0x87


@dataclass(frozen=True)
class Certificate:
    """A server's certificate.

    Attributes:
        subject: The owner, for people.
        issuer: The signer, for people.
        names: The host names and addresses for which it is valid.
    """

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]

    @property
    def is_self_signed(self) -> bool:
        """Owner and signer are the same."""
        return self.subject == self.issuer


def read_certificate(der: bytes) -> Certificate | None:
    """The certificate; None if the bytes are not a readable certificate."""
    try:
        return _read(der)
    except (ValueError, IndexError, StopIteration):
        return None


def _read(der: bytes) -> Certificate:
    (_, certificate), *_ = _items(der)
    (_, signed), *_ = _items(certificate)
    fields = list(_items(signed))
    if fields[0][0] == _VERSION:
        del fields[0]
    # Serial number and algorithm come before the issuer, the key after the subject.
    _, _, (_, issuer), (_, validity), (_, subject), _, *optional = fields
    not_before, not_after = (_time(tag, value) for tag, value in _items(validity))
    extensions = next((value for tag, value in optional if tag == _EXTENSIONS), b"")
    return Certificate(_name(subject), _name(issuer), not_before, not_after, tuple(_alternative_names(extensions)))


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a constructed value: tag and content of each."""
    while data:
        tag, length, start = data[0], data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start])
        if start + length > len(data):
            msg = "cut off"
            raise ValueError(msg)
        yield tag, data[start : start + length]
        data = data[start + length :]


def _name(data: bytes) -> str:
    """The common name and, where there is one, the organisation."""
    parts: dict[bytes, str] = {}
    for _, one in _items(data):
        for _, pair in _items(one):
            (_, kind), (tag, value) = _items(pair)
            parts.setdefault(kind, value.decode("utf-16-be" if tag == _BMP_STRING else "utf-8", errors="replace"))
    common, organisation = parts.get(_COMMON_NAME) or parts.get(_UNIT), parts.get(_ORGANISATION)
    if common and organisation and organisation not in common:
        return f"{common} ({organisation})"
    return common or organisation or "a nameless signer"


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        # The year has two digits: by RFC 5280, 50 means 1950.
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _alternative_names(data: bytes) -> Iterator[str]:
    for _, extensions in _items(data):
        for _, extension in _items(extensions):
            (_, kind), *_, (tag, value) = _items(extension)
            if kind == _ALTERNATIVE_NAMES and tag == _OCTETS:
                (_, names), *_ = _items(value)
                yield from _plain_names(names)


def _plain_names(data: bytes) -> Iterator[str]:
    for tag, value in _items(data):
        if tag == _DNS_NAME:
            yield value.decode("ascii")
        elif tag == _ADDRESS:
            yield str(ip_address(value))
