{{/* Names, images, what every container is held to. No decisions in here: those are in _check.tpl and _config.tpl. */}}

{{- define "mcp-server.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The release's name when it holds the chart's, else both: `helm install mcp-server …` gives a Service `mcp-server`. At most 52 characters, so that what is
appended to it fits. Of the release's own name nothing is cut off without a hash in its place: two long names stay two.
*/}}
{{- define "mcp-server.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if gt (len .Release.Name) 52 -}}
{{- printf "%s-%s" (.Release.Name | trunc 43 | trimSuffix "-") (.Release.Name | sha256sum | trunc 8) -}}
{{- else if contains (include "mcp-server.name" .) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mcp-server.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The name that labels of the test's pod have: not that of the server's pods, so that the Service sends it no requests. */}}
{{- define "mcp-server.testName" -}}
{{- printf "%s-test" (include "mcp-server.name" . | trunc 58 | trimSuffix "-") -}}
{{- end -}}

{{- define "mcp-server.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mcp-server.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
The names of a Deployment's pods, as a regular expression: DEPLOYMENT-TEMPLATE'S HASH-RANDOM. The kubelet's limit of 63 characters cuts into the middle of
long ones, where the last hyphen may be lost.
*/}}
{{- define "mcp-server.podPattern" -}}
{{- $name := include "mcp-server.fullname" . -}}
{{- printf "%s-[a-z0-9]+%s[a-z0-9]{5}" $name (ternary "-?" "-" (gt (len $name) 46)) -}}
{{- end -}}

{{/* repository@digest, or repository:tag; the tag's default is the chart's appVersion. In: a dict of `image` and `chart`. */}}
{{- define "mcp-server.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* A container's securityContext as given, and what every container of this chart is held to whatever was given. */}}
{{- define "mcp-server.containerSecurity" -}}
{{- $security := deepCopy (. | default dict) -}}
{{- range $key, $value := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "privileged" false "capabilities" (dict "drop" (list "ALL")) -}}
{{- $_ := set $security $key $value -}}
{{- end -}}
{{- toYaml $security -}}
{{- end -}}
