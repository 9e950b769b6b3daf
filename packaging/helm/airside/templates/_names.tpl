{{- define "airside.selector" -}}
app.kubernetes.io/name: airside
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "airside.labels" -}}
{{ include "airside.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "airside.image" -}}
{{- with .Values.image -}}
{{ .name }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "airside.data" -}}
{{- $data := .Values.data | default (printf "%s/airside" .Values.containerd.root) }}
{{- if not (hasPrefix (printf "%s/" .Values.containerd.root) $data) }}
{{- fail (printf "data is %s: it must be below containerd.root, %s, or links become copies" $data .Values.containerd.root) }}
{{- end }}
{{- $data }}
{{- end }}

{{- define "airside.host" -}}
{{- /* where kubelet finds the registry: on the node itself, if it listens at all addresses */ -}}
{{- $host := regexReplaceAll ":[0-9]+$" .Values.registry.listen "" | trimPrefix "[" | trimSuffix "]" -}}
{{- if has $host (list "0.0.0.0" "") }}127.0.0.1{{ else if eq $host "::" }}::1{{ else }}{{ $host }}{{ end }}
{{- end }}

{{- define "airside.port" -}}
{{ regexFind "[0-9]+$" .Values.registry.listen }}
{{- end }}

{{- define "airside.security" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
capabilities:
  drop: [ALL]
  # Archives that others own; 0 would do where root owns them all.
  add: [DAC_READ_SEARCH]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "airside.config" -}}
data = {{ include "airside.data" . | quote }}
listen = {{ .Values.registry.listen | quote }}
{{- with .Values.metrics.listen }}
metrics_listen = {{ . | quote }}
{{- end }}
runtime = ["/host{{ .Values.containerd.socketDirectory }}/{{ .Values.containerd.socket }}"]
{{ .Values.config | trim }}

[[images]]
path = {{ .Values.images.path | quote }}
{{- end }}

{{- define "airside.mirrorWrite" -}}
- mirror
- write
- --config=/etc/airside/airside.toml
{{- range .Values.mirror.registries }}
- --registry={{ . }}
{{- else }}
- --all
{{- end }}
{{- if .Values.mirror.only }}
- --only
{{- end }}
{{- if .Values.mirror.strict }}
- --strict
{{- end }}
{{- end }}

{{- define "airside.settingsMounts" -}}
- name: config
  mountPath: /etc/airside
  readOnly: true
{{- if .Values.secret }}
- name: secret
  mountPath: /etc/airside-secret
  readOnly: true
{{- end }}
{{- end }}

{{- define "airside.mirrorMounts" -}}
{{- range $n, $mount := .Values.mirror.mounts }}
- name: mirror-{{ $n }}
  mountPath: /host{{ $mount.path }}
  {{- if $mount.readOnly }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}

{{- define "airside.socketMount" -}}
- name: containerd-socket
  mountPath: /host{{ .Values.containerd.socketDirectory }}
  readOnly: true
{{- end }}

{{- define "airside.probe" -}}
{{- /* a dictionary of the root and the path */ -}}
httpGet:
  host: {{ include "airside.host" .root | quote }}
  port: registry
  path: {{ .path }}
  scheme: {{ .root.Values.registry.scheme }}
{{- end }}
