{{- /* MiB of /dev/shm: each step's processes may hold a request and its answer. files/shared_memory.json has the facts. */ -}}
{{- define "sapiens.sharedMemoryMiB" -}}
{{- if .Values.resources.sharedMemoryMiB -}}
{{- .Values.resources.sharedMemoryMiB -}}
{{- else -}}
{{- $facts := .Files.Get "files/shared_memory.json" | fromJson -}}
{{- /* Of the family that is built; of a repository made elsewhere it is not known, so the larger one counts. */ -}}
{{- $all := dict -}}
{{- $every := list -}}
{{- $built := list -}}
{{- range $facts.families -}}
{{- $all = merge $all .tasks -}}
{{- $every = append $every .tasks -}}
{{- if has $.Values.weights.size .sizes }}{{ $built = append $built .tasks }}{{ end -}}
{{- end -}}
{{- $builds := and (eq .Values.weights.source "build") (not .Values.kserve) -}}
{{- $most := 0 -}}
{{- range $family := ternary ($built | default $every) $every $builds -}}
{{- $tasks := $.Values.weights.tasks | default (keys $family) -}}
{{- $models := list -}}
{{- range $tasks }}{{ $models = concat $models (get $family . | default (get $all .)) }}{{ end -}}
{{- if and (has "pose" $tasks) (has "detect" $tasks) }}{{ $models = append $models "people_pose" }}{{ end -}}
{{- $bytes := 0 -}}
{{- range uniq $models -}}
{{- $need := index $facts.models . -}}
{{- $bytes = add $bytes (int64 $need.fixedBytes) (mul (int64 $need.pixelBytes) (int64 $.Values.maxImagePixels)) -}}
{{- end -}}
{{- $most = max $most $bytes -}}
{{- end -}}
{{- div (add $most 1048575) 1048576 -}}
{{- end -}}
{{- end }}

{{- define "sapiens.memoryMiB" -}}
{{- add .Values.resources.memoryMiB (include "sapiens.sharedMemoryMiB" . | int) -}}
{{- end }}

{{- define "sapiens.startupSeconds" -}}
{{- $builds := and (eq .Values.weights.source "build") (ne .Values.weights.size "demo") -}}
{{- .Values.startupSeconds | default (add 900 (ternary (mul 1200 (len .Values.weights.tasks | default 6)) 0 $builds)) -}}
{{- end }}

{{- define "sapiens.graceSeconds" -}}
{{- add .Values.drainSeconds 30 -}}
{{- end }}
