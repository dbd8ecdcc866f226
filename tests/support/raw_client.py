"""A client that sends bytes, whatever they are, and closes its side."""

import contextlib
import socket

import httpx

from tests.support.scripted_upstream import DEADLINE


def exchange(address: str, sent: bytes) -> bytes:
    """All that comes back from the server at a base URL until it closes the connection."""
    url = httpx.URL(address)
    received = b""
    with socket.create_connection((url.host, url.port), timeout=DEADLINE) as connection:
        # It may have refused them, and gone, before all are sent.
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while read := connection.recv(65536):
                received += read
    return received
