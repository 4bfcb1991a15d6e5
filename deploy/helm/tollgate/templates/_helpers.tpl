{{- /* It has "tollgate" in it, which the alerts look for. */ -}}
{{- define "tollgate.name" -}}
{{- contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}

{{- define "tollgate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tollgate.labels" -}}
{{ include "tollgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "tollgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "tollgate.catalogIsFile" -}}
{{- if not (or .Values.catalog.url .Values.catalog.fromSecret) }}true{{ end -}}
{{- end -}}

{{- define "tollgate.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicaCount) 1) }}true{{ end -}}
{{- end -}}

{{- define "tollgate.mostReplicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicaCount .Values.autoscaling.enabled | int -}}
{{- end -}}

{{- /* Without the store, each replica enforces 1/nodes of a limit. If `nodes` were fewer than the replicas, they would admit more. */ -}}
{{- define "tollgate.settings" -}}
{{- $settings := .Values.settings -}}
{{- if and (include "tollgate.several" .) (not (hasKey $settings "nodes")) -}}
{{- $settings = merge (dict "nodes" (include "tollgate.mostReplicas" . | float64)) $settings -}}
{{- end -}}
{{- range $key, $value := $settings }}
{{- if kindIs "float64" $value }}
{{ $key }} = {{ $value | int64 }}
{{- else if or (kindIs "bool" $value) (kindIs "int64" $value) }}
{{ $key }} = {{ $value }}
{{- else }}
{{ $key }} = {{ $value | toString | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The container. A sidecar listens on loopback, which a probe of the kubelet does not reach, so it asks itself. */ -}}
{{- define "tollgate.container" -}}
{{- $sidecar := eq .Values.mode "sidecar" -}}
name: tollgate
image: {{ include "tollgate.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if $sidecar }}
# It starts before the other containers and ends after them.
restartPolicy: Always
{{- end }}
args: [serve]
{{- with .Values.secretName }}
envFrom:
  - secretRef: {name: {{ . | quote }}}
{{- end }}
env:
  - {name: TOLLGATE_CONFIG, value: /etc/tollgate/tollgate.toml}
  - {name: TOLLGATE_HTTP, value: {{ ternary "127.0.0.1:8000" "0.0.0.0:8000" $sidecar | quote }}}
  {{- /* A pod whose Secret lacks a key named here does not start. With `envFrom` alone it would use the default, which is memory. */}}
  {{- if .Values.store.fromSecret }}
  - {name: TOLLGATE_STORE, valueFrom: {secretKeyRef: {name: {{ .Values.secretName | quote }}, key: TOLLGATE_STORE}}}
  {{- else }}
  - {name: TOLLGATE_STORE, value: {{ .Values.store.url | quote }}}
  {{- end }}
  {{- if include "tollgate.catalogIsFile" . }}
  - {name: TOLLGATE_CATALOG, value: "file:/etc/tollgate/policies.yaml"}
  {{- else if .Values.catalog.fromSecret }}
  - {name: TOLLGATE_CATALOG, valueFrom: {secretKeyRef: {name: {{ .Values.secretName | quote }}, key: TOLLGATE_CATALOG}}}
  {{- else }}
  - {name: TOLLGATE_CATALOG, value: {{ .Values.catalog.url | quote }}}
  {{- end }}
  - {name: TOLLGATE_JOURNAL, value: /var/lib/tollgate/journal}
  {{- if .Values.grpc.enabled }}
  - {name: TOLLGATE_GRPC, value: {{ ternary "127.0.0.1:8001" "0.0.0.0:8001" $sidecar | quote }}}
  {{- end }}
  {{- if .Values.gateway.enabled }}
  - {name: TOLLGATE_GATEWAY, value: /etc/tollgate/gateway.yaml}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if $sidecar }}
startupProbe:
  exec: {command: [/usr/local/bin/tollgate, health]}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  exec: {command: [/usr/local/bin/tollgate, health]}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  exec: {command: [/usr/local/bin/tollgate, health, --ready]}
  periodSeconds: 5
  timeoutSeconds: 3
{{- else }}
ports:
  - {name: http, containerPort: 8000}
  {{- if .Values.grpc.enabled }}
  - {name: grpc, containerPort: 8001}
  {{- end }}
  {{- if .Values.gateway.enabled }}
  - {name: gateway, containerPort: 8080}
  {{- end }}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
lifecycle:
  # Until every node has taken the pod out of the Service.
  preStop: {sleep: {seconds: 5}}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: config, mountPath: /etc/tollgate, readOnly: true}
  - {name: data, mountPath: /var/lib/tollgate}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
