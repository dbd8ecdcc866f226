"""Reload the configuration without a restart: on a signal, or when one of its files has changed.

Files are polled. This also detects changes of mounted ConfigMaps (symbolic links that are replaced
atomically), on network file systems, and of files that do not exist yet. If any part of a
configuration is invalid, all of it is rejected, and the previous configuration stays in effect.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path, PurePath

from anthropic_proxy.config.settings import ObservabilitySettings, ServerSettings, Settings
from anthropic_proxy.config.upstreams import read_text
from anthropic_proxy.errors import ConfigError
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.server.tls import Certificates

# Settings that are read only at startup: addresses, workers, connection limits, log format.
_RESTART_SETTINGS = tuple(
    sorted({*ServerSettings.model_fields, *ObservabilitySettings.model_fields})
)

_EXPOSURE_ERROR = (
    "without client keys, other machines could use this server, because it has listened on all "
    "addresses since it started: restart it, or set HOST=0.0.0.0 to serve without keys"
)

_FileSignature = tuple[int, int, int] | None


class WatchedFiles:
    """Files of the configuration, with a signature of each file."""

    def __init__(self) -> None:
        self._signatures: dict[Path, _FileSignature] = {}

    def read(self, path: PurePath) -> str:
        """Return the text of a file, and watch the file from now on.

        Raises OSError and UnicodeDecodeError.
        """
        # Take the signature before reading, so that a change in between is detected.
        self.watch([Path(path).expanduser()])
        return read_text(path)

    def watch(self, paths: Iterable[Path | None]) -> None:
        """Watch these files from now on; ignore None."""
        for path in paths:
            if path is not None:
                self._signatures[path] = _read_signature(path)

    @property
    def paths(self) -> list[Path]:
        """All watched files."""
        return list(self._signatures)

    def has_changed(self) -> bool:
        """Return whether a file has changed since it was read."""
        for path, signature in self._signatures.items():
            if _read_signature(path) != signature:
                return True
        return False


class Reloader:
    """Apply changed configurations. Set `reload_requested` to reload at once."""

    def __init__(
        self,
        load_settings: Callable[[], Settings],
        apply: Callable[[Settings, WatchedFiles], Awaitable[None]],
        log: Log,
        certificates: Certificates | None = None,
    ) -> None:
        """Create a reloader.

        load_settings: loads the settings, called in a thread; raises ConfigError.
        apply: reads the files that the settings name, and applies the settings; raises ConfigError.
        certificates: certificates of the server to reload.
        """
        self._load_settings = load_settings
        self._apply = apply
        self._certificates = certificates
        self._log = log
        self.reload_requested = asyncio.Event()

    async def run(
        self, settings: Settings, files: WatchedFiles, on_end: Callable[[str | None], None]
    ) -> None:
        """Reload when requested and when files have changed. Runs until cancelled.

        settings: the current settings. files: the files of the current configuration.
        on_end: called after each reload with the reason for a rejection, or None.
        """
        # The settings at startup, and the current settings.
        self._started = self._settings = settings
        self._files = files
        self._watch_settings_files(settings)
        while True:
            if await self._is_due(settings.reload_interval):
                on_end(await self._reload())

    async def _is_due(self, interval: float) -> bool:
        try:
            async with asyncio.timeout(interval or None):
                await self.reload_requested.wait()
        except TimeoutError:
            return self._files.has_changed()
        self.reload_requested.clear()
        return True

    async def _reload(self) -> str | None:
        """Reload once. Return the reason for a rejection; None after a success."""
        # Watch the files of a rejected configuration too, to reload it when it is corrected.
        previous_files, self._files = self._files, WatchedFiles()
        self._files.watch(previous_files.paths)
        try:
            # In a thread: a large file takes seconds to parse and would block open streams.
            settings = await asyncio.to_thread(self._load_settings)
            self._watch_settings_files(settings)
            self._reject_exposure(settings)
            if self._certificates is not None:
                self._certificates.reload()
            await self._apply(settings, self._files)
        except ConfigError as error:
            self._log.error(
                "config reload failed",
                reason=str(error),
                hint="the previous configuration stays in effect",
            )
            return str(error)
        self._log_restart_settings(settings)
        self._settings = settings
        self._log.info("config reloaded")
        return None

    def _reject_exposure(self, settings: Settings) -> None:
        """Raise ConfigError if a reload removes all client keys while other machines have access.

        Without HOST, a server with keys listens on all addresses, and a server without keys on the
        loopback address. A reload does not change the address.
        """
        has_lost_keys = self._settings.needs_key and not settings.needs_key
        if not has_lost_keys or settings.host is not None:
            return
        started = self._started
        is_restricted = started.unix_socket is not None or started.tls_client_ca_file is not None
        if started.listen_host != settings.listen_host and not is_restricted:
            raise ConfigError(_EXPOSURE_ERROR)

    def _watch_settings_files(self, settings: Settings) -> None:
        self._files.watch(
            [settings.env_file, settings.config_file, settings.tls_cert_file, settings.tls_key_file]
        )

    def _log_restart_settings(self, settings: Settings) -> None:
        changed = []
        for name in _RESTART_SETTINGS:
            if getattr(settings, name) != getattr(self._settings, name):
                changed.append(name.upper())
        if "HOST" not in changed and settings.listen_host != self._settings.listen_host:
            changed.append("HOST (127.0.0.1 without keys, else 0.0.0.0)")
        if changed:
            self._log.info("restart-only settings changed", settings=", ".join(changed))


def _read_signature(path: Path) -> _FileSignature:
    try:
        file_status = path.stat()
    except OSError:
        return None
    return file_status.st_mtime_ns, file_status.st_ino, file_status.st_size
