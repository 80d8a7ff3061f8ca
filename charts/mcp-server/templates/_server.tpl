{{/* The server's container: ours, or an image of one's own. It gets a URL on loopback, and nothing of the sidecar's. */}}

{{- define "mcp-server.server" -}}
name: mcp-server
image: {{ include "mcp-server.image" (dict "image" .Values.image "chart" .Chart) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with .Values.app.command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.app.args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "mcp-server.serverSurroundings" . | nindent 0 }}
ports:
  - name: http
    containerPort: {{ include "mcp-server.appPort" . }}
    protocol: TCP
startupProbe:
  {{ include "mcp-server.probe" (dict "path" .Values.app.probes.startup "root" .) }}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  {{ include "mcp-server.probe" (dict "path" .Values.app.probes.liveness "root" .) }}
  periodSeconds: 10
  timeoutSeconds: 2
readinessProbe:
  {{ include "mcp-server.probe" (dict "path" .Values.app.probes.readiness "root" .) }}
  periodSeconds: 5
  timeoutSeconds: 3
{{- end -}}

{{/* What the server finds around it, in its own pod and in the test's. */}}
{{- define "mcp-server.serverSurroundings" -}}
env:
  {{- include "mcp-server.serverEnv" . | nindent 2 }}
{{- with .Values.app.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "mcp-server.containerSecurity" .Values.securityContext | nindent 2 }}
{{- with include "mcp-server.serverMounts" . | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "mcp-server.serverMounts" -}}
{{- if .Values.app.tools }}
- name: tools
  mountPath: /etc/mcp-server
  readOnly: true
{{- end }}
{{- range $number, $path := .Values.app.scratch }}
- name: scratch-{{ $number }}
  mountPath: {{ $path | quote }}
{{- end }}
{{- with .Values.app.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
What the kubelet asks: a path, or without one whether the port takes connections. A server behind `inbound` listens on loopback alone: it is asked
through the sidecar, which lets these paths through without a token (publicPaths) and wants a Host that it knows.
*/}}
{{- define "mcp-server.probe" -}}
{{- if include "mcp-server.inbound" .root -}}
httpGet: {path: {{ .path | quote }}, port: {{ include "mcp-server.inboundPort" .root }}, httpHeaders: [{name: Host, value: localhost}]}
{{- else if .path -}}
httpGet: {path: {{ .path | quote }}, port: http}
{{- else -}}
tcpSocket: {port: http}
{{- end -}}
{{- end -}}

{{- define "mcp-server.serverEnv" -}}
- name: BACKEND_API_URL
  value: "http://127.0.0.1:{{ include "mcp-server.port" . }}"
- name: BACKEND_API_TIMEOUT
  value: {{ .Values.app.backendApiTimeout | default 30 | toString | trimSuffix "s" | quote }}
- name: READINESS_CHECK_BACKEND
  value: {{ .Values.app.readinessCheckBackend | default false | toString | quote }}
- name: LOG_LEVEL
  value: {{ .Values.app.logLevel | default "info" | lower | replace "warning" "warn" | quote }}
- name: PORT
  value: {{ include "mcp-server.appPort" . | quote }}
{{- if include "mcp-server.inbound" . }}
- name: HOST
  value: 127.0.0.1
# Calls are made on the caller's behalf where a route says so: the handle goes with them. Other routes take it out.
- name: FORWARD_CALLER
  value: "true"
- name: CALLER_HEADER
  value: {{ .Values.inbound.handleHeader | default "authorization" | quote }}
{{- end }}
- name: ALLOWED_HOSTS
  value: {{ include "mcp-server.hosts" . | splitList "\n" | join "," | quote }}
{{- with .Values.app.allowedOrigins }}
- name: ALLOWED_ORIGINS
  value: {{ join "," . | quote }}
{{- end }}
- name: SHUTDOWN_DELAY
  value: "5"
- name: SHUTDOWN_DEADLINE
  value: {{ include "mcp-server.serverDeadline" . | quote }}
{{- if .Values.app.tools }}
- name: TOOLS_FILE
  value: /etc/mcp-server/tools.yaml
{{- end }}
{{- with include "mcp-server.envItems" .Values.app.env }}
{{ . }}
{{- end }}
{{- end -}}
