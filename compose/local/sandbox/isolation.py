"""How Linux can block a program's network access: a network namespace, or Landlock rules."""

import ctypes
import fcntl
import os
import platform
import socket
import struct
import sys
from pathlib import Path
from typing import Literal, TypeAlias

IsolationKind: TypeAlias = Literal["namespace", "landlock", "none"]

ISOLATION_VARIABLE = "EDGE_DEMO_ISOLATION"
"""Environment variable that selects one kind of isolation."""
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_PR_SET_NO_NEW_PRIVS = 38
# Landlock's system calls have the same numbers on every architecture.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION, _LANDLOCK_RULE_NET_PORT = 1, 2
_LANDLOCK_ACCESS_NET_CONNECT_TCP = 2
_LANDLOCK_FIRST_WITH_NETWORK = 4


class IsolationNotPossible(Exception):
    """This machine cannot block a program's network access. The text names what was tried and what to do."""


def isolate_this_process(proxy_port: int) -> tuple[IsolationKind, socket.socket | None]:
    """Block the network for this process and for everything that it starts, permanently.

    The process must have one thread.

    Args:
        proxy_port: The only TCP port that stays reachable when no namespace can be used.

    Returns:
        The kind of isolation, and with a namespace a socket that listens inside, for the connections to the proxy.

    Raises:
        IsolationNotPossible: No kind works, and the environment does not allow a run without isolation.
    """
    if os.environ.get(ISOLATION_VARIABLE) == "none":
        return "none", None
    reasons = []
    for kind, isolate in (("namespace", _enter_namespace), ("landlock", lambda: _enter_landlock(proxy_port))):
        if os.environ.get(ISOLATION_VARIABLE, kind) == kind:
            try:
                return kind, isolate()  # type: ignore[return-value]  # a Literal in a loop
            except OSError as refused:
                reasons.append(f"{kind}: {refused}")
    msg = (
        f"this machine cannot isolate the worker ({'; '.join(reasons)}). Allow unprivileged user namespaces, "
        f"use a kernel with Landlock for TCP (6.7 or later), or set {ISOLATION_VARIABLE}=none to run without isolation"
    )
    raise IsolationNotPossible(msg)


def _enter_namespace() -> socket.socket:
    if sys.platform != "linux":
        msg = f"not on {platform.system()}"
        raise OSError(msg)
    user, group = os.geteuid(), os.getegid()
    _checked(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET))
    # The program keeps its user, so its file permissions do not change.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _bring_up_loopback()
    return socket.create_server(("127.0.0.1", 3128), backlog=128)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        name, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | _IFF_UP))


def _enter_landlock(proxy_port: int) -> None:
    if sys.platform != "linux":
        msg = f"not on {platform.system()}"
        raise OSError(msg)
    libc = ctypes.CDLL(None, use_errno=True)
    version = _checked(libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION))
    if version < _LANDLOCK_FIRST_WITH_NETWORK:
        msg = f"Landlock {version} has no rules for TCP"
        raise OSError(msg)
    handled = struct.pack("QQ", 0, _LANDLOCK_ACCESS_NET_CONNECT_TCP)
    rules = _checked(libc.syscall(_LANDLOCK_CREATE_RULESET, handled, len(handled), 0))
    allowed = struct.pack("QQ", _LANDLOCK_ACCESS_NET_CONNECT_TCP, proxy_port)
    _checked(libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_NET_PORT, allowed, 0))
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
