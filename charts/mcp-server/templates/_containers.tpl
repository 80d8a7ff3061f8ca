{{/* The sidecar's container: shared by the Deployment and by the test's pod. */}}

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
  failureThreshold: {{ .Values.sidecar.startupSeconds | default 600 }}
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
{{- with include "mcp-server.sidecarMounts" . | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
The configuration is in the environment rather than in arguments, so that `kubectl exec … -- token-sidecar check` finds it. In a variable's value the
kubelet takes `$$` for a dollar sign, and replaces `$(NAME)`.
*/}}
{{- define "mcp-server.sidecarEnv" -}}
{{- if include "mcp-server.configInPod" . -}}
- name: TOKEN_SIDECAR_CONFIG_TEXT
  value: |-
    {{- include "mcp-server.config" . | replace "$" "$$" | nindent 4 }}
{{- else -}}
- name: TOKEN_SIDECAR_CONFIG
  value: /etc/token-sidecar/config/config.yaml
{{- end }}
{{- with .Values.sidecar.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.sidecar.noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with include "mcp-server.envItems" .Values.sidecar.env }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Entries of a container's env as given, with values as text. In: a list. */}}
{{- define "mcp-server.envItems" -}}
{{- $items := list -}}
{{- range . -}}
{{- $item := deepCopy . -}}
{{- if and (hasKey $item "value") (not (kindIs "string" $item.value)) -}}{{- $_ := set $item "value" (toJson $item.value) -}}{{- end -}}
{{- $items = append $items $item -}}
{{- end -}}
{{- if $items -}}{{- toYaml $items -}}{{- end -}}
{{- end -}}

{{- define "mcp-server.sidecarMounts" -}}
{{- if not (include "mcp-server.configInPod" .) }}
# A directory, never a subPath: those do not follow changes.
- name: token-sidecar-config
  mountPath: /etc/token-sidecar/config
  readOnly: true
{{- end }}
{{- if include "mcp-server.tokenSources" . }}
- name: token-sidecar-tokens
  mountPath: {{ include "mcp-server.tokenDir" . }}
  readOnly: true
{{- end }}
{{- range .Values.sidecar.mounts }}
- name: sidecar-{{ .name }}
  mountPath: {{ .path | quote }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Tokens that this chart projects. */}}
{{- define "mcp-server.tokenSources" -}}
{{- if eq .Values.subjectToken.source "projected" }}
- serviceAccountToken:
    path: pod
    audience: {{ .Values.subjectToken.audience | default "api://AzureADTokenExchange" | quote }}
    expirationSeconds: {{ int (.Values.subjectToken.expirationSeconds | default 3600) }}
{{- end }}
{{- range .Values.subjectToken.more }}
- serviceAccountToken:
    path: {{ .name | quote }}
    audience: {{ .audience | quote }}
    expirationSeconds: {{ int (.expirationSeconds | default $.Values.subjectToken.expirationSeconds | default 3600) }}
{{- end }}
{{- end -}}
