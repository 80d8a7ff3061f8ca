{{/* What is wrong with the values beyond the names and types that values.schema.json looks at. Every refusal names the value and the mend. */}}

{{- define "mcp-server.check" -}}
{{- $values := .Values -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "mcp-server.fullname" .)) -}}
{{- fail (printf "fullnameOverride: `%s` is no name for a Service: lower-case letters, digits and hyphens, with a letter first; set fullnameOverride" (include "mcp-server.fullname" .)) -}}
{{- end -}}
{{- if and (not $values.app.backendApiUrl) (not (hasKey ($values.sidecar.config | default dict) "routes")) -}}
{{- fail "app.backendApiUrl: the URL that the tools' requests go to is needed, such as https://api.example.com" -}}
{{- end -}}
{{- with $values.azure.authorityHost -}}
{{- include "mcp-server.checkUrl" (dict "name" "azure.authorityHost" "url" . "such" "https://login.microsoftonline.com") -}}
{{- if not (regexMatch "^https?://[^/]+/?$" .) -}}
{{- fail (printf "azure.authorityHost: `%s` has a path; give scheme and host alone: the tenant is azure.tenantId" .) -}}
{{- end -}}
{{- end -}}
{{- if and $values.monitoring.podMonitor.enabled $values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring: podMonitor and serviceMonitor are both enabled, so every series would be there twice; enable one" -}}
{{- end -}}
{{- if and (eq $values.subjectToken.source "webhook") (ne ($values.subjectToken.audience | default "api://AzureADTokenExchange") "api://AzureADTokenExchange") -}}
{{- fail (printf "subjectToken.audience: with source=webhook the audience is always api://AzureADTokenExchange; for `%s` set subjectToken.source=projected" $values.subjectToken.audience) -}}
{{- end -}}
{{- if and (eq $values.subjectToken.source "webhook") (not $values.azure.clientId) $values.serviceAccount.create (not (hasKey ($values.serviceAccount.annotations | default dict) "azure.workload.identity/client-id")) -}}
{{- fail "azure.clientId: AKS' webhook needs the identity's client id (`az identity show … --query clientId`); away from Azure set subjectToken.source=projected" -}}
{{- end -}}
{{- if and $values.subjectToken.identityBinding (ne $values.subjectToken.source "webhook") -}}
{{- fail "subjectToken.identityBinding: AKS' webhook sets up identity bindings; it needs subjectToken.source=webhook" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling: minReplicas (%d) is more than maxReplicas (%d)" (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and $values.service.loadBalancerSourceRanges (ne $values.service.type "LoadBalancer") -}}
{{- fail (printf "service.loadBalancerSourceRanges: only for service.type=LoadBalancer; it is %s, where networkPolicy.ingress.from says who may call" $values.service.type) -}}
{{- end -}}
{{- include "mcp-server.checkUsers" . -}}
{{- include "mcp-server.checkInbound" . -}}
{{- include "mcp-server.checkServer" . -}}
{{- include "mcp-server.checkSidecar" . -}}
{{- end -}}

{{/*
A URL to which a token goes. In: a dict of `name`, the value's; `url`; `such`, an example. The URL is not repeated before it is known to hold no password.
*/}}
{{- define "mcp-server.checkUrl" -}}
{{- $such := .such | default "https://api.example.com" -}}
{{- $authority := regexReplaceAll "^https?://([^/?#]*).*$" .url "${1}" -}}
{{- if contains "@" $authority -}}
{{- fail (printf "%s: it carries a user name or password; remove what stands before the `@`: the sidecar's token takes its place" .name) -}}
{{- end -}}
{{- if not (regexMatch "^(https://|http://(localhost|127\\.[0-9.]+|\\[::1\\])([:/]|$))" .url) -}}
{{- fail (printf "%s: `%s` must be an https URL, such as %s; a token is never sent over plain http, but to a loopback address (a route with allowInsecureHttp is for sidecar.config)" .name .url $such) -}}
{{- end -}}
{{- if not (regexMatch "^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\\.?(:[0-9]+)?$|^\\[[0-9A-Fa-f:.]+\\](:[0-9]+)?$" $authority) -}}
{{- fail (printf "%s: `%s` names no host; write one such as %s" .name .url $such) -}}
{{- end -}}
{{- with regexFind ":[0-9]+$" (regexReplaceAll "^\\[.*\\]" $authority "") -}}
{{- $port := trimPrefix ":" . -}}
{{- if or (gt (len $port) 5) (lt (atoi $port) 1) (gt (atoi $port) 65535) -}}
{{- fail (printf "%s: `%s` is no port; they go from 1 to 65535" $.name $port) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "[?#\\s]" .url -}}
{{- fail (printf "%s: `%s` has a query, a fragment or a space; a base URL has none" .name .url) -}}
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

{{/*
Server and sidecar must be different users: a user may read the memory and the files of its own processes. Where neither container nor pod names one, it is
that of the image, which is 65532 in both of ours.
*/}}
{{- define "mcp-server.checkUsers" -}}
{{- $pod := (.Values.podSecurityContext | default dict).runAsUser -}}
{{- $server := (.Values.securityContext | default dict).runAsUser -}}
{{- $sidecar := (.Values.sidecarSecurityContext | default dict).runAsUser -}}
{{- $own := "65532" -}}
{{- $server = ternary $pod $server (kindIs "invalid" $server) -}}
{{- $server = ternary $own (toString (int64 $server)) (kindIs "invalid" $server) -}}
{{- $sidecar = ternary $pod $sidecar (kindIs "invalid" $sidecar) -}}
{{- $sidecar = ternary $own (toString (int64 $sidecar)) (kindIs "invalid" $sidecar) -}}
{{- if eq $server $sidecar -}}
{{- fail (printf "securityContext.runAsUser and sidecarSecurityContext.runAsUser: server and sidecar would both run as %s, and the server could read the sidecar's memory; give them different users. On OpenShift two of the namespace's range: kubectl get namespace %s --output jsonpath='{.metadata.annotations.openshift\\.io/sa\\.scc\\.uid-range}'" $server .Release.Namespace) -}}
{{- end -}}
{{- end -}}

{{- define "mcp-server.checkInbound" -}}
{{- $values := .Values -}}
{{- with $values.inbound -}}
{{- if not .issuers -}}
{{- fail "inbound.issuers: whose tokens are accepted must be said, such as [{issuer: https://login.microsoftonline.com/TENANT/v2.0}]" -}}
{{- end -}}
{{- if not .resource -}}
{{- fail "inbound.resource: the server's URL as its callers know it is needed, such as https://mcp.example.com/mcp" -}}
{{- end -}}
{{- range $key := list "listen" "upstream" -}}
{{- if hasKey $values.inbound $key -}}
{{- fail (printf "inbound.%s: this chart fills it in, together with the Service, the probes and the server's address; leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- if has "*" ($values.app.allowedHosts | default list) -}}
{{- fail "app.allowedHosts: `*` is not for a server with `inbound`; name the hosts by which callers come" -}}
{{- end -}}
{{- range $name, $path := $values.app.probes -}}
{{- if not $path -}}
{{- fail (printf "app.probes.%s: with `inbound` the server is asked through the sidecar, by a path; give one that it answers without a token" $name) -}}
{{- end -}}
{{- if and (hasKey $values.inbound "publicPaths") (not (has $path $values.inbound.publicPaths)) -}}
{{- fail (printf "inbound.publicPaths: `%s` (app.probes.%s) is not among them, so the kubelet would be asked for a token; add it" $path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
