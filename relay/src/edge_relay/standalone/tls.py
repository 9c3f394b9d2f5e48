"""A development CA and a server certificate signed by it, for `standalone`. Production has its own certificate.

The extensions are those that Python 3.13 requires by default (`ssl.VERIFY_X509_STRICT`): key usage of the CA, subject
and authority key identifiers, critical basic constraints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_service.private_files import PRIVATE, PUBLIC, make_private_dir, write_file

CA_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)
"""Some clients reject server certificates with a longer lifetime."""
RENEW_BEFORE = timedelta(days=30)
_BACKDATE = timedelta(hours=1)
"""A worker's clock may be behind."""


class HostRefused(ValueError):
    """A name that a certificate can't contain; the text says which and why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the PEM files are. A worker needs `ca_cert` only; `ca_key` and `key` never leave the machine."""

    ca_cert: Path
    ca_key: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Pair:
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(directory: Path, hosts: Sequence[str], *, now: datetime) -> TlsFiles:
    """Create what is missing, renew what must be renewed, keep the rest.

    The CA is kept until it expires, so that workers continue to trust it. The server certificate is renewed when the
    hosts changed, when it is about to expire, or when another CA signed it.

    Args:
        directory: Created if it is missing, mode 0700.
        hosts: DNS names and IP addresses by which workers reach the relay.
        now: Aware UTC.

    Raises:
        HostRefused: One of the hosts is neither.
    """
    names = _alternative_names(hosts)
    make_private_dir(directory)
    files = TlsFiles(directory / "ca.pem", directory / "ca.key", directory / "relay.pem", directory / "relay.key")
    ca = _load(files.ca_cert, files.ca_key)
    if ca is None or _ends_soon(ca, now):
        ca = _make_ca(now)
        _store(ca, files.ca_cert, files.ca_key, cert_mode=PUBLIC)
    server = _load(files.cert, files.key)
    if server is None or _ends_soon(server, now) or not _fits(server, ca, names):
        _store(_make_server(ca, names, now), files.cert, files.key, cert_mode=PRIVATE)
    return files


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [_alternative_name(host) for host in dict.fromkeys(hosts)]


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass  # a DNS name, then
    try:
        name = host.rstrip(".").encode("idna").decode().lower()
    except UnicodeError as error:
        raise HostRefused(f"{host!r} is neither a DNS name nor an IP address: {error}") from None
    if not name or not all(part and part.replace("-", "").replace("_", "").isalnum() for part in name.split(".")):
        raise HostRefused(f"{host!r} is neither a DNS name nor an IP address")
    return x509.DNSName(name)


def _make_ca(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial in the name distinguishes the CAs of two installations in one trust store.
    serial = x509.random_serial_number()
    name = _name(f"Edge Relay development CA {serial:x}"[:60])
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    builder = (
        _builder(name, name, key, serial=serial, now=now, life=CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(ca: _Pair, names: list[x509.GeneralName], now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_id = ca.cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    life = min(SERVER_LIFE, ca.cert.not_valid_after_utc - now)
    builder = (
        _builder(_name("Edge Relay"), ca.cert.subject, key, serial=x509.random_serial_number(), now=now, life=life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return _Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    serial: int,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _load(cert_file: Path, key_file: Path) -> _Pair | None:
    """The pair, or None if it is missing, damaged, or incomplete after a run that was killed."""
    try:
        cert = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        return None
    return _Pair(cert, key)


def _store(pair: _Pair, cert_file: Path, key_file: Path, *, cert_mode: int) -> None:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_file(key_file, key)
    write_file(cert_file, pair.cert.public_bytes(serialization.Encoding.PEM), mode=cert_mode)


def _ends_soon(pair: _Pair, now: datetime) -> bool:
    return pair.cert.not_valid_after_utc - now < RENEW_BEFORE


def _fits(server: _Pair, ca: _Pair, names: list[x509.GeneralName]) -> bool:
    try:
        server.cert.verify_directly_issued_by(ca.cert)
        found = server.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(found) == set(names)
