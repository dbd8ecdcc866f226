{{/* What the schema can't say. Nothing comes out of it. */}}
{{- define "anthropic-proxy.checks" -}}
{{- if and (eq (include "anthropic-proxy.upstreamUrl" .) "") (eq (include "anthropic-proxy.configMapName" .) "") }}
{{- fail "there is no upstream: set upstream.url, configFile or ollama.enabled" }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled exclude one another: both make a HorizontalPodAutoscaler" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (not (include "anthropic-proxy.hpaMetrics" .)) }}
{{- fail "autoscaling needs a metric: targetCPUUtilizationPercentage, targetRequestsInFlight or metrics" }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.prometheusAddress) (not .Values.keda.triggers) }}
{{- fail "keda needs a trigger: keda.prometheusAddress or keda.triggers" }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (ne (toString .Values.podDisruptionBudget.minAvailable) "<nil>") (ne (toString .Values.podDisruptionBudget.maxUnavailable) "<nil>") }}
{{- fail "podDisruptionBudget.minAvailable and maxUnavailable exclude one another: set maxUnavailable to null" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute needs a Gateway: httpRoute.parentRefs" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor exclude one another: both scrape the same pods" }}
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret.name (not .Values.tls.existingSecret) }}
{{- fail "tls.clientCA needs tls.existingSecret: without TLS no client shows a certificate" }}
{{- end }}
{{- if and .Values.persistence.enabled (include "anthropic-proxy.isOneNode" .) (include "anthropic-proxy.isMany" .) }}
{{- fail "a volume that one node mounts (persistence.accessModes) can't be shared by several pods: set replicaCount to 1, or share counters in Redis (RATE_LIMIT_STORAGE_URL)" }}
{{- end }}
{{- end }}

{{/* Whether there can be more than one pod. */}}
{{- define "anthropic-proxy.isMany" -}}
{{- $count := .Values.replicaCount }}
{{- if .Values.autoscaling.enabled }}{{ $count = .Values.autoscaling.maxReplicas }}{{ end }}
{{- if .Values.keda.enabled }}{{ $count = .Values.keda.maxReplicas }}{{ end }}
{{- if gt (int $count) 1 }}true{{ end }}
{{- end }}

{{/* Whether the volume is mounted by one node at a time. */}}
{{- define "anthropic-proxy.isOneNode" -}}
{{- if not (has "ReadWriteMany" .Values.persistence.accessModes) }}true{{ end }}
{{- end }}
