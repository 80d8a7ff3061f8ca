{{/* From values to the sidecar's configuration file, and what is wrong with the values. Every refusal names the value and the mend. */}}

{{/* The listener that the server calls. Its port is the first; `upstreams` have their own. */}}
{{- define "mcp-server.port" -}}8080{{- end -}}
{{- define "mcp-server.adminPort" -}}9090{{- end -}}
{{- define "mcp-server.inboundPort" -}}3334{{- end -}}

{{/* Whether callers come through the sidecar. */}}
{{- define "mcp-server.inbound" -}}{{- if .Values.inbound.issuers -}}true{{- end -}}{{- end -}}

{{/* The port of the pod that callers come to. */}}
{{- define "mcp-server.callersPort" -}}
{{- if include "mcp-server.inbound" . -}}{{- include "mcp-server.inboundPort" . -}}{{- else -}}3333{{- end -}}
{{- end -}}

{{/* The names by which callers in the cluster call, one a line. */}}
{{- define "mcp-server.hosts" -}}
{{- $name := include "mcp-server.fullname" . -}}
{{- concat (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace)) .Values.app.allowedHosts | uniq | join "\n" -}}
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

{{- define "mcp-server.checkUrl" -}}
{{- if not (regexMatch "^(https://|http://(localhost|127\\.[0-9.]+|\\[::1\\])([:/]|$))" .url) -}}
{{- fail (printf "%s: `%s` must be an https URL; a token is never sent over plain http, but to a loopback address (a route with allowInsecureHttp is for sidecar.config)" .name .url) -}}
{{- end -}}
{{- end -}}

{{- define "mcp-server.checkScope" -}}
{{- if contains " " .scope -}}
{{- fail (printf "%s: `%s` holds several scopes; Entra issues a token for one resource: give its /.default scope, and every further upstream an entry of `upstreams`" .name .scope) -}}
{{- end -}}
{{- if not (hasSuffix "/.default" .scope) -}}
{{- fail (printf "%s: `%s` must end in /.default, such as https://management.azure.com/.default (api://<application id>/.default for an API of your own)" .name .scope) -}}
{{- end -}}
{{- end -}}

{{/* entraClientAssertion for a scope, with what azure.* says. In: a dict of `scope` and `azure`. */}}
{{- define "mcp-server.entra" -}}
{{- $entra := dict "scope" .scope -}}
{{- range $key := list "tenantId" "clientId" "authorityHost" -}}
{{- with index $.azure $key -}}{{- $_ := set $entra $key . -}}{{- end -}}
{{- end -}}
{{- if regexMatch "^(common|consumers|organizations)$" .azure.tenantId -}}
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
{{- if gt (len .Values.azure.scopes) 1 -}}
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

{{/* What is wrong beyond the names and types that values.schema.json looks at. */}}
{{- define "mcp-server.check" -}}
{{- $values := .Values -}}
{{- if and (not $values.app.backendApiUrl) (not (hasKey $values.sidecar.config "routes")) -}}
{{- fail "app.backendApiUrl: the URL that the tools' requests go to is needed, such as https://api.example.com" -}}
{{- end -}}
{{- if and $values.inbound (not $values.inbound.issuers) -}}
{{- fail "inbound.issuers: whose tokens are accepted must be said, such as [{issuer: https://login.microsoftonline.com/TENANT/v2.0}]" -}}
{{- end -}}
{{- if and $values.inbound (not $values.inbound.resource) -}}
{{- fail "inbound.resource: the server's URL as its callers know it is needed, such as https://mcp.example.com/mcp" -}}
{{- end -}}
{{- if and $values.inbound (has "*" $values.app.allowedHosts) -}}
{{- fail "app.allowedHosts: `*` is not for a server with `inbound`; name the hosts by which callers come" -}}
{{- end -}}
{{- if include "mcp-server.inbound" . -}}
{{- range $name, $path := $values.app.probes -}}
{{- if not $path -}}
{{- fail (printf "app.probes.%s: with `inbound` the server is asked through the sidecar, by a path; give one that it answers without a token" $name) -}}
{{- end -}}
{{- if and (hasKey $values.inbound "publicPaths") (not (has $path $values.inbound.publicPaths)) -}}
{{- fail (printf "inbound.publicPaths: `%s` (app.probes.%s) is not among them, so the kubelet would be asked for a token; add it" $path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring: podMonitor and serviceMonitor are both enabled, so every series would be there twice; enable one" -}}
{{- end -}}
{{- if and (eq $values.subjectToken.source "webhook") (ne $values.subjectToken.audience "api://AzureADTokenExchange") -}}
{{- fail (printf "subjectToken.audience: with source=webhook the audience is always api://AzureADTokenExchange; for `%s` set subjectToken.source=projected" $values.subjectToken.audience) -}}
{{- end -}}
{{- if and (eq $values.subjectToken.source "webhook") (not $values.azure.clientId) $values.serviceAccount.create (not (hasKey $values.serviceAccount.annotations "azure.workload.identity/client-id")) -}}
{{- fail "azure.clientId: AKS' webhook needs the identity's client id (`az identity show … --query clientId`); away from Azure set subjectToken.source=projected" -}}
{{- end -}}
{{- if and $values.subjectToken.identityBinding (ne $values.subjectToken.source "webhook") -}}
{{- fail "subjectToken.identityBinding: AKS' webhook sets up identity bindings; it needs subjectToken.source=webhook" -}}
{{- end -}}
{{- if and (eq (toString $values.securityContext.runAsUser) (toString $values.sidecarSecurityContext.runAsUser)) $values.securityContext.runAsUser -}}
{{- fail (printf "securityContext.runAsUser and sidecarSecurityContext.runAsUser are both %v: the server could then read the sidecar's memory; give them different users" $values.securityContext.runAsUser) -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling: minReplicas (%d) is more than maxReplicas (%d)" (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- range $values.app.env -}}
{{- if has .name (list "BACKEND_API_URL" "BACKEND_API_TIMEOUT" "READINESS_CHECK_BACKEND" "LOG_LEVEL" "PORT" "TOOLS_FILE" "ALLOWED_HOSTS" "ALLOWED_ORIGINS" "SHUTDOWN_DELAY" "SHUTDOWN_DEADLINE") -}}
{{- fail (printf "app.env: %s is set by this chart; use the value that stands for it (app.*)" .name) -}}
{{- end -}}
{{- if and (has .name (list "FORWARD_CALLER" "CALLER_HEADER")) $values.inbound -}}
{{- fail (printf "app.env: %s is set by this chart where `inbound` is; use inbound.handleHeader" .name) -}}
{{- end -}}
{{- if and (eq .name "HOST") $values.inbound -}}
{{- fail "app.env: with `inbound` the server listens on loopback alone, so that nobody gets around the sidecar; leave HOST out" -}}
{{- end -}}
{{- if hasPrefix "AZURE_" .name -}}
{{- fail (printf "app.env: %s would make the server a holder of the identity; what the sidecar is to know is in azure.*" .name) -}}
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
{{- if not (dig "credentials" "backend" false $.Values.sidecar.config) -}}
{{- $_ := set $credentials "backend" (include "mcp-server.credential" $ | fromYaml) -}}
{{- end -}}
{{- $routes = append $routes (dict "name" "backend" "upstream" . "credential" "backend") -}}
{{- end -}}
{{- $ports := list $port (include "mcp-server.adminPort" .) (include "mcp-server.inboundPort" .) "3333" -}}
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
{{- $config := dict "listen" (printf "127.0.0.1:%s" $port) "admin" (printf "[::]:%s" (include "mcp-server.adminPort" .)) "workers" (int .Values.sidecar.workers) "log" (dict "level" .Values.sidecar.logLevel "format" .Values.sidecar.logFormat) "shutdown" (include "mcp-server.shutdown" . | fromYaml) "credentials" $credentials "routes" $routes -}}
{{- with include "mcp-server.subjectTokens" . | fromYaml -}}{{- $_ := set $config "subjectTokens" . -}}{{- end -}}
{{- if include "mcp-server.inbound" . -}}
{{- $hosts := include "mcp-server.hosts" . | splitList "\n" -}}
{{- $inbound := dict "listen" (printf "[::]:%s" (include "mcp-server.inboundPort" .)) "upstream" "http://127.0.0.1:3333" -}}
{{- if not (has "*" $hosts) -}}{{- $_ := set $inbound "allowedHosts" $hosts -}}{{- end -}}
{{- with .Values.app.allowedOrigins -}}{{- $_ := set $inbound "allowedOrigins" . -}}{{- end -}}
{{- /* The sidecar's own default, and paths of probes that are not in it. */ -}}
{{- $public := list "/health" "/healthz" "/livez" "/readyz" "/startupz" -}}
{{- $paths := concat $public (values .Values.app.probes | sortAlpha) | uniq -}}
{{- if ne (len $paths) (len $public) -}}{{- $_ := set $inbound "publicPaths" $paths -}}{{- end -}}
{{- $_ := set $config "inbound" (mergeOverwrite $inbound (deepCopy .Values.inbound)) -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.sidecar.config)) -}}
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

{{/* The URLs that the configuration makes the sidecar talk to, one a line; loopback ones left out. */}}
{{- define "mcp-server.urls" -}}
{{- $config := include "mcp-server.config" . | fromYaml -}}
{{- $urls := list -}}
{{- $found := regexFindAll "\"(upstream|authorityHost|issuer|[a-zA-Z]*(Endpoint|Uri|Url))\":\"https?://[^\"/]+" (toJson $config) -1 -}}
{{- range $found -}}
{{- $url := regexReplaceAll "^.*\":\"" . "" -}}
{{- if not (regexMatch "^https?://(localhost|127\\.|\\[::1\\])" $url) -}}{{- $urls = append $urls $url -}}{{- end -}}
{{- end -}}
{{- if contains "entraClientAssertion" (toJson $config) -}}{{- $urls = append $urls (.Values.azure.authorityHost | default "https://login.microsoftonline.com" | trimSuffix "/") -}}{{- end -}}
{{- with .Values.sidecar.httpsProxy -}}{{- $urls = append $urls (trimSuffix "/" .) -}}{{- end -}}
{{- $urls | uniq | sortAlpha | join "\n" -}}
{{- end -}}

{{/* The port of such a URL. */}}
{{- define "mcp-server.urlPort" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}
