{{- define "anthropic-proxy.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
At most 40 characters, so that suffixes such as "-models-12345678" fit into a label. A truncated name ends with a hash of the
complete name, so that names with the same first 40 characters stay different.
*/}}
{{- define "anthropic-proxy.fullname" -}}
{{- $name := include "anthropic-proxy.name" . }}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- $whole := default $own .Values.fullnameOverride | trimSuffix "-" }}
{{- if gt (len $whole) 40 }}
{{- printf "%s-%s" ($whole | trunc 31 | trimSuffix "-") (sha256sum $whole | trunc 8) }}
{{- else }}
{{- $whole }}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "anthropic-proxy.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* These never change within a release, because the selector of a Deployment is immutable. */}}
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
metadata of an object. Takes root, component, and optionally name, namespace, labels, annotations.
*/}}
{{- define "anthropic-proxy.metadata" -}}
name: {{ .name | default (include "anthropic-proxy.fullname" .root) }}
namespace: {{ .namespace | default .root.Release.Namespace }}
labels:
  {{- $own := include "anthropic-proxy.labels" . | fromYaml }}
  {{- merge $own (.labels | default dict) .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (deepCopy (.annotations | default dict)) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The full name of an image. global.imageRegistry takes precedence over the registry of the image. */}}
{{- define "anthropic-proxy.image" -}}
{{- $registry := .root.Values.global.imageRegistry | default .image.registry }}
{{- $repository := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* imagePullSecrets of a pod, from global.imagePullSecrets (names or {name: ...}) and imagePullSecrets. */}}
{{- define "anthropic-proxy.imagePullSecrets" -}}
{{- $secrets := list }}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with uniq $secrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
