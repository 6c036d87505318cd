{{- /* What the schema cannot say: values that do not go together, each in a sentence that says what to do. */ -}}
{{- define "sapiens.check" -}}
{{- $weights := .Values.weights -}}
{{- if and (eq $weights.source "build") (ne $weights.size "demo") (not $weights.acceptLicence) (not .Values.kserve) }}
{{- fail (printf "weights.acceptLicence must be true for published weights, got false for size %s; read the licence that `sapiens zoo` names" $weights.size) }}
{{- end }}
{{- if and (eq $weights.source "pvc") (not $weights.pvc.claim) }}
{{- fail "weights.pvc.claim must name a claim for the source pvc, got none" }}
{{- end }}
{{- if and (eq $weights.source "objectStore") (not $weights.objectStore.url) }}
{{- fail "weights.objectStore.url must name a repository for the source objectStore, got none" }}
{{- end }}
{{- if and (eq $weights.source "image") (not $weights.image.reference) }}
{{- fail "weights.image.reference must be NAME@sha256:DIGEST for the source image, got none" }}
{{- end }}
{{- if and $weights.cache.claim $weights.cache.create }}
{{- fail "weights.cache must have a claim or create one, got both" }}
{{- end }}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas must be at most maxReplicas, got %d and %d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if and .Values.tls.clientCA (not .Values.tls.secret) }}
{{- fail "tls.clientCA must come with tls.secret, got none" }}
{{- end }}
{{- if and (eq .Values.gpu.kind "dra") (semverCompare "<1.34-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "gpu.kind dra must have Kubernetes 1.34 or later, got %s; take devicePlugin" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if and .Values.kserve (eq .Values.gpu.kind "dra") }}
{{- fail "gpu.kind must be devicePlugin or none for kserve, got dra" }}
{{- end }}
{{- $names := include "sapiens.env" . | fromYamlArray | default list }}
{{- $set := list }}
{{- range $names }}{{ $set = append $set .name }}{{ end }}
{{- range .Values.extraEnv }}
{{- if has .name $set }}
{{- fail (printf "extraEnv must have each name once and none that the chart sets, got %s" .name) }}
{{- end }}
{{- $set = append $set .name }}
{{- end }}
{{- end }}
