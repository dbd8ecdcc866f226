"""Resources that gateways share: of the process, and of a configuration."""

from dataclasses import dataclass
from typing import Self

from anthropic_proxy.config.settings import Settings
from anthropic_proxy.gateway.downloads import FileDownloader
from anthropic_proxy.gateway.pdf_process import PdfReader
from anthropic_proxy.gateway.request_translation import RequestTranslator
from anthropic_proxy.gateway.translation_threads import TranslationThreads
from anthropic_proxy.observability.logs import Log
from anthropic_proxy.observability.metrics import Metrics
from anthropic_proxy.observability.resource_exhaustion import ExhaustionLog
from anthropic_proxy.translate.reasoning.signatures import Signer
from anthropic_proxy.upstream.http_client import UpstreamHTTPClient
from anthropic_proxy.upstream.retry import RetryBudget


@dataclass(frozen=True)
class ProcessResources:
    """Resources that exist once in a process. A reload does not replace them."""

    log: Log
    metrics: Metrics
    http_client: UpstreamHTTPClient
    shortages: ExhaustionLog
    threads: TranslationThreads
    retry_budget: RetryBudget


@dataclass(frozen=True)
class GatewayResources:
    """Resources of one configuration, except its upstreams."""

    translator: RequestTranslator
    signer: Signer
    # Whether tool calls that a model writes as text become tool calls.
    recovers_calls: bool
    settings: Settings

    @classmethod
    def create(cls, settings: Settings, process: ProcessResources) -> Self:
        """Create the resources of a configuration."""
        secret = settings.signature_secret
        signer = Signer(secret.get_secret_value() if secret else None)
        report = process.shortages.report
        downloads = FileDownloader(settings.download_policy, on_shortage=report)
        reader = PdfReader(process.log, on_shortage=report)
        translator = RequestTranslator(signer, downloads, reader, process.threads)
        return cls(translator, signer, settings.tool_call_recovery == "auto", settings)

    def matches(self, settings: Settings) -> bool:
        """Return whether other settings would create the same resources."""
        names = ("signature_secret", "download_policy", "tool_call_recovery")
        return all(getattr(self.settings, name) == getattr(settings, name) for name in names)
