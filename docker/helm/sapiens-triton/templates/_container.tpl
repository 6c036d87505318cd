{{- /* One server: how the launcher is called, and what is around it. The Deployment and KServe's runtime share it. */ -}}
{{- define "sapiens.args" -}}
{{- if eq .Values.weights.source "build" }}
- up
{{- else }}
- serve
- --repository
- {{ ternary .Values.weights.objectStore.url "/models" (eq .Values.weights.source "objectStore") }}
{{- end }}
{{- include "sapiens.serveArgs" . }}
{{- end }}

{{- define "sapiens.serveArgs" }}
- --host
- 0.0.0.0
- --grpc-port
- "8001"
- --metrics-port
- "8002"
- --health-host
- 0.0.0.0
- --health-port
- "8080"
- --drain-seconds
- {{ .Values.drainSeconds | quote }}
- --max-image-pixels
- {{ .Values.maxImagePixels | int64 | quote }}
- --log-format
- {{ .Values.logFormat }}
{{- if .Values.tls.secret }}
- --tls-cert
- /tls/tls.crt
- --tls-key
- /tls/tls.key
{{- if .Values.tls.clientCA }}
- --tls-client-ca
- /tls/ca.crt
{{- end }}
{{- end }}
{{- if .Values.adminKeySecret }}
- --admin-key-file
- /admin-key/admin-key
{{- end }}
{{- if .Values.trace.url }}
- --trace-url
- {{ .Values.trace.url | quote }}
- --trace-every
- {{ .Values.trace.every | quote }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "sapiens.env" -}}
{{- if and (eq .Values.weights.source "build") (not .Values.kserve) }}
{{- with .Values.weights }}
{{- with .tasks }}
- {name: SAPIENS_TASKS, value: {{ join "," . | quote }}}
{{- end }}
- {name: SAPIENS_SIZE, value: {{ .size | quote }}}
{{- if .acceptLicence }}
- {name: SAPIENS_ACCEPT_LICENCE, value: "1"}
{{- end }}
- {name: SAPIENS_CACHE, value: /cache}
{{- with .hubTokenSecret }}
- {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sapiens.containerBody" -}}
image: {{ include "sapiens.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
- {name: grpc, containerPort: 8001}
- {name: metrics, containerPort: 8002}
- {name: health, containerPort: 8080}
{{- with trim (include "sapiens.env" .) }}
env:
{{ . }}
{{- end }}
{{- with .Values.extraEnv }}
{{- if not (trim (include "sapiens.env" $)) }}
env:
{{- end }}
{{ toYaml . }}
{{- end }}
# Fails until the models are loaded, warm, and have answered; engines may have to be built first.
startupProbe:
  httpGet: {path: /ready, port: health}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: {{ div (add (include "sapiens.startupSeconds" . | int) 4) 5 }}
readinessProbe:
  httpGet: {path: /ready, port: health}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 1
# The launcher itself starts a server again that fails: only its own end is for others to mend.
livenessProbe:
  httpGet: {path: /live, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  requests:
    cpu: {{ .Values.resources.cpu | quote }}
    memory: {{ include "sapiens.memoryMiB" . }}Mi
  limits:
    memory: {{ include "sapiens.memoryMiB" . }}Mi
    {{- if eq .Values.gpu.kind "devicePlugin" }}
    {{ .Values.gpu.resource }}: {{ .Values.gpu.count }}
    {{- end }}
  {{- if eq .Values.gpu.kind "dra" }}
  claims: [{name: gpu}]
  {{- end }}
{{ include "sapiens.containerSecurity" . }}
volumeMounts:
- {name: shm, mountPath: /dev/shm}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if not .Values.kserve }}
{{- if eq .Values.weights.source "pvc" }}
- {name: models, mountPath: /models, readOnly: true{{ with .Values.weights.pvc.subPath }}, subPath: {{ . }}{{ end }}}
{{- else if eq .Values.weights.source "image" }}
- {name: models, mountPath: /models, readOnly: true{{ with .Values.weights.image.subPath }}, subPath: {{ . }}{{ end }}}
{{- end }}
{{- end }}
{{- if .Values.tls.secret }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- if .Values.adminKeySecret }}
- {name: admin-key, mountPath: /admin-key, readOnly: true}
{{- end }}
{{- end }}

{{- define "sapiens.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sapiens.volumes" -}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ include "sapiens.sharedMemoryMiB" . }}Mi}
- name: tmp
  emptyDir: {}
- name: cache
{{- if and (eq .Values.weights.source "build") .Values.weights.cache.claim }}
  persistentVolumeClaim: {claimName: {{ .Values.weights.cache.claim }}}
{{- else if and (eq .Values.weights.source "build") .Values.weights.cache.create }}
  persistentVolumeClaim: {claimName: {{ include "sapiens.name" . }}-cache}
{{- else if eq .Values.weights.source "build" }}
  emptyDir: {sizeLimit: {{ .Values.weights.cache.size | quote }}}
{{- else }}
  emptyDir: {sizeLimit: 1Gi}
{{- end }}
{{- if not .Values.kserve }}
{{- if eq .Values.weights.source "pvc" }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.weights.pvc.claim }}, readOnly: true}
{{- else if eq .Values.weights.source "image" }}
- name: models
  image: {reference: {{ .Values.weights.image.reference | quote }}, pullPolicy: IfNotPresent}
{{- end }}
{{- end }}
{{- with .Values.tls.secret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.adminKeySecret }}
- name: admin-key
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end }}
