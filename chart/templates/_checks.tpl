{{/* Reject values that the schema cannot reject. Renders nothing. */}}
{{- define "anthropic-proxy.checks" -}}
{{- include "anthropic-proxy.checkRequired" . }}
{{- include "anthropic-proxy.checkGlobal" . }}
{{- include "anthropic-proxy.checkVariables" . }}
{{- include "anthropic-proxy.checkScaling" . }}
{{- include "anthropic-proxy.checkNetwork" . }}
{{- include "anthropic-proxy.checkResources" . }}
{{- if and .Values.persistence.enabled (include "anthropic-proxy.isOneNode" .) (include "anthropic-proxy.isMany" .) }}
{{- fail "a volume that one node mounts (persistence.accessModes) can't be shared by several pods: set replicaCount to 1, or share counters in Redis (RATE_LIMIT_STORAGE_URL)" }}
{{- end }}
{{- end }}

{{/* Required values without a possible default. */}}
{{- define "anthropic-proxy.checkRequired" -}}
{{- if not .Values.image.repository }}
{{- fail "there is no public image: build one (make image), push it to a registry, and set image.repository (and image.registry)" }}
{{- end }}
{{- if not (or (include "anthropic-proxy.upstreamUrl" .) .Values.configFile.content (include "anthropic-proxy.hasForeignFile" .)) }}
{{- fail "there is no upstream: set upstream.url to an OpenAI-compatible server, or configFile, or ollama.enabled" }}
{{- end }}
{{- end }}

{{/* Whether there is a configuration file whose content the chart does not know. */}}
{{- define "anthropic-proxy.hasForeignFile" -}}
{{- if .Values.configFile.existingConfigMap.name }}true{{ end }}
{{- range .Values.extraEnv }}
{{- if eq .name "CONFIG_FILE" }}true{{ end }}
{{- end }}
{{- end }}

{{/* A parent chart shares its global values with all of its dependencies, so unknown globals are errors only in the root chart. */}}
{{- define "anthropic-proxy.checkGlobal" -}}
{{- if .Chart.IsRoot }}
{{- with keys (omit .Values.global "imageRegistry" "imagePullSecrets") | sortAlpha }}
{{- fail (printf "global.%s is not known: this chart reads global.imageRegistry and global.imagePullSecrets" (first .)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables that the chart sets itself, and the values to use instead of them. */}}
{{- define "anthropic-proxy.ownVariables" -}}
ANTHROPIC_PROXY_BASE_URL: upstream.url
ANTHROPIC_PROXY_BIND: settings.HOST
DRAIN_TIMEOUT: drain.timeoutSeconds
HOST: settings.HOST
METRICS_PORT: metrics.port
PORT: service.port, the port of the Service
TLS_CERT_FILE: tls.existingSecret
TLS_CLIENT_CA_FILE: tls.clientCA.existingSecret
TLS_KEY_FILE: tls.existingSecret
UNIX_SOCKET: service.port, the port of the Service
UPSTREAM_BASE_URL: upstream.url
{{- end }}

{{/* Settings that are secrets or may contain some. Other names are secrets only if the configuration file uses them. */}}
{{- define "anthropic-proxy.secretNames" -}}
[UPSTREAM_API_KEY, OPENROUTER_API_KEY, PROXY_API_KEYS, SIGNATURE_SECRET, RATE_LIMIT_STORAGE_URL, TLS_KEY_PASSWORD, UPSTREAM_HEADERS, UPSTREAM_EXTRA_BODY]
{{- end }}

{{/* Names of variables are case-insensitive in the proxy. */}}
{{- define "anthropic-proxy.checkVariables" -}}
{{- $own := include "anthropic-proxy.ownVariables" . | fromYaml }}
{{- range $place := list "values" "fromKeys" }}
{{- range $name := keys (index $.Values.secrets $place) | sortAlpha }}
{{- $path := printf "secrets.%s.%s" $place $name }}
{{- if hasKey $own (upper $name) }}
{{- fail (printf "%s: the chart sets %s itself: use %s" $path (upper $name) (get $own (upper $name))) }}
{{- end }}
{{- include "anthropic-proxy.checkSecretName" (dict "root" $ "path" $path "name" $name) }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.secrets.values }}
{{- if not (kindIs "string" $value) }}
{{- fail (printf "secrets.values.%s is not text, and YAML changes long numbers and leading zeros: quote it (--set-string on the command line)" $name) }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasKey $own (upper .name) }}
{{- fail (printf "extraEnv: the chart sets %s itself: use %s" (upper .name) (get $own (upper .name))) }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
{{- if regexMatch "^(--port|--host|--daemon|-[dvhV]*p)" . }}
{{- fail (printf "extraArgs: %s does not fit a pod: the chart sets its port, address and process" .) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Takes root, the path of the value, and the name of the variable. */}}
{{- define "anthropic-proxy.checkSecretName" -}}
{{- $known := include "anthropic-proxy.secretNames" . | fromYamlArray }}
{{- $isOther := regexMatch "^(OTEL_[A-Z0-9_]+|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy)$" .name }}
{{- $isInFile := regexMatch (printf "\\$\\{%s(:-[^}]*)?\\}" .name) .root.Values.configFile.content }}
{{- if not (or (has .name $known) $isOther $isInFile (include "anthropic-proxy.hasForeignFile" .root)) }}
{{- $plain := .name | replace "_" "" | upper }}
{{- $guess := "" }}
{{- range $known }}
{{- $other := . | replace "_" "" }}
{{- if or (hasPrefix $plain $other) (hasPrefix $other $plain) }}{{ $guess = printf "did you mean %s? " . }}{{ end }}
{{- end }}
{{- fail (printf "%s is not a known secret: %sKnown are %s, OTEL_*, HTTPS_PROXY and similar, and names that configFile.content uses as ${NAME}. A setting that is not secret belongs in settings" .path $guess (join ", " $known)) }}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.checkScaling" -}}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled exclude one another: both create a HorizontalPodAutoscaler" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (not (include "anthropic-proxy.hpaMetrics" .)) }}
{{- fail "autoscaling needs a metric: targetCPUUtilizationPercentage, targetRequestsInFlight or metrics" }}
{{- end }}
{{- range $key := list "autoscaling" "keda" }}
{{- with index $.Values $key }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "%s.minReplicas is %d, which is more than %s.maxReplicas: %d" $key (int .minReplicas) $key (int .maxReplicas)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.targetCPUUtilizationPercentage (not (include "anthropic-proxy.cpuRequest" .)) }}
{{- fail "autoscaling.targetCPUUtilizationPercentage is a percentage of the requested CPU: set resources.requests.cpu, or set the target to null" }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.prometheusAddress) (not .Values.keda.triggers) }}
{{- fail "keda needs a trigger: keda.prometheusAddress or keda.triggers" }}
{{- end }}
{{- if and .Values.podDisruptionBudget.enabled (ne (toString .Values.podDisruptionBudget.minAvailable) "<nil>") (ne (toString .Values.podDisruptionBudget.maxUnavailable) "<nil>") }}
{{- fail "podDisruptionBudget.minAvailable and maxUnavailable exclude one another: set maxUnavailable to null" }}
{{- end }}
{{- end }}

{{/* The CPU that the container requests. Kubernetes takes a limit as the request if there is no other. */}}
{{- define "anthropic-proxy.cpuRequest" -}}
{{- $resources := .Values.resources | default dict }}
{{- get ($resources.requests | default dict) "cpu" | default (get ($resources.limits | default dict) "cpu") }}
{{- end }}

{{- define "anthropic-proxy.checkNetwork" -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute needs a Gateway: httpRoute.parentRefs" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor exclude one another: both scrape the same pods" }}
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret.name (not .Values.tls.existingSecret) }}
{{- fail "tls.clientCA needs tls.existingSecret: clients send certificates only over TLS" }}
{{- end }}
{{- if and (eq .Values.service.type "ClusterIP") (eq (int .Values.service.port) (int .Values.metrics.port)) }}
{{- fail (printf "service.port and metrics.port are both %d: the Service has both ports, set one of them to another number" (int .Values.service.port)) }}
{{- end }}
{{- if and .Values.ingress.enabled (eq .Values.ingress.controller "alb") (gt (include "anthropic-proxy.gracePeriod" . | int) 3600) }}
{{- fail "an AWS load balancer waits for open connections 3600 s at most: the sum of drain.preStopSeconds, drain.timeoutSeconds and drain.marginSeconds must not exceed that" }}
{{- end }}
{{- end }}

{{/*
Reject objects of kinds that the cluster does not support, for which `helm install` would fail half-way. `helm template` does
not know the cluster.
*/}}
{{- define "anthropic-proxy.checkResources" -}}
{{- if not .Values.disableCrdChecks }}
{{- $monitoring := "monitoring.coreos.com/v1" }}
{{- include "anthropic-proxy.checkResource" (list . .Values.metrics.serviceMonitor.enabled "metrics.serviceMonitor.enabled" $monitoring "the Prometheus operator") }}
{{- include "anthropic-proxy.checkResource" (list . .Values.metrics.podMonitor.enabled "metrics.podMonitor.enabled" $monitoring "the Prometheus operator") }}
{{- include "anthropic-proxy.checkResource" (list . .Values.metrics.prometheusRule.enabled "metrics.prometheusRule.enabled" $monitoring "the Prometheus operator") }}
{{- include "anthropic-proxy.checkResource" (list . .Values.keda.enabled "keda.enabled" "keda.sh/v1alpha1" "KEDA") }}
{{- include "anthropic-proxy.checkResource" (list . .Values.httpRoute.enabled "httpRoute.enabled" "gateway.networking.k8s.io/v1" "the Gateway API") }}
{{- end }}
{{- end }}

{{/* Takes a list: root, whether the value is set, its path, the required API version, and its provider. */}}
{{- define "anthropic-proxy.checkResource" -}}
{{- $root := index . 0 }}
{{- if and (index . 1) (not ($root.Capabilities.APIVersions.Has (index . 3))) }}
{{- fail (printf "%s needs %s, and the cluster does not have %s: install it, or set the value to false. For `helm template` add --api-versions %s, or set disableCrdChecks" (index . 2) (index . 4) (index . 3) (index . 3)) }}
{{- end }}
{{- end }}

{{/* Whether there can be more than one pod. */}}
{{- define "anthropic-proxy.isMany" -}}
{{- $count := .Values.replicaCount }}
{{- if .Values.autoscaling.enabled }}{{ $count = .Values.autoscaling.maxReplicas }}{{ end }}
{{- if .Values.keda.enabled }}{{ $count = .Values.keda.maxReplicas }}{{ end }}
{{- if gt (int $count) 1 }}true{{ end }}
{{- end }}

{{/* Whether only one node at a time can mount the volume. */}}
{{- define "anthropic-proxy.isOneNode" -}}
{{- if not (has "ReadWriteMany" .Values.persistence.accessModes) }}true{{ end }}
{{- end }}
