{{- define "anthropic-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough for what is added to it: "-ollama-model-12345678". */}}
{{- define "anthropic-proxy.fullname" -}}
{{- $name := include "anthropic-proxy.name" . }}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $own .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "anthropic-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "anthropic-proxy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* These never change within a release: a Deployment can't change what it selects. */}}
{{- define "anthropic-proxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "anthropic-proxy.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "anthropic-proxy.labels" -}}
{{ include "anthropic-proxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: anthropic-proxy
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/*
metadata of an object. Takes root, component, and optionally name, labels, annotations.
*/}}
{{- define "anthropic-proxy.metadata" -}}
name: {{ .name | default (include "anthropic-proxy.fullname" .root) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- $own := include "anthropic-proxy.labels" . | fromYaml }}
  {{- merge $own (.labels | default dict) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.image" -}}
{{- $repository := ternary (printf "%s/%s" .image.registry .image.repository) .image.repository (ne .image.registry "") }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}
