{{/* Seconds until Kubernetes kills a terminating pod: the preStop pause, the drain, and a margin for the processes to exit. */}}
{{- define "anthropic-proxy.gracePeriod" -}}
{{- with .Values.drain }}{{ add .preStopSeconds (ceil .timeoutSeconds) .marginSeconds }}{{ end }}
{{- end }}

{{/* Kubernetes removes a pod from its Services only when it terminates the pod. The pod serves requests until all load balancers have removed it. */}}
{{- define "anthropic-proxy.lifecycle" -}}
{{- $seconds := .Values.drain.preStopSeconds }}
{{- if $seconds }}
lifecycle:
  preStop:
    {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
    sleep: {seconds: {{ $seconds }}}
    {{- else }}
    exec: {command: [sleep, {{ $seconds | quote }}]}
    {{- end }}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.updateStrategy" -}}
{{- if .Values.updateStrategy }}
{{- toYaml .Values.updateStrategy }}
{{- else if and .Values.persistence.enabled (include "anthropic-proxy.isOneNode" .) -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.topologySpread" -}}
{{- if .Values.topologySpreadConstraints }}
{{- toYaml .Values.topologySpreadConstraints }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "anthropic-proxy.selectorLabels" (dict "root" $ "component" "proxy") | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}

{{- define "anthropic-proxy.podAnnotations" -}}
checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
checksum/secret: {{ include (print $.Template.BasePath "/secret.yaml") . | sha256sum }}
{{- if .Values.metrics.podAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .Values.metrics.port | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{/* The proxy's container. */}}
{{- define "anthropic-proxy.container" -}}
name: proxy
image: {{ include "anthropic-proxy.image" (dict "root" . "image" .Values.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.extraArgs }}
args: {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: http, containerPort: 3000, protocol: TCP}
  - {name: metrics, containerPort: {{ .Values.metrics.port }}, protocol: TCP}
envFrom:
  - configMapRef: {name: {{ include "anthropic-proxy.fullname" . }}}
  {{- if .Values.secrets.values }}
  - secretRef: {name: {{ include "anthropic-proxy.fullname" . }}}
  {{- end }}
  {{- with .Values.secrets.existingSecret }}
  - secretRef: {name: {{ . }}}
  {{- end }}
  {{- with .Values.extraEnvFrom }}{{ toYaml . | nindent 2 }}{{ end }}
{{- if or .Values.secrets.fromKeys .Values.extraEnv }}
env:
  {{- range $name, $ref := .Values.secrets.fromKeys }}
  - name: {{ $name }}
    valueFrom: {secretKeyRef: {name: {{ $ref.name }}, key: {{ $ref.key }}}}
  {{- end }}
  {{- with .Values.extraEnv }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{- with index $.Values $probe }}
{{ $probe }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- include "anthropic-proxy.lifecycle" . }}
{{- with .Values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- range include "anthropic-proxy.files" . | fromYamlArray }}
  - {name: {{ .name }}, mountPath: /etc/anthropic-proxy/{{ .name }}, readOnly: true}
  {{- end }}
  {{- if .Values.persistence.enabled }}
  - {name: data, mountPath: /data}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- define "anthropic-proxy.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: {{ .Values.tmpSizeLimit }}}}
{{- with include "anthropic-proxy.files" . | fromYamlArray }}
{{ toYaml . }}
{{- end }}
{{- if .Values.persistence.enabled }}
- {name: data, persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim | default (include "anthropic-proxy.fullname" .) }}}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
