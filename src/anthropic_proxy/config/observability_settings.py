"""Settings of what the server tells of itself: logs and metrics."""

from pydantic import Field
from pydantic_settings import BaseSettings

from anthropic_proxy.observability.logs import LogFormat


class ObserveSettings(BaseSettings):
    """Part of `config.Settings`."""

    log_format: LogFormat = Field(
        default="auto", validation_alias="LOG_FORMAT", description="auto, console or json"
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        validation_alias="METRICS_PORT",
        description="a number from 0 to 65535",
    )
    metrics_max_models: int = Field(
        default=100, ge=0, validation_alias="METRICS_MAX_MODELS", description="a number from 0 on"
    )
    debug: bool = Field(default=False, validation_alias="DEBUG", description="true or false")
    verbose: bool = Field(default=False, validation_alias="VERBOSE", description="true or false")
