"""TLS for clients: the server certificate, and the CAs of client certificates."""

import ssl
import time

from anthropic_proxy.config.settings import ServerSettings
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.observability.logs import Log

# Cipher suites of TLS 1.2 that HTTP/2 allows (RFC 9113, 9.2).
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

# Minimum seconds between two log lines about requests without TLS.
_LOG_INTERVAL = 60
_PLAIN_HTTP_HINT = (
    "this port accepts only HTTPS: "
    "configure the front proxy to use HTTPS, or use https:// in the client"
)


class _PlainHttpReporter:
    """Log, at most once a minute, that a client sent an HTTP request without TLS.

    The event loop does not log the failed handshake. A front proxy that does not use HTTPS responds
    with 502 to every request, and only this log shows the reason.
    """

    def __init__(self) -> None:
        self._log = Log()
        self._next_report = 0.0

    def report(self) -> None:
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + _LOG_INTERVAL
            self._log.warning("plain HTTP request on the TLS port rejected", hint=_PLAIN_HTTP_HINT)

    def ssl_object_class(self) -> type[ssl.SSLObject]:
        """Return a class for `SSLContext.sslobject_class`."""
        report = self.report

        class Handshake(ssl.SSLObject):
            def do_handshake(self) -> None:
                try:
                    super().do_handshake()
                except ssl.SSLError as error:
                    if error.reason == "HTTP_REQUEST":
                        report()
                    raise

        return Handshake


class Certificates:
    """TLS context for connections, with the certificates that the settings name."""

    def __init__(self, settings: ServerSettings) -> None:
        """Load the certificates. Raises ConfigError."""
        self._settings = settings
        self.context = _create_context(settings)
        self.context.sslobject_class = _PlainHttpReporter().ssl_object_class()

    def reload(self) -> None:
        """Reload the server certificate for new connections.

        If the new certificate is invalid, keep the previous certificate and raise ConfigError. The
        CAs of client certificates are not reloaded, because a context cannot remove a CA.
        """
        _create_context(self._settings)
        _load_certificate(self.context, self._settings)


def _create_context(settings: ServerSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2", "http/1.1"])
    _load_certificate(context, settings)
    authorities = settings.tls_client_ca_file
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"TLS_CLIENT_CA_FILE: {authorities} can't be used: {_describe_error(error)}"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_certificate(context: ssl.SSLContext, settings: ServerSettings) -> None:
    certificate, key = settings.tls_cert_file, settings.tls_key_file
    assert certificate is not None  # noqa: S101 - Certificates exist only with a certificate
    # With an empty password OpenSSL does not prompt on the terminal.
    secret = settings.tls_key_password
    password = secret.get_secret_value() if secret else ""
    try:
        context.load_cert_chain(certificate, key, password)
    except (OSError, ssl.SSLError) as error:
        files = f"TLS_CERT_FILE {certificate} and TLS_KEY_FILE {key}"
        raise ConfigError(f"{files} can't be used: {_describe_error(error)}") from error


def _describe_error(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    if not error.reason:
        return "no certificate or key in PEM format found"
    return error.reason.lower().replace("_", " ")
