{{/* Labels and annotations: the chart's own, and beside them those of the values, which never take the place of the chart's. */}}

{{/* A map with its values as text, as YAML: what Kubernetes wants of labels and annotations. 1 becomes "1", true "true". */}}
{{- define "mcp-server.strings" -}}
{{- $strings := dict -}}
{{- range $key, $value := . -}}
{{- $_ := set $strings $key (ternary $value (toJson $value) (kindIs "string" $value)) -}}
{{- end -}}
{{- toYaml $strings -}}
{{- end -}}

{{- define "mcp-server.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mcp-server.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "mcp-server.ownLabels" -}}
{{ include "mcp-server.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: token-sidecar
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end -}}

{{/* The labels of an object. */}}
{{- define "mcp-server.labels" -}}
{{- include "mcp-server.labelsAnd" (dict "root" .) -}}
{{- end -}}

{{/* The same and more. In: a dict of `root`; `own`: further ones of the chart; `more`: those of a value, and `value`: its name. */}}
{{- define "mcp-server.labelsAnd" -}}
{{- $own := merge dict (.own | default dict) (include "mcp-server.ownLabels" .root | fromYaml) -}}
{{- $more := .more | default dict -}}
{{- $common := .root.Values.commonLabels | default dict -}}
{{- include "mcp-server.refuseKeys" (dict "value" .value "keys" $more "own" $own) -}}
{{- include "mcp-server.refuseKeys" (dict "value" "commonLabels" "keys" $common "own" $own) -}}
{{- include "mcp-server.strings" (merge $own (deepCopy $more) (deepCopy $common)) -}}
{{- end -}}

{{/* Labels of the server's pods. */}}
{{- define "mcp-server.podLabels" -}}
{{- include "mcp-server.labelsAnd" (dict "root" . "own" (include "mcp-server.azureLabels" . | fromYaml) "more" .Values.podLabels "value" "podLabels") -}}
{{- end -}}

{{/* Labels of the test's pod: found by the same NetworkPolicy, not by the Service; without a mesh's sidecar, which would never end. */}}
{{- define "mcp-server.testLabels" -}}
{{- $own := dict "app.kubernetes.io/name" (include "mcp-server.testName" .) -}}
{{- $more := deepCopy (.Values.podLabels | default dict) -}}
{{- $_ := set $more "sidecar.istio.io/inject" "false" -}}
{{- include "mcp-server.labelsAnd" (dict "root" . "own" (merge $own (include "mcp-server.azureLabels" . | fromYaml)) "more" $more "value" "podLabels") -}}
{{- end -}}

{{/* Annotations of the server's pods. */}}
{{- define "mcp-server.podAnnotations" -}}
{{- $own := include "mcp-server.ownAnnotations" . | fromYaml -}}
{{- $more := .Values.podAnnotations | default dict -}}
{{- include "mcp-server.refuseKeys" (dict "value" "podAnnotations" "keys" $more "own" $own) -}}
{{- include "mcp-server.strings" (merge $own (deepCopy $more) (dict "kubectl.kubernetes.io/default-container" "mcp-server")) -}}
{{- end -}}

{{/* Annotations of the test's pod. */}}
{{- define "mcp-server.testAnnotations" -}}
{{- /* It stays, for `kubectl logs`, until the next try: Helm 3 asks for the log after it has deleted what `hook-succeeded` names. */ -}}
{{- $own := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" "linkerd.io/inject" "disabled" "consul.hashicorp.com/connect-inject" "false" -}}
{{- include "mcp-server.strings" (merge $own (include "mcp-server.ownAnnotations" . | fromYaml) (deepCopy (.Values.podAnnotations | default dict))) -}}
{{- end -}}

{{- define "mcp-server.ownAnnotations" -}}
{{- $own := include "mcp-server.azureAnnotations" . | fromYaml -}}
{{- with include "mcp-server.tools" . -}}{{- $_ := set $own "mcp-server/tools" . -}}{{- end -}}
{{- toYaml $own -}}
{{- end -}}

{{/* Annotations and labels that make AKS' webhook serve the pod, and the sidecar alone. In the webhook's list names are parted by semicolons. */}}
{{- define "mcp-server.azureAnnotations" -}}
{{- if eq .Values.subjectToken.source "webhook" -}}
azure.workload.identity/skip-containers: mcp-server
azure.workload.identity/service-account-token-expiration: {{ int (.Values.subjectToken.expirationSeconds | default 3600) | quote }}
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

{{/*
Refuses keys that are the chart's: they decide who gets the token, and which pods Service, policies and monitors mean. In: a dict of `value`, the value's
name; `keys`, its map; `own`, the chart's.
*/}}
{{- define "mcp-server.refuseKeys" -}}
{{- $value := .value -}}
{{- $own := .own -}}
{{- $azure := dict "use" "subjectToken.source says whether AKS' webhook serves the pod" "skip-containers" "the chart names every container but the sidecar in it" "service-account-token-expiration" "use subjectToken.expirationSeconds" "use-identity-binding" "use subjectToken.identityBinding" "inject-proxy-sidecar" "AKS would add a container that runs as root with NET_ADMIN; leave it out, the sidecar needs none" "proxy-sidecar-port" "leave it out, the sidecar needs no such proxy" -}}
{{- range $key, $said := .keys -}}
{{- if hasPrefix "azure.workload.identity/" $key -}}
{{- fail (printf "%s: %s is for this chart to set, since it decides who gets the token: %s" $value $key (get $azure (trimPrefix "azure.workload.identity/" $key) | default "see azure.* and subjectToken.*")) -}}
{{- else if eq $key "app.kubernetes.io/name" -}}
{{- fail (printf "%s: %s is what Service, policies and monitors find the pods by; nameOverride sets it" $value $key) -}}
{{- else if eq $key "app.kubernetes.io/instance" -}}
{{- fail (printf "%s: %s is what Service, policies and monitors find the pods by; it is the release's name, leave it out" $value $key) -}}
{{- else if and (hasPrefix "token-sidecar.io/inject" $key) (ne (toString $said) "false") -}}
{{- fail (printf "%s: %s would put a second sidecar into the pod, which has one; leave it out" $value $key) -}}
{{- else if and (hasKey $own $key) (ne (get $own $key) (toString $said)) -}}
{{- fail (printf "%s: %s is set by this chart; leave it out" $value $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
