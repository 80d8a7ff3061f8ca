{{/* Names, labels, image, profiles, and what is wrong with the values. */}}

{{- define "injector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "injector.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "injector.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "injector.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "injector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "injector.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The name is fixed: by it the injector knows its own pods, whatever the release is called. */}}
{{- define "injector.selectorLabels" -}}
app.kubernetes.io/name: token-sidecar-injector
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "injector.labels" -}}
{{ include "injector.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: token-sidecar
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "injector.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion | toString) -}}
{{- end -}}
{{- end -}}

{{/* The profiles file: as given, with this chart's image where a profile names none. */}}
{{- define "injector.profiles" -}}
{{- if not .Values.profiles -}}
{{- fail "profiles: at least one is needed, such as {default: {token: {aks: {}}}}" -}}
{{- end -}}
{{- $profiles := dict -}}
{{- range $name, $profile := .Values.profiles -}}
{{- if not $profile -}}{{- fail (printf "profiles.%s: say where the token comes from, such as {token: {aks: {}}}" $name) -}}{{- end -}}
{{- $profile = deepCopy $profile -}}
{{- /* Not in values.yaml: who wants `projected` would have to null it, and `helm lint` lays values.yaml over the values once more and brings it back. */ -}}
{{- if and (eq $name "default") (not (hasKey $profile "token")) -}}{{- $_ := set $profile "token" (dict "aks" dict) -}}{{- end -}}
{{- $token := dict -}}
{{- range $source, $said := $profile.token -}}{{- if kindIs "map" $said -}}{{- $_ := set $token $source $said -}}{{- end -}}{{- end -}}
{{- if not $token -}}
{{- fail (printf "profiles.%s.token: say where the token comes from: {aks: {}} or {projected: {audience: …}}" $name) -}}
{{- end -}}
{{- $_ := set $profile "token" $token -}}
{{- if not (hasKey $profile "image") -}}{{- $_ := set $profile "image" (include "injector.image" $) -}}{{- end -}}
{{- /* An empty list says nothing. */ -}}
{{- if and (hasKey $profile "rewrite") (not $profile.rewrite) -}}{{- $_ := unset $profile "rewrite" -}}{{- end -}}
{{- $_ := set $profiles $name $profile -}}
{{- end -}}
{{- toYaml (dict "profiles" $profiles) -}}
{{- end -}}

{{- define "injector.secretName" -}}
{{- if eq .Values.certificate.source "secret" -}}
{{- required "certificate.secret.name is missing: the name of the Secret that holds tls.crt and tls.key" .Values.certificate.secret.name -}}
{{- else -}}
{{- include "injector.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* Of the CA and its key, with certificate.source=generated. No pod mounts it. */}}
{{- define "injector.authorityName" -}}
{{- include "injector.fullname" . }}-authority
{{- end -}}

{{/* Namespaces whose pods are never held up, whatever was given: the cluster's own must start without an injector. Out: a YAML list. */}}
{{- define "injector.excludedNamespaces" -}}
{{- concat .Values.webhook.excludedNamespaces (list "kube-system" .Release.Namespace) | uniq | toYaml -}}
{{- end -}}

{{- define "injector.names" -}}
{{- $name := include "injector.fullname" . -}}
{{- $ns := .Release.Namespace -}}
{{- printf "%s.%s.svc,%s.%s.svc.cluster.local,%s.%s,%s" $name $ns $name $ns $name $ns $name -}}
{{- end -}}
