"""Settings of the server itself: where it listens, by which protocols, and how it ends."""

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings


class ServerSettings(BaseSettings):
    """Part of `config.Settings`."""

    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - documented default: containers need it
        validation_alias=AliasChoices("HOST", "ANTHROPIC_PROXY_BIND"),
        description="a host name or IP address to listen on",
    )
    port: int = Field(default=3000, ge=0, le=65535, validation_alias="PORT", description="a number from 0 to 65535")
