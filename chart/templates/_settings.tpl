{{/* The URL of the upstream; empty with a configuration file. */}}
{{- define "anthropic-proxy.upstreamUrl" -}}
{{- if .Values.ollama.enabled -}}
http://{{ include "anthropic-proxy.fullname" . }}-ollama:11434
{{- else if not (include "anthropic-proxy.configMapName" .) -}}
{{ .Values.upstream.url | default "" }}
{{- end }}
{{- end }}

{{/* The ConfigMap with CONFIG_FILE; empty without one. */}}
{{- define "anthropic-proxy.configMapName" -}}
{{- if .Values.configFile.existingConfigMap.name }}
{{- .Values.configFile.existingConfigMap.name }}
{{- else if .Values.configFile.content }}
{{- include "anthropic-proxy.fullname" . }}-file
{{- end }}
{{- end }}

{{/* A value as text. JSON writes large integers without an exponent. */}}
{{- define "anthropic-proxy.text" -}}
{{- if kindIs "string" . }}{{ . | quote }}{{ else }}{{ toJson . | quote }}{{ end }}
{{- end }}

{{/* Variables that are not secret, as YAML. The schema excludes variables that the chart sets from `settings`. */}}
{{- define "anthropic-proxy.environment" -}}
{{- $own := dict "PORT" "3000" "METRICS_PORT" .Values.metrics.port "DRAIN_TIMEOUT" .Values.drain.timeoutSeconds }}
{{- with include "anthropic-proxy.upstreamUrl" . }}{{- $_ := set $own "UPSTREAM_BASE_URL" . }}{{ end }}
{{- if include "anthropic-proxy.configMapName" . }}
{{- $_ := set $own "CONFIG_FILE" (printf "/etc/anthropic-proxy/file/%s" .Values.configFile.existingConfigMap.key) }}
{{- end }}
{{- with .Values.clientKeys.existingSecret }}{{ if .name }}
{{- $_ := set $own "PROXY_API_KEYS_FILE" (printf "/etc/anthropic-proxy/keys/%s" .key) }}
{{- end }}{{ end }}
{{- if .Values.tls.existingSecret }}
{{- $_ := set $own "TLS_CERT_FILE" "/etc/anthropic-proxy/tls/tls.crt" }}
{{- $_ := set $own "TLS_KEY_FILE" "/etc/anthropic-proxy/tls/tls.key" }}
{{- with .Values.tls.clientCA.existingSecret }}{{ if .name }}
{{- $_ := set $own "TLS_CLIENT_CA_FILE" (printf "/etc/anthropic-proxy/client-ca/%s" .key) }}
{{- end }}{{ end }}
{{- end }}
{{- $defaults := dict "HOST" "0.0.0.0" "LOG_FORMAT" "json" }}
{{- if and .Values.ingress.enabled (eq .Values.ingress.controller "alb") }}
{{- /* Longer than the idle timeout of the load balancer, which otherwise reuses connections that the proxy is closing. */}}
{{- $_ := set $defaults "KEEPALIVE_TIMEOUT" "3660" }}
{{- end }}
{{- range $name, $value := merge $own .Values.settings $defaults }}
{{ $name }}: {{ include "anthropic-proxy.text" $value }}
{{- end }}
{{- end }}

{{/* The mounted files, as a list of {name, path, source} in YAML. */}}
{{- define "anthropic-proxy.files" -}}
{{- with include "anthropic-proxy.configMapName" . }}
- {name: file, configMap: {name: {{ . }}}}
{{- end }}
{{- with .Values.clientKeys.existingSecret.name }}
- {name: keys, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.tls.existingSecret }}
- {name: tls, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.tls.clientCA.existingSecret.name }}
- {name: client-ca, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}

{{/* The value of a variable that the values contain as text, else empty. Takes root and name. */}}
{{- define "anthropic-proxy.valueOf" -}}
{{- $found := get .root.Values.settings .name | default (get .root.Values.secrets.values .name) }}
{{- range .root.Values.extraEnv }}
{{- if eq .name $.name }}{{ $found = .value | default "" }}{{ end }}
{{- end }}
{{- $found }}
{{- end }}

{{/* Whether clients need a key, according to the values. */}}
{{- define "anthropic-proxy.hasClientKeys" -}}
{{- if or .Values.clientKeys.existingSecret.name (hasKey .Values.secrets.values "PROXY_API_KEYS") (hasKey .Values.secrets.fromKeys "PROXY_API_KEYS") }}true{{ end }}
{{- end }}
