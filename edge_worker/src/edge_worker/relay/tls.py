"""The certificate authorities that the worker trusts."""

import ssl
from pathlib import Path

from edge_worker.settings import Settings, SettingsError

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def tls_context(settings: Settings) -> ssl.SSLContext:
    """A context that trusts the system's authorities and those of the settings.

    Relay and proxy share one context: aiohttp uses it for both, and the authority of a proxy that inspects TLS
    must be trusted for the relay's name anyway.

    Raises:
        SettingsError: A file cannot be read or contains no certificate.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, path in (("ca_file", settings.ca_file), ("proxy_ca_file", settings.proxy_ca_file)):
        if path is not None:
            _trust(context, name, path)
    return context


def write_authorities(settings: Settings, path: Path) -> Path | None:
    """The authorities that the agent trusts, in one file: installers use their own ones or one file, never both."""
    system = ssl.get_default_verify_paths().cafile or next((file for file in _BUNDLES if Path(file).exists()), None)
    own = [file for file in (settings.ca_file, settings.proxy_ca_file) if file is not None]
    if system is None and not own:
        return None
    files = [*([Path(system)] if system else []), *own]
    path.write_bytes(b"\n".join(file.read_bytes() for file in files))
    return path


def _trust(context: ssl.SSLContext, name: str, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        msg = f"{name}: {path} cannot be used: {error}"
        raise SettingsError(msg) from None
