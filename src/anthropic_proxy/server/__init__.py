"""The server process: Hypercorn, sockets, TLS, worker supervision, reload, daemon."""
