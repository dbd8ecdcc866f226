"""Health check of the server in this container. Exit code 0: healthy; 1: not healthy.

It sends a request to the port for probes (METRICS_PORT) if there is one, else to the port of the
API. With TLS or a Unix socket, an accepted connection is sufficient. It imports as little as
possible, because it runs often.
"""

import os
import socket
import sys

SECONDS = 2


def main() -> int:
    ops, path = os.environ.get("METRICS_PORT"), os.environ.get("UNIX_SOCKET")
    host = os.environ.get("HOST") or os.environ.get("ANTHROPIC_PROXY_BIND") or "127.0.0.1"
    address = (
        "127.0.0.1" if host in ("0.0.0.0", "::", "") else host,
        int(ops or os.environ.get("PORT") or 3000),
    )
    try:
        if path and not ops:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(SECONDS)
                connection.connect(path)
            return 0
        with socket.create_connection(address, SECONDS) as connection:
            return 0 if os.environ.get("TLS_CERT_FILE") and not ops else _probe_http(connection)
    except OSError as error:
        print(error)
        return 1


def _probe_http(connection: socket.socket) -> int:
    connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    line = connection.recv(256).split(b"\r\n")[0]
    print(line.decode("ascii", "replace"))
    return 0 if b" 200" in line else 1


if __name__ == "__main__":
    sys.exit(main())
