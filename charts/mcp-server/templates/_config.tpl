{{/* From values to the sidecar's configuration and the server's tools. What is wrong with the values beyond that is looked at in _check*.tpl. */}}

{{/* The listener that the server calls. Its port is the first; `upstreams` have their own. */}}
{{- define "mcp-server.port" -}}8080{{- end -}}
{{- define "mcp-server.adminPort" -}}9090{{- end -}}
{{- define "mcp-server.inboundPort" -}}3334{{- end -}}

{{/* The server's own. */}}
{{- define "mcp-server.appPort" -}}{{- int (.Values.app.port | default 3333) -}}{{- end -}}

{{/* Whether callers come through the sidecar. */}}
{{- define "mcp-server.inbound" -}}{{- with .Values.inbound -}}{{- if .issuers -}}true{{- end -}}{{- end -}}{{- end -}}

{{/* The port of the pod that callers come to. */}}
{{- define "mcp-server.callersPort" -}}
{{- if include "mcp-server.inbound" . -}}{{- include "mcp-server.inboundPort" . -}}{{- else -}}{{- include "mcp-server.appPort" . -}}{{- end -}}
{{- end -}}

{{/* The names by which callers in the cluster call, one a line. */}}
{{- define "mcp-server.hosts" -}}
{{- $name := include "mcp-server.fullname" . -}}
{{- concat (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace)) (.Values.app.allowedHosts | default list) | uniq | join "\n" -}}
{{- end -}}
{{- define "mcp-server.tokenDir" -}}/var/run/secrets/token-sidecar/tokens{{- end -}}

{{- define "mcp-server.native" -}}
{{- if .Values.sidecar.native -}}
{{- if semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "sidecar.native: Kubernetes %s has no native sidecars (they came with 1.29); set sidecar.native=false" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{/* entraClientAssertion for a scope, with what azure.* says. In: a dict of `scope` and `azure`. */}}
{{- define "mcp-server.entra" -}}
{{- $entra := dict "scope" .scope -}}
{{- range $key := list "tenantId" "clientId" "authorityHost" -}}
{{- with index $.azure $key -}}{{- $_ := set $entra $key . -}}{{- end -}}
{{- end -}}
{{- if regexMatch "^(common|consumers|organizations)$" (.azure.tenantId | default "") -}}
{{- fail (printf "azure.tenantId: `%s` names no tenant, and this grant needs one (AADSTS9001023); give the tenant's id or domain" .azure.tenantId) -}}
{{- end -}}
{{- toYaml (dict "entraClientAssertion" $entra) -}}
{{- end -}}

{{/* The credential of the first upstream. */}}
{{- define "mcp-server.credential" -}}
{{- if .Values.credential -}}
{{- if .Values.azure.scopes -}}
{{- fail "credential and azure.scopes: both say how the token for app.backendApiUrl is got; give one" -}}
{{- end -}}
{{- toYaml .Values.credential -}}
{{- else -}}
{{- if gt (len (.Values.azure.scopes | default list)) 1 -}}
{{- fail (printf "azure.scopes: %d scopes, but Entra issues a token for one resource; keep the one of app.backendApiUrl and give every further upstream an entry of `upstreams` with its own url, port and scope" (len .Values.azure.scopes)) -}}
{{- end -}}
{{- if not .Values.azure.scopes -}}
{{- fail "azure.scopes: a scope is needed, such as [https://management.azure.com/.default]; or say in `credential` how the token is got" -}}
{{- else -}}
{{- $scope := first .Values.azure.scopes -}}
{{- include "mcp-server.checkScope" (dict "name" "azure.scopes" "scope" $scope) -}}
{{- include "mcp-server.entra" (dict "scope" $scope "azure" .Values.azure) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The configuration file, as YAML. */}}
{{- define "mcp-server.config" -}}
{{- include "mcp-server.check" . -}}
{{- $credentials := dict -}}
{{- $routes := list -}}
{{- $port := include "mcp-server.port" . -}}
{{- with .Values.app.backendApiUrl -}}
{{- include "mcp-server.checkUrl" (dict "name" "app.backendApiUrl" "url" .) -}}
{{- if not (dig "credentials" "backend" false ($.Values.sidecar.config | default dict)) -}}
{{- $_ := set $credentials "backend" (include "mcp-server.credential" $ | fromYaml) -}}
{{- end -}}
{{- $routes = append $routes (dict "name" "backend" "upstream" . "credential" "backend") -}}
{{- end -}}
{{- $ports := list $port (include "mcp-server.adminPort" .) (include "mcp-server.inboundPort" .) (include "mcp-server.appPort" .) -}}
{{- range .Values.upstreams -}}
{{- $at := printf "upstreams[%s]" .name -}}
{{- include "mcp-server.checkUrl" (dict "name" (printf "%s.url" $at) "url" .url) -}}
{{- if eq .name "backend" -}}{{- fail "upstreams: the name `backend` is that of app.backendApiUrl; choose another" -}}{{- end -}}
{{- if hasKey $credentials .name -}}{{- fail (printf "upstreams: two entries are named `%s`" .name) -}}{{- end -}}
{{- if has (toString .port) $ports -}}{{- fail (printf "%s.port: %v is taken; each upstream has a port of its own (%s are in use)" $at .port (join ", " $ports)) -}}{{- end -}}
{{- $ports = append $ports (toString .port) -}}
{{- if and .scope .credential -}}{{- fail (printf "%s: give `scope` (Entra) or `credential`, not both" $at) -}}{{- end -}}
{{- if .credential -}}
{{- $_ := set $credentials .name .credential -}}
{{- else if .scope -}}
{{- include "mcp-server.checkScope" (dict "name" (printf "%s.scope" $at) "scope" .scope) -}}
{{- $_ := set $credentials .name (include "mcp-server.entra" (dict "scope" .scope "azure" $.Values.azure) | fromYaml) -}}
{{- else -}}
{{- fail (printf "%s: give the `scope` of its token, or say in `credential` how the token is got" $at) -}}
{{- end -}}
{{- $routes = append $routes (dict "name" .name "listen" (printf "127.0.0.1:%v" .port) "upstream" .url "credential" .name) -}}
{{- end -}}
{{- $config := dict "listen" (printf "127.0.0.1:%s" $port) "admin" (printf "[::]:%s" (include "mcp-server.adminPort" .)) "workers" (int (.Values.sidecar.workers | default 1)) "log" (dict "level" (.Values.sidecar.logLevel | default "info") "format" (.Values.sidecar.logFormat | default "json")) "shutdown" (include "mcp-server.shutdown" . | fromYaml) "credentials" $credentials "routes" $routes -}}
{{- with include "mcp-server.subjectTokens" . | fromYaml -}}{{- $_ := set $config "subjectTokens" . -}}{{- end -}}
{{- if include "mcp-server.inbound" . -}}
{{- $hosts := include "mcp-server.hosts" . | splitList "\n" -}}
{{- $inbound := dict "listen" (printf "[::]:%s" (include "mcp-server.inboundPort" .)) "upstream" (printf "http://127.0.0.1:%s" (include "mcp-server.appPort" .)) -}}
{{- if not (has "*" $hosts) -}}{{- $_ := set $inbound "allowedHosts" $hosts -}}{{- end -}}
{{- with .Values.app.allowedOrigins -}}{{- $_ := set $inbound "allowedOrigins" . -}}{{- end -}}
{{- /* The sidecar's own default, and paths of probes that are not in it. */ -}}
{{- $public := list "/health" "/healthz" "/livez" "/readyz" "/startupz" -}}
{{- $paths := concat $public (values .Values.app.probes | sortAlpha) | uniq -}}
{{- if ne (len $paths) (len $public) -}}{{- $_ := set $inbound "publicPaths" $paths -}}{{- end -}}
{{- $_ := set $config "inbound" (mergeOverwrite $inbound (deepCopy .Values.inbound)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy (.Values.sidecar.config | default dict))) -}}
{{- end -}}

{{/* Files of subject tokens that this chart mounts. Without an entry `pod` is what AKS' webhook says in AZURE_FEDERATED_TOKEN_FILE. */}}
{{- define "mcp-server.subjectTokens" -}}
{{- $dir := include "mcp-server.tokenDir" . -}}
{{- if eq .Values.subjectToken.source "projected" }}
pod: {file: {{ $dir }}/pod}
{{- end }}
{{- range .Values.subjectToken.more }}
{{- if eq .name "pod" }}{{ fail "subjectToken.more: `pod` is the first token's name; choose another" }}{{ end }}
{{ .name }}: {file: {{ $dir }}/{{ .name }}}
{{- end }}
{{- end -}}

{{/* A native sidecar is stopped after the server has ended. An ordinary container is stopped with it, and must go on serving its last requests. */}}
{{- define "mcp-server.shutdown" -}}
{{- $server := include "mcp-server.serverDeadline" . | int -}}
{{- if .Values.sidecar.native -}}
{delay: 0s, deadline: 5s}
{{- else -}}
{delay: {{ add 5 $server }}s, deadline: 2s}
{{- end -}}
{{- end -}}

{{/* Seconds that requests of the server may take after SIGTERM: what the grace period leaves after 5 s for the endpoints to follow and 10 s for the sidecar. */}}
{{- define "mcp-server.serverDeadline" -}}
{{- max 1 (sub (int .Values.terminationGracePeriodSeconds) 15) -}}
{{- end -}}

{{/*
Where the configuration stands. In the pod template it belongs to the pods: those of the last release keep theirs until they are replaced, and a rollback
brings it back. In a ConfigMap it belongs to the release: all pods take a change over by themselves.
*/}}
{{- define "mcp-server.configInPod" -}}
{{- if .Values.sidecar.restartOnConfigChange -}}
{{- /* Linux takes 128 KiB for one variable, its name included. */ -}}
{{- $size := include "mcp-server.config" . | len -}}
{{- if gt $size 131000 -}}
{{- fail (printf "sidecar.config: the configuration has %d bytes, and a variable of the pod's takes 131000; set sidecar.restartOnConfigChange=false, which mounts it from a ConfigMap" $size) -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{/* The file of the server's tools, or nothing. It stands in an annotation of the pods, for the reasons above, and is mounted from there. */}}
{{- define "mcp-server.tools" -}}
{{- with .Values.app.tools -}}
{{- $tools := toYaml . -}}
{{- if gt (len $tools) 240000 -}}
{{- fail (printf "app.tools: the file has %d bytes, and the pods' annotations take 240000; make two servers of it" (len $tools)) -}}
{{- end -}}
{{- $tools -}}
{{- end -}}
{{- end -}}
