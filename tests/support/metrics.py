"""Read the samples of a Prometheus exposition."""

import re

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, float]


def parse_samples(text: str) -> Samples:
    """Return samples as `name{label="value",...}`, labels sorted, upstreams without ports."""
    found = {}
    for family in text_string_to_metric_families(
        re.sub(r'"127\.0\.0\.1:\d+"', '"127.0.0.1"', text)
    ):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
