"""What the worker reads of the process's environment besides its settings, and what others get of it."""

import os
from collections.abc import Mapping
from pathlib import Path

from edge_worker.settings import Settings

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_FOR_INSTALLERS = frozenset(
    {"PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME", "NETRC"}
)
_INSTALL_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"})
_FOR_UV = frozenset(
    {
        "UV_CACHE_DIR",
        "UV_CONFIG_FILE",
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_HTTP_TIMEOUT",
        "UV_INSECURE_HOST",
        "UV_KEYRING_PROVIDER",
        "UV_NATIVE_TLS",
        "UV_NO_BUILD",
        "UV_NO_INDEX",
    }
)
_PIP_FOR_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
}
_PROXY_NAMES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


def variable_names(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """The names of all variables with a value. The values are not returned: they may be secrets."""
    environ = os.environ if environ is None else environ
    return frozenset(name for name, value in environ.items() if value)


def runtime_base(environ: Mapping[str, str] | None = None) -> Path | None:
    """`$XDG_RUNTIME_DIR` if it exists, else None."""
    named = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR")
    return Path(named) if named and Path(named).is_dir() else None


def proxy_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that name a proxy, unchanged. `HTTP_PROXY` in capitals is not among them: CGI sets it."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in _PROXY_NAMES if name in environ}


def installer_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the agent that pip gets: an allow-list with pip's own variables, without proxies.

    Variables that would make pip install elsewhere are left out.
    """
    environ = os.environ if environ is None else environ
    return {
        name: value
        for name, value in environ.items()
        if name in _FOR_INSTALLERS
        or name.startswith("LC_")
        or (name.startswith("PIP_") and name not in _INSTALL_ELSEWHERE)
    }


def uv_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the agent that uv gets: an allow-list without proxies, pip's variables by the names of uv."""
    environ = os.environ if environ is None else environ
    of_pip = {name: environ[old] for old, name in _PIP_FOR_UV.items() if old in environ}
    chosen = {
        name: value
        for name, value in environ.items()
        if name in _FOR_INSTALLERS or name in _FOR_UV or name.startswith(("LC_", "UV_INDEX"))
    }
    return {**of_pip, **chosen}


def task_environment(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of the agent that tasks get: an allow-list and `task_env`, without credentials."""
    environ = os.environ if environ is None else environ
    wanted = {*_PASSED_ON, *settings.task_env}
    passed = {name: value for name, value in environ.items() if name in wanted or name.startswith("LC_")}
    return {
        name: _without_userinfo(value) if name.lower().endswith("_proxy") else value for name, value in passed.items()
    }


def _without_userinfo(proxy: str) -> str:
    scheme, separator, address = proxy.rpartition("://")
    return scheme + separator + address.rpartition("@")[2]
