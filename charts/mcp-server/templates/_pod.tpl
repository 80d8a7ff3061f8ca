{{/* What the server's pods and the test's have in common: identity, user, volumes, where they run. */}}

{{/* In: a dict of `root` and `server`: whether the server is in the pod. */}}
{{- define "mcp-server.pod" -}}
{{- $server := .server -}}
{{- with .root -}}
serviceAccountName: {{ include "mcp-server.serviceAccountName" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
shareProcessNamespace: false
securityContext:
  {{- toYaml (.Values.podSecurityContext | default dict) | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $volumes := include "mcp-server.sidecarVolumes" . -}}
{{- if $server }}{{ $volumes = printf "%s%s" $volumes (include "mcp-server.serverVolumes" .) }}{{ end }}
{{- with trim $volumes }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- include "mcp-server.strings" . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "mcp-server.sidecarVolumes" -}}
{{- if not (include "mcp-server.configInPod" .) }}
- name: token-sidecar-config
  configMap:
    name: {{ printf "%s-sidecar" (include "mcp-server.fullname" .) | quote }}
{{- end }}
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
    secretName: {{ .secret | quote }}
  {{- else }}
  configMap:
    name: {{ .configMap | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mcp-server.serverVolumes" -}}
{{- if .Values.app.tools }}
# From the pod itself, not from a ConfigMap: pods of the last release keep their tools.
- name: tools
  downwardAPI:
    items:
      - path: tools.yaml
        fieldRef: {fieldPath: "metadata.annotations['mcp-server/tools']"}
{{- end }}
{{- range $number, $_ := .Values.app.scratch }}
- name: scratch-{{ $number }}
  emptyDir: {}
{{- end }}
{{- with .Values.app.volumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
