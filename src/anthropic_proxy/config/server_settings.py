"""Settings of the server itself: where it listens, by which protocols, how much it takes, and how it ends."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode

from anthropic_proxy.config import env_values

Required = Literal["upstream", "config"]

_SECONDS = "a number of seconds above 0"
_ONE_FILE = "TLS_CERT_FILE and TLS_KEY_FILE belong together: set both, or neither"
_NO_SERVER_TLS = "TLS_CLIENT_CA_FILE needs TLS_CERT_FILE and TLS_KEY_FILE: without TLS no client shows a certificate"


class ServerSettings(BaseSettings):
    """Part of `config.Settings`."""

    host: str | None = Field(
        default=None,
        validation_alias=AliasChoices("HOST", "ANTHROPIC_PROXY_BIND"),
        description="a host name or IP address to listen on",
    )
    port: int = Field(
        default=3000,
        ge=0,
        le=65535,
        validation_alias="PORT",
        description="a number from 0 to 65535",
    )
    unix_socket: Path | None = Field(
        default=None,
        validation_alias="UNIX_SOCKET",
        description="a path to listen on instead of HOST and PORT",
    )
    workers: int = Field(
        default=1, ge=1, le=1024, validation_alias="WORKERS", description="a number from 1 to 1024"
    )
    tls_cert_file: Path | None = Field(
        default=None,
        validation_alias="TLS_CERT_FILE",
        description="a PEM file with the server's certificate chain",
    )
    tls_key_file: Path | None = Field(
        default=None,
        validation_alias="TLS_KEY_FILE",
        description="a PEM file with the certificate's key",
    )
    tls_key_password: SecretStr | None = Field(
        default=None,
        validation_alias="TLS_KEY_PASSWORD",
        description="the password of the key's file",
    )
    tls_client_ca_file: Path | None = Field(
        default=None,
        validation_alias="TLS_CLIENT_CA_FILE",
        description="a PEM file with the authorities whose certificates clients must show",
    )
    max_concurrent_requests: int | None = Field(
        default=None,
        ge=1,
        validation_alias="MAX_CONCURRENT_REQUESTS",
        description="a number from 1 on",
    )
    http2_max_concurrent_streams: int = Field(
        default=256,
        ge=1,
        le=2**31 - 1,
        validation_alias="HTTP2_MAX_CONCURRENT_STREAMS",
        description="a number from 1 on",
    )
    max_header_bytes: int = Field(
        default=65536,
        ge=8192,
        le=2**20,
        validation_alias="MAX_HEADER_BYTES",
        description="a number from 8192 to 1048576",
    )
    max_json_values: int = Field(
        default=1_000_000,
        ge=1,
        validation_alias="MAX_JSON_VALUES",
        description="a number from 1 on",
    )
    body_timeout: float = Field(
        default=600, gt=0, validation_alias="BODY_TIMEOUT", description=_SECONDS
    )
    write_timeout: float = Field(
        default=300, gt=0, validation_alias="WRITE_TIMEOUT", description=_SECONDS
    )
    header_timeout: float = Field(
        default=75, gt=0, validation_alias="HEADER_TIMEOUT", description=_SECONDS
    )
    # Longer than clients keep theirs (five to sixty), so that none is closed just when it is used again.
    keepalive_timeout: float = Field(
        default=75, gt=0, validation_alias="KEEPALIVE_TIMEOUT", description=_SECONDS
    )
    drain_timeout: float = Field(
        default=300,
        ge=0,
        validation_alias="DRAIN_TIMEOUT",
        description="a number of seconds from 0 on",
    )
    reload_interval: float = Field(
        default=5,
        ge=0,
        validation_alias="RELOAD_INTERVAL",
        description="a number of seconds, or 0 for never",
    )
    ready_requires: Annotated[frozenset[Required], NoDecode] = Field(
        default=frozenset(),
        validation_alias="READY_REQUIRES",
        description="upstream, config or both, separated by ;",
    )

    @field_validator("ready_requires", mode="before")
    @classmethod
    def _are_parts(cls, value: Any) -> Any:
        return env_values.parts(value, r"[;,\n]") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _tls_fits_together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise PydanticCustomError("excluded", "{text}", {"text": _ONE_FILE})
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise PydanticCustomError("excluded", "{text}", {"text": _NO_SERVER_TLS})
        return self
