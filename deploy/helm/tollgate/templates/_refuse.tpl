{{- /* Refuses values that would render and not work, all at once. values.schema.json has the types, the names and the ranges; what
it could only call a failed pattern or `not` is here, with a sentence. Each problem is a line: the name of the value, what is wrong,
what is accepted. No line shows a URL or the value of a variable, because it may hold a password. */ -}}
{{- define "tollgate.refuse" -}}
{{- $problems := list -}}
{{- range list "formats" "settings" "store" "catalog" "replicas" "end" "mode" "resources" "labels" "volumes" "variables" -}}
{{- range include (printf "tollgate.refuse.%s" .) $ | splitList "\n" -}}
{{- with trim . }}{{ $problems = append $problems . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n%s" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}

{{- define "tollgate.refuse.formats" -}}
{{- $name := include "tollgate.name" . -}}
{{- if gt (len $name) 50 }}
the name of the release: {{ .Release.Name }} gives the objects the name {{ $name }}, which has {{ len $name }} characters; accepted: a name that gives at most 50, so up to 41 characters, or 50 with "tollgate" in them
{{- end }}
{{- $image := .Values.image -}}
{{- if not (regexMatch "^([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$" $image.repository) }}
image.repository: {{ printf "%q" $image.repository }} is not the name of a repository; accepted: a name without a tag, such as registry.example/tollgate
{{- end }}
{{- if not (regexMatch "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$" ($image.tag | default "")) }}
image.tag: {{ printf "%q" $image.tag }} is not a tag; accepted: up to 128 letters, digits, `_`, `.` and `-`, or nothing for the version of the chart
{{- end }}
{{- if not (regexMatch "^(sha256:[0-9a-f]{64})?$" ($image.digest | default "")) }}
image.digest: {{ printf "%q" $image.digest }} is not a digest; accepted: sha256: and 64 hexadecimal digits, or nothing to use the tag
{{- end }}
{{- if not (regexMatch "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$" (.Values.secretName | default "")) }}
secretName: {{ printf "%q" .Values.secretName }} is not the name of a Secret; accepted: up to 253 lower-case letters, digits, `-` and `.`
{{- end }}
{{- if not (regexMatch "^[1-9][0-9]{0,8}(Mi|Gi|Ti)$" (.Values.persistence.size | default "")) }}
persistence.size: {{ printf "%q" .Values.persistence.size }} is not a size; accepted: a whole number and Mi, Gi or Ti, such as 10Gi
{{- end }}
{{- if not (regexMatch "^[1-9][0-9]{0,5}[smh]$" (.Values.serviceMonitor.interval | default "")) }}
serviceMonitor.interval: {{ printf "%q" .Values.serviceMonitor.interval }} is not an interval; accepted: a whole number and s, m or h, such as 15s
{{- end }}
{{- $most := .Values.podDisruptionBudget.maxUnavailable -}}
{{- if and (kindIs "string" $most) (not (regexMatch "^(100|[1-9]?[0-9])%$" $most)) }}
podDisruptionBudget.maxUnavailable: {{ printf "%q" $most }} is not a part of the pods; accepted: a number of pods, or 0% to 100%
{{- end }}
{{- if and .Values.gateway.config (hasKey .Values.gateway.config "listen") }}
gateway.config.listen: the chart sets it to 0.0.0.0:8080, which the Service and the NetworkPolicy use; accepted: gateway.config without `listen`
{{- end }}
{{- end -}}

{{- /* HOST[:PORT] */ -}}
{{- define "tollgate.hostPattern" -}}
(\[[0-9A-Fa-f:.]+\]|[^][\s@/?#:,]+)(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?
{{- end -}}

{{- define "tollgate.refuse.settings" -}}
{{- $settings := .Values.settings -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- $block := printf "(%s(\\.%s){3}(/(3[0-2]|[12]?[0-9]))?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))?)" $byte $byte -}}
{{- $label := "[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?" -}}
{{- $lists := dict "allowed_hosts" (list (printf "%s(\\.%s)*" $label $label) "names of hosts without ports" "tollgate.internal") "trusted_proxies" (list $block "IP addresses and CIDR blocks" "10.0.0.0/8") "auth_headers" (list "[A-Za-z][A-Za-z0-9_.-]*=[A-Za-z0-9_-]+" "NAME=HEADER" "user=x-user-id") -}}
{{- range $name, $accepted := $lists -}}
{{- range index $settings $name | default "" | replace "," " " | splitList " " -}}
{{- if and (trim .) (not (regexMatch (printf "^%s$" (first $accepted)) (trim .))) }}
settings.{{ $name }}: {{ printf "%q" . }} is not accepted; accepted: {{ index $accepted 1 }}, with commas or spaces between, such as {{ last $accepted }}
{{- end }}
{{- end }}
{{- end -}}
{{- range list "record_sample" "record_max_bytes" "record_hash_ids" -}}
{{- if and (hasKey $settings .) (not $settings.record) }}
settings.{{ . }}: nothing is recorded, and the server does not start with it; accepted: with settings.record
{{- end }}
{{- end -}}
{{- $collectors := or $settings.otlp_endpoint (include "tollgate.hasVariable" (list . "OTEL_EXPORTER_OTLP_ENDPOINT")) -}}
{{- if and (hasKey $settings "otlp_sample") (not $collectors) }}
settings.otlp_sample: nothing is traced, and the server does not start with it; accepted: with settings.otlp_endpoint
{{- end -}}
{{- if and $settings.record (not (include "tollgate.isInData" $settings.record)) -}}
{{- $writable := false -}}
{{- range .Values.extraVolumeMounts -}}
{{- if and (not .readOnly) (hasPrefix (printf "%s/" (clean .mountPath)) (clean $settings.record)) }}{{ $writable = true }}{{ end -}}
{{- end -}}
{{- if not $writable }}
settings.record: nothing can be written there; accepted: a file in /var/lib/tollgate or in one of extraVolumeMounts that is not readOnly
{{- end -}}
{{- end -}}

{{- range list "record_sample" "otlp_sample" -}}
{{- $share := index $.Values.settings . -}}
{{- if and $share (not (regexMatch "^(0(\\.[0-9]{1,6})?|1(\\.0{1,6})?)$" $share)) }}
settings.{{ . }}: {{ printf "%q" $share }} is not a share; accepted: 0 to 1 in quotes, with at most 6 decimals, such as "0.25"
{{- end }}
{{- end }}
{{- $collector := .Values.settings.otlp_endpoint -}}
{{- if and $collector (not (regexMatch (printf "^https?://%s(/[^@?#\\s]*)?$" (include "tollgate.hostPattern" .)) $collector)) }}
settings.otlp_endpoint: it is not a URL of a collector; accepted: http://HOST[:PORT] or https://HOST[:PORT] without a user and a query. A token belongs into OTEL_EXPORTER_OTLP_HEADERS of the Secret
{{- end }}
{{- end -}}

{{- /* What tollgate accepts, except that a URL here has no login. */ -}}
{{- define "tollgate.storePattern" -}}
{{- $host := include "tollgate.hostPattern" . -}}
{{- $end := "(\\?[^@#\\s]+)?" -}}
^(memory:(?:[^/~?@\s][^?@]*|/[^/?@][^?@]*|)(\?max_keys=[1-9][0-9_]*)?
{{- printf "|memcached://%s(\\?prefix=[!-~]{0,64})?" $host -}}
{{- printf "|(redis|valkey)s?://%s(/[0-9]*)?%s" $host $end -}}
{{- printf "|(redis|valkey)s?-cluster://%s(,%s)*(/0?)?%s" $host $host $end -}}
{{- printf "|(redis|valkey)s?-sentinel://%s(,%s)*/[^/?@#\\s]+(/[0-9]*)?%s" $host $host $end -}}
{{- printf "|((redis|valkey)\\+)?unix:///[^?@#\\s]+%s)$" $end -}}
{{- end -}}

{{- define "tollgate.refuse.store" -}}
{{- $url := .Values.store.url -}}
{{- $inSecret := .Values.store.fromSecret -}}
{{- $memory := and (not $inSecret) (hasPrefix "memory:" $url) -}}
{{- $dir := $url | trimPrefix "memory:" | splitList "?" | first -}}
{{- if and $inSecret (ne $url "memory:") }}
store.url: store.fromSecret is set too, and the chart would ignore the URL; accepted: one of the two
{{- else if or (contains "@" $url) (contains "sentinel_password=" $url) (regexMatch "[?&][^=&]*%" $url) }}
store.url: it holds a login, which everybody could read who may see the Deployment; accepted: the URL as TOLLGATE_STORE of the Secret with store.fromSecret: true, or a URL without `@` and sentinel_password, and without `%` in the name of an option
{{- else if not (regexMatch (include "tollgate.storePattern" .) $url) }}
store.url: it names no store; accepted: memory:, memory:DIR, each with ?max_keys=N, redis://HOST[:PORT][/DATABASE], redis-sentinel://HOST[:PORT],…/MASTER[/DATABASE], redis-cluster://HOST[:PORT],…, redis+unix:///PATH, the same with valkey, rediss or valkeys (TLS), or memcached://HOST[:PORT]
{{- else if and $memory $dir (not (include "tollgate.isInData" $dir)) }}
store.url: everything outside of /var/lib/tollgate is read-only; accepted: memory:/var/lib/tollgate/DIR, which lasts with persistence.enabled
{{- end }}
{{- if and $memory (include "tollgate.several" .) }}
store.url: several replicas would each count apart in memory; accepted: a URL of Redis, Valkey or memcached, store.fromSecret, or one replica without autoscaling
{{- end }}
{{- if and (not $inSecret) (include "tollgate.several" .) (regexMatch "^([a-z+]*unix:|[a-z-]+://([^/?]*,)?(localhost|127\\.[0-9.]+|\\[::1\\])[:,/?]|[a-z-]+://([^/?]*,)?(localhost|127\\.[0-9.]+|\\[::1\\])$)" $url) }}
store.url: a loopback address or a socket is another store in each pod, so several replicas would each count apart; accepted: the address of a store that all pods reach, store.fromSecret, or one replica without autoscaling
{{- end }}
{{- if and .Values.settings.max_keys (not $memory) }}
settings.max_keys: a store over the network has no such bound, and the server does not start with it; accepted: with store.url memory: or memory:DIR
{{- else if and .Values.settings.max_keys (contains "?max_keys=" $url) }}
settings.max_keys: store.url sets it too; accepted: one of the two
{{- end }}
{{- if and .Values.settings.snapshot_every_ms (not (and $memory $dir)) }}
settings.snapshot_every_ms: this store writes no snapshots, and the server does not start with it; accepted: with store.url memory:DIR
{{- end }}
{{- end -}}

{{- /* Whether a path is in the volume at /var/lib/tollgate, which is also the working directory. */ -}}
{{- define "tollgate.isInData" -}}
{{- $path := clean . -}}
{{- if or (hasPrefix "/var/lib/tollgate/" $path) (not (or (hasPrefix "/" $path) (hasPrefix ".." $path))) }}true{{ end -}}
{{- end -}}

{{- define "tollgate.refuse.catalog" -}}
{{- $url := .Values.catalog.url | default "" -}}
{{- $host := include "tollgate.hostPattern" . -}}
{{- if and $url .Values.catalog.fromSecret }}
catalog.url: catalog.fromSecret is set too, and the chart would ignore the URL; accepted: one of the two
{{- else if regexMatch "^postgres(ql)?://([^@/?]*:[^/?]*@|.*[?&](ssl)?password=|.*[?&][^=&]*%|.*@.*@)" $url }}
catalog.url: it holds a password, which everybody could read who may see the Deployment; accepted: the URL as TOLLGATE_CATALOG of the Secret with catalog.fromSecret: true, or a URL without a password, and without `%` in the name of an option
{{- else if hasPrefix "sqlite:" $url -}}
{{- $file := $url | trimPrefix "sqlite:" | trimPrefix "//" | splitList "?" | first -}}
{{- if not (and $file (include "tollgate.isInData" $file)) }}
catalog.url: everything outside of /var/lib/tollgate is read-only; accepted: sqlite:/var/lib/tollgate/FILE, which lasts with persistence.enabled
{{- end }}
{{- if include "tollgate.several" . }}
catalog.url: several replicas cannot share a SQLite database; accepted: catalog.policies, postgres://…, catalog.fromSecret, or one replica without autoscaling
{{- end }}
{{- else if and $url (not (regexMatch (printf "^postgres(ql)?://([^:@/?#\\s]+@)?%s/[^@/?#\\s]+(\\?[^@#\\s]+)?$" $host) $url)) }}
catalog.url: it names no database; accepted: sqlite:/var/lib/tollgate/FILE, postgres://[USER@]HOST[:PORT]/DATABASE, or nothing to use catalog.policies
{{- end }}
{{- if and .Values.gateway.enabled (include "tollgate.catalogIsFile" .) }}
gateway.enabled: its clients are known by the API keys of a database; accepted: with catalog.url or catalog.fromSecret
{{- end }}
{{- if and .Values.gateway.enabled (hasPrefix "memcached:" .Values.store.url) }}
store.url: memcached has no leases, which the gateway needs; accepted: memory:, or a URL of Redis or Valkey
{{- end }}
{{- if and (hasPrefix "postgres" $url) (not .Values.secretName) (not (include "tollgate.hasVariable" (list . "TOLLGATE_API_KEY_SECRET"))) }}
secretName: a catalog in PostgreSQL needs TOLLGATE_API_KEY_SECRET; accepted: the name of a Secret that has it, or this variable in extraEnv
{{- end }}
{{- end -}}

{{- define "tollgate.refuse.replicas" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) }}
autoscaling.minReplicas: {{ int $scaling.minReplicas }} is above autoscaling.maxReplicas; accepted: 1 to {{ int $scaling.maxReplicas }}, or a larger autoscaling.maxReplicas
{{- end }}
{{- if and .Values.persistence.enabled (include "tollgate.several" .) }}
persistence.enabled: one server uses a volume; accepted: false, or one replica without autoscaling
{{- end }}
{{- if and .Values.settings.nodes (lt (int .Values.settings.nodes) (include "tollgate.mostReplicas" . | int)) }}
settings.nodes: {{ int .Values.settings.nodes }} nodes for {{ include "tollgate.mostReplicas" . }} replicas would admit more than the limits without the store; accepted: at least {{ include "tollgate.mostReplicas" . }}, or no settings.nodes
{{- end }}
{{- end -}}

{{- /* The pause before the end, draining, a second for what sends slowly, and one to end. A snapshot may take more. */ -}}
{{- define "tollgate.refuse.end" -}}
{{- $drain := 8000 -}}
{{- if hasKey .Values.settings "drain_timeout_ms" }}{{ $drain = int64 .Values.settings.drain_timeout_ms }}{{ end -}}
{{- $pause := ternary 0 5 (eq .Values.mode "sidecar") -}}
{{- $needed := add $pause 2 (div (add $drain 999) 1000) -}}
{{- if lt (int64 .Values.terminationGracePeriodSeconds) $needed }}
terminationGracePeriodSeconds: Kubernetes would kill a server after {{ int64 .Values.terminationGracePeriodSeconds }} s, while it drains for up to {{ $drain }} ms (settings.drain_timeout_ms); accepted: at least {{ $needed }}, or a shorter settings.drain_timeout_ms
{{- end }}
{{- $settings := .Values.settings -}}
{{- $memory := $settings.max_body_memory_bytes | default 67108864 | int64 -}}
{{- $longest := max ($settings.max_body_bytes | default 65536 | int64) ($settings.max_batch_body_bytes | default 4194304 | int64) -}}
{{- if lt $memory (add $longest 8192) }}
settings.max_body_memory_bytes: {{ $memory }} is too small for the longest accepted body; accepted: at least {{ add $longest 8192 }}, or smaller settings.max_body_bytes and settings.max_batch_body_bytes
{{- end }}
{{- end -}}

{{- define "tollgate.refuse.mode" -}}
{{- $server := eq .Values.mode "server" -}}
{{- $admin := or (include "tollgate.hasVariable" (list . "TOLLGATE_ADMIN_TOKEN")) (include "tollgate.hasVariable" (list . "TOLLGATE_ADMIN_TOKENS")) -}}
{{- if and $server (not .Values.secretName) (not $admin) }}
secretName: a server that other pods reach needs TOLLGATE_ADMIN_TOKEN; accepted: the name of a Secret that has it, or this variable in extraEnv
{{- end }}
{{- if and (or .Values.store.fromSecret .Values.catalog.fromSecret) (not .Values.secretName) }}
secretName: store.fromSecret and catalog.fromSecret read it; accepted: the name of a Secret
{{- end }}
{{- if and $server .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) }}
networkPolicy.metricsFrom: serviceMonitor.enabled has Prometheus scrape the pods, and the NetworkPolicy may not let it in; accepted: at least one peer, such as {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}, or networkPolicy.enabled: false
{{- end }}
{{- if $server -}}
{{- if or .Values.sidecar.containers .Values.sidecar.podLabels }}
sidecar: mode is server, which has no containers of yours; accepted: with mode: sidecar
{{- end }}
{{- else -}}
{{- if .Values.persistence.enabled }}
persistence.enabled: a sidecar has no volume of its own; accepted: false
{{- end }}
{{- if .Values.gateway.enabled }}
gateway.enabled: a sidecar serves its own pod only; accepted: with mode: server
{{- end }}
{{- if .Values.serviceMonitor.enabled }}
serviceMonitor.enabled: a sidecar listens on loopback, where Prometheus does not reach it; accepted: false
{{- end }}
{{- if not .Values.sidecar.containers }}
sidecar.containers: a sidecar runs beside your containers; accepted: at least one container
{{- end }}
{{- $names := list "tollgate" -}}
{{- $ports := ternary (list 8000 8001) (list 8000) .Values.grpc.enabled -}}
{{- range $at, $container := .Values.sidecar.containers -}}
{{- if has $container.name $names }}
sidecar.containers[{{ $at }}].name: {{ printf "%q" $container.name }} is the name of another container of the pod; accepted: a name that no other has. Tollgate's is tollgate
{{- end }}
{{- $names = append $names $container.name -}}
{{- range $container.ports -}}
{{- if has (int .containerPort) $ports }}
sidecar.containers[{{ $at }}].ports: Tollgate listens on port {{ int .containerPort }} of the pod; accepted: another port
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* A quantity of Kubernetes as a number, or nothing if it is none. */ -}}
{{- define "tollgate.quantity" -}}
{{- $text := toString . -}}
{{- if regexMatch "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$" $text -}}
{{- $unit := regexFind "([KMGTPE]i|[numkMGTPE])$" $text -}}
{{- $units := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (trimSuffix $unit $text | float64) (index $units $unit) -}}
{{- end -}}
{{- end -}}

{{- define "tollgate.refuse.resources" -}}
{{- $limits := .Values.resources.limits | default dict -}}
{{- $requests := .Values.resources.requests | default dict -}}
{{- range $part, $amounts := dict "limits" $limits "requests" $requests -}}
{{- range $name, $amount := $amounts -}}
{{- if not (regexMatch "^(cpu|memory|ephemeral-storage|hugepages-.+|.+/.+)$" $name) }}
resources.{{ $part }}.{{ $name }}: Kubernetes has no resource of this name; accepted: cpu, memory, ephemeral-storage, hugepages-SIZE, or DOMAIN/NAME
{{- else if not (include "tollgate.quantity" $amount) }}
resources.{{ $part }}.{{ $name }}: {{ toJson $amount }} is not a quantity; accepted: a number, with a unit if wanted, such as 500m, 2, 256Mi or 1Gi
{{- end }}
{{- end }}
{{- end -}}
{{- range $name, $request := $requests -}}
{{- $limit := index $limits $name -}}
{{- if and (hasKey $limits $name) (include "tollgate.quantity" $request) (include "tollgate.quantity" $limit) -}}
{{- if gt (include "tollgate.quantity" $request | float64) (include "tollgate.quantity" $limit | float64) }}
resources.requests.{{ $name }}: {{ $request }} is above resources.limits.{{ $name }}, which is {{ $limit }}; accepted: at most the limit, or a larger limit
{{- end }}
{{- end }}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if not (hasKey $requests "cpu") }}
resources.requests.cpu: autoscaling.enabled compares the use of the CPU with it; accepted: a quantity, such as 500m
{{- end }}
{{- range $at, $container := .Values.sidecar.containers -}}
{{- if not (dig "resources" "requests" "cpu" "" $container) }}
sidecar.containers[{{ $at }}].resources.requests.cpu: autoscaling.enabled compares the use of the CPU with it; accepted: a quantity, such as 500m
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tollgate.refuse.labels" -}}
{{- $own := include "tollgate.labels" . | fromYaml -}}
{{- range $where, $labels := dict "sidecar.podLabels" .Values.sidecar.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "prometheusRule.labels" .Values.prometheusRule.labels "dashboard.labels" .Values.dashboard.labels -}}
{{- range $name, $value := $labels -}}
{{- if hasKey $own $name }}
{{ $where }}: the chart sets the label {{ $name }} itself, and selects by some of its labels; accepted: other labels than {{ keys $own | sortAlpha | join ", " }}
{{- else if not (and (regexMatch "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" $name) (regexMatch "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$" $value)) }}
{{ $where }}: {{ printf "%q" (printf "%s: %s" $name $value) }} is not a label; accepted: names and values of up to 63 letters, digits, `-`, `_` and `.`, that begin and end with a letter or a digit
{{- end }}
{{- end }}
{{- end -}}
{{- if hasKey (.Values.podAnnotations | default dict) "checksum/settings" }}
podAnnotations: the chart sets checksum/settings itself; accepted: other annotations
{{- end }}
{{- end -}}

{{- define "tollgate.refuse.volumes" -}}
{{- $volumes := list "config" "data" -}}
{{- range $at, $volume := .Values.extraVolumes -}}
{{- if has $volume.name $volumes }}
extraVolumes[{{ $at }}].name: {{ printf "%q" $volume.name }} is the name of another volume of the pod; accepted: a name that no other has. The chart's are config and data
{{- else if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" $volume.name) }}
extraVolumes[{{ $at }}].name: {{ printf "%q" $volume.name }} is not the name of a volume; accepted: up to 63 lower-case letters, digits and `-`
{{- end }}
{{- $volumes = append $volumes $volume.name -}}
{{- if ne (len $volume) 2 }}
extraVolumes[{{ $at }}]: it has {{ sub (len $volume) 1 }} sources; accepted: a name and one source, such as {name: redis-ca, secret: {secretName: redis-ca}}
{{- end }}
{{- end -}}
{{- $paths := list "/var/lib/tollgate" -}}
{{- range $at, $mount := .Values.extraVolumeMounts -}}
{{- $path := clean $mount.mountPath -}}
{{- if not (has $mount.name $volumes) }}
extraVolumeMounts[{{ $at }}].name: there is no volume {{ printf "%q" $mount.name }}; accepted: {{ without $volumes "config" | join ", " }}
{{- else if eq $mount.name "config" }}
extraVolumeMounts[{{ $at }}].name: the chart mounts config at /etc/tollgate; accepted: {{ without $volumes "config" | join ", " }}
{{- end }}
{{- if or (not (hasPrefix "/" $mount.mountPath)) (contains ":" $mount.mountPath) }}
extraVolumeMounts[{{ $at }}].mountPath: {{ printf "%q" $mount.mountPath }} is not an absolute path; accepted: a path that begins with `/`, without `:`
{{- else if has $path $paths }}
extraVolumeMounts[{{ $at }}].mountPath: another volume is at {{ $path }}; accepted: a path of its own
{{- else if or (hasPrefix "/etc/tollgate/" (printf "%s/" $path)) (hasPrefix (printf "%s/" (trimSuffix "/" $path)) "/etc/tollgate/") (hasPrefix (printf "%s/" (trimSuffix "/" $path)) "/usr/local/bin/tollgate/") (hasPrefix (printf "%s/" (trimSuffix "/" $path)) "/var/lib/tollgate/") }}
extraVolumeMounts[{{ $at }}].mountPath: {{ $path }} would hide the program or its files, or is below a volume that is read-only; accepted: another path, such as /etc/redis-ca or /var/lib/tollgate/DIR
{{- end }}
{{- $paths = append $paths $path -}}
{{- end }}
{{- end -}}

{{- /* Whether extraEnv has a variable: (list . NAME). */ -}}
{{- define "tollgate.hasVariable" -}}
{{- $name := index . 1 -}}
{{- range (index . 0).Values.extraEnv }}{{ if eq .name $name }}true{{ end }}{{ end -}}
{{- end -}}

{{- define "tollgate.refuse.variables" -}}
{{- $secrets := list "TOLLGATE_ADMIN_TOKEN" "TOLLGATE_ADMIN_READ_TOKEN" "TOLLGATE_ADMIN_TOKENS" "TOLLGATE_API_KEY_SECRET" "OTEL_EXPORTER_OTLP_HEADERS" "OTEL_EXPORTER_OTLP_TRACES_HEADERS" "OTEL_EXPORTER_OTLP_METRICS_HEADERS" "OTEL_EXPORTER_OTLP_LOGS_HEADERS" -}}
{{- $chart := dict "TOLLGATE_STORE" "store.url or store.fromSecret" "TOLLGATE_CATALOG" "catalog.policies, catalog.url or catalog.fromSecret" "TOLLGATE_GRPC" "grpc.enabled" "TOLLGATE_GATEWAY" "gateway.enabled and gateway.config" -}}
{{- $own := list "TOLLGATE_CONFIG" "TOLLGATE_HTTP" "TOLLGATE_JOURNAL" -}}
{{- $names := list -}}
{{- range $at, $variable := .Values.extraEnv -}}
{{- $name := $variable.name -}}
{{- if not (regexMatch "^[A-Za-z_.-][A-Za-z0-9_.-]*$" $name) }}
extraEnv[{{ $at }}].name: it is not the name of a variable; accepted: letters, digits, `_`, `-` and `.`, and no digit at the beginning
{{- else if has $name $names }}
extraEnv[{{ $at }}].name: {{ $name }} is given twice; accepted: each variable once
{{- else if has $name $secrets -}}
{{- if not (dig "valueFrom" "secretKeyRef" "" $variable) }}
extraEnv[{{ $at }}]: {{ $name }} is a secret, which everybody could read who may see the Deployment; accepted: valueFrom.secretKeyRef, or a key of the Secret that secretName names
{{- end }}
{{- else if and (regexMatch "^OTEL_EXPORTER_OTLP_([A-Z]+_)?ENDPOINT$" $name) (contains "@" ($variable.value | default "")) }}
extraEnv[{{ $at }}]: {{ $name }} holds a login, which everybody could read who may see the Deployment; accepted: a URL without a user. A token belongs into OTEL_EXPORTER_OTLP_HEADERS of the Secret
{{- else if has $name $own }}
extraEnv[{{ $at }}].name: the chart sets {{ $name }} itself; accepted: another variable
{{- else if hasPrefix "TOLLGATE_" $name }}
extraEnv[{{ $at }}].name: {{ $name }} is a setting with a value of its own; accepted: {{ index $chart $name | default (printf "settings.%s" ($name | trimPrefix "TOLLGATE_" | lower)) }}
{{- end }}
{{- $names = append $names $name -}}
{{- if and (hasKey $variable "value") (hasKey $variable "valueFrom") }}
extraEnv[{{ $at }}]: {{ $name }} has both value and valueFrom; accepted: one of the two
{{- end }}
{{- end }}
{{- end -}}
