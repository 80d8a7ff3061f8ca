{{/* The two containers, and the volumes they mount: shared by the Deployment and by the test's pod. */}}

{{- define "mcp-server.sidecar" -}}
name: token-sidecar
image: {{ include "mcp-server.image" (dict "image" .Values.sidecar.image "chart" .Chart) | quote }}
imagePullPolicy: {{ .Values.sidecar.image.pullPolicy }}
{{- if include "mcp-server.native" . }}
restartPolicy: Always
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
env:
  {{- include "mcp-server.sidecarEnv" . | nindent 2 }}
ports:
  - name: admin
    containerPort: {{ include "mcp-server.adminPort" . }}
    protocol: TCP
  {{- if include "mcp-server.inbound" . }}
  - name: inbound
    containerPort: {{ include "mcp-server.inboundPort" . }}
    protocol: TCP
  {{- end }}
# Passes once every credential has had a token: a native sidecar holds the server back until then.
startupProbe:
  httpGet: {path: /startupz, port: admin}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: {{ .Values.sidecar.startupSeconds }}
livenessProbe:
  httpGet: {path: /livez, port: admin}
  periodSeconds: 10
  timeoutSeconds: 2
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 2
resources:
  {{- toYaml .Values.sidecar.resources | nindent 2 }}
securityContext:
  {{- include "mcp-server.containerSecurity" .Values.sidecarSecurityContext | nindent 2 }}
volumeMounts:
  {{- include "mcp-server.sidecarMounts" . | nindent 2 }}
{{- end -}}

{{/* The configuration is named here rather than in arguments, so that `kubectl exec … -- token-sidecar check` finds it. */}}
{{- define "mcp-server.sidecarEnv" -}}
- name: TOKEN_SIDECAR_CONFIG
  value: /etc/token-sidecar/config/config.yaml
{{- with .Values.sidecar.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.sidecar.noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "mcp-server.sidecarMounts" -}}
# A directory, never a subPath: those do not follow changes.
- name: token-sidecar-config
  mountPath: /etc/token-sidecar/config
  readOnly: true
{{- if include "mcp-server.tokenSources" . }}
- name: token-sidecar-tokens
  mountPath: {{ include "mcp-server.tokenDir" . }}
  readOnly: true
{{- end }}
{{- range .Values.sidecar.mounts }}
- name: sidecar-{{ .name }}
  mountPath: {{ .path }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "mcp-server.server" -}}
name: mcp-server
image: {{ include "mcp-server.image" (dict "image" .Values.image "chart" .Chart) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
env:
  {{- include "mcp-server.serverEnv" . | nindent 2 }}
ports:
  - name: http
    containerPort: 3333
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
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "mcp-server.containerSecurity" .Values.securityContext | nindent 2 }}
{{- with include "mcp-server.serverMounts" . }}
volumeMounts:
  {{- trim . | nindent 2 }}
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
  mountPath: {{ $path }}
{{- end }}
{{- end -}}

{{/*
What the kubelet asks: a path, or without one whether the port takes connections. A server behind `inbound` listens on loopback alone: it is asked
through the sidecar, which lets these paths through without a token (publicPaths) and wants a Host that it knows.
*/}}
{{- define "mcp-server.probe" -}}
{{- if include "mcp-server.inbound" .root -}}
httpGet: {path: {{ .path }}, port: {{ include "mcp-server.inboundPort" .root }}, httpHeaders: [{name: Host, value: localhost}]}
{{- else if .path -}}
httpGet: {path: {{ .path }}, port: http}
{{- else -}}
tcpSocket: {port: http}
{{- end -}}
{{- end -}}

{{- define "mcp-server.serverEnv" -}}
- name: BACKEND_API_URL
  value: "http://127.0.0.1:{{ include "mcp-server.port" . }}"
- name: BACKEND_API_TIMEOUT
  value: {{ .Values.app.backendApiTimeout | toString | trimSuffix "s" | quote }}
- name: READINESS_CHECK_BACKEND
  value: {{ .Values.app.readinessCheckBackend | toString | quote }}
- name: LOG_LEVEL
  value: {{ .Values.app.logLevel | lower | replace "warning" "warn" | quote }}
- name: PORT
  value: "3333"
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
{{- with .Values.app.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Tokens that this chart projects. */}}
{{- define "mcp-server.tokenSources" -}}
{{- if eq .Values.subjectToken.source "projected" }}
- serviceAccountToken:
    path: pod
    audience: {{ .Values.subjectToken.audience | quote }}
    expirationSeconds: {{ int .Values.subjectToken.expirationSeconds }}
{{- end }}
{{- range .Values.subjectToken.more }}
- serviceAccountToken:
    path: {{ .name }}
    audience: {{ .audience | quote }}
    expirationSeconds: {{ int (.expirationSeconds | default $.Values.subjectToken.expirationSeconds) }}
{{- end }}
{{- end -}}

{{- define "mcp-server.volumes" -}}
- name: token-sidecar-config
  configMap:
    name: {{ include "mcp-server.fullname" . }}-sidecar
{{- with include "mcp-server.tokenSources" . }}
- name: token-sidecar-tokens
  projected:
    sources:
      {{- trim . | nindent 6 }}
{{- end }}
{{- range .Values.sidecar.mounts }}
- name: sidecar-{{ .name }}
  {{- if .secret }}
  secret:
    secretName: {{ .secret }}
  {{- else if .configMap }}
  configMap:
    name: {{ .configMap }}
  {{- else }}
  {{- fail (printf "sidecar.mounts[%s]: name the `secret` or the `configMap` that is mounted" .name) }}
  {{- end }}
{{- end }}
{{- if .Values.app.tools }}
- name: tools
  configMap:
    name: {{ include "mcp-server.fullname" . }}-tools
{{- end }}
{{- range $number, $_ := .Values.app.scratch }}
- name: scratch-{{ $number }}
  emptyDir: {}
{{- end }}
{{- end -}}

{{/* Annotations and labels that make AKS' webhook serve the pod, and the sidecar alone. In the webhook's list names are parted by semicolons. */}}
{{- define "mcp-server.azureAnnotations" -}}
{{- if eq .Values.subjectToken.source "webhook" -}}
azure.workload.identity/skip-containers: mcp-server
azure.workload.identity/service-account-token-expiration: {{ int .Values.subjectToken.expirationSeconds | quote }}
{{- if .Values.subjectToken.identityBinding }}
azure.workload.identity/use-identity-binding: "true"
{{- end }}
{{- end -}}
{{- end -}}

{{- define "mcp-server.azureLabels" -}}
{{- if eq .Values.subjectToken.source "webhook" -}}
azure.workload.identity/use: "true"
{{- end -}}
{{- end -}}
