"""Free ports are chosen, preferred ports first."""

import socket

from local.system.ports import choose_port


def test_a_free_preferred_port_is_chosen_once() -> None:
    preferred = _free()
    assert choose_port(preferred) == preferred
    assert choose_port(preferred) != preferred


def test_a_used_port_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert choose_port(port) != port


def test_a_port_used_on_all_addresses_is_not_chosen() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        assert choose_port(port) != port


def test_no_port_is_chosen_twice() -> None:
    chosen = [choose_port() for _ in range(50)]
    assert len(set(chosen)) == 50


def _free() -> int:
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        port: int = any_socket.getsockname()[1]
        return port
