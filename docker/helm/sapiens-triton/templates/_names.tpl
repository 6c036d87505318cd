{{- define "sapiens.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "sapiens.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "sapiens.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "sapiens.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}
{{- else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "sapiens.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "sapiens.name" .) -}}
{{- end }}

{{- /* What Prometheus calls the replicas of this release: NAMESPACE/POD, as the PodMonitor says. */ -}}
{{- define "sapiens.waiting" -}}
sum(triton:waiting_requests:rate30s{replica=~"{{ .Release.Namespace }}/{{ include "sapiens.name" . }}-[a-z0-9]+-[a-z0-9]+"})
{{- end }}
