{{- define "tollgate.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
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

{{- /* Refuses values that render and do not work. */ -}}
{{- define "tollgate.check" -}}
{{- $memory := and (not .Values.store.fromSecret) (hasPrefix "memory:" .Values.store.url) -}}
{{- if and $memory (include "tollgate.several" .) -}}
{{- fail "store.url: several replicas would each count apart in memory; accepted: a URL of Redis, Valkey or memcached, store.fromSecret, or one replica without autoscaling" -}}
{{- end -}}
{{- if and (hasPrefix "sqlite:" .Values.catalog.url) (include "tollgate.several" .) -}}
{{- fail "catalog.url: several replicas cannot share a SQLite database; accepted: catalog.policies, postgres://…, catalog.fromSecret, or one replica without autoscaling" -}}
{{- end -}}
{{- if and .Values.persistence.enabled (ne .Values.mode "server") -}}
{{- fail "persistence.enabled: a sidecar has no volume of its own; accepted: false" -}}
{{- end -}}
{{- if and .Values.persistence.enabled (include "tollgate.several" .) -}}
{{- fail "persistence.enabled: one server uses a volume; accepted: false, or one replica without autoscaling" -}}
{{- end -}}
{{- if and .Values.settings.nodes (lt (int .Values.settings.nodes) (include "tollgate.mostReplicas" . | int)) -}}
{{- fail (printf "settings.nodes: %d nodes for %s replicas would admit more than the limits without the store; accepted: at least %s, or no settings.nodes" (int .Values.settings.nodes) (include "tollgate.mostReplicas" .) (include "tollgate.mostReplicas" .)) -}}
{{- end -}}
{{- if and .Values.gateway.enabled (include "tollgate.catalogIsFile" .) -}}
{{- fail "gateway.enabled: its clients are known by the API keys of a database; accepted: with catalog.url or catalog.fromSecret" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (ne .Values.mode "server") -}}
{{- fail "gateway.enabled: accepted with mode: server" -}}
{{- end -}}
{{- if and (eq .Values.mode "server") .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) -}}
{{- fail "networkPolicy.metricsFrom: serviceMonitor.enabled has Prometheus scrape the pods, and the NetworkPolicy may not let it in; accepted: at least one peer, such as {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}, or networkPolicy.enabled: false" -}}
{{- end -}}
{{- if and (eq .Values.mode "server") (not .Values.secretName) -}}
{{- fail "secretName: a server that other pods reach needs TOLLGATE_ADMIN_TOKEN; accepted: the name of a Secret that has it" -}}
{{- end -}}
{{- if and (or .Values.store.fromSecret .Values.catalog.fromSecret) (not .Values.secretName) -}}
{{- fail "secretName: store.fromSecret and catalog.fromSecret read it; accepted: the name of a Secret" -}}
{{- end -}}
{{- if and (eq .Values.mode "sidecar") (not .Values.sidecar.containers) -}}
{{- fail "sidecar.containers: a sidecar runs beside your containers; accepted: at least one container" -}}
{{- end -}}
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
{{- end -}}
