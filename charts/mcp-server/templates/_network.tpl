{{/* Where the pod goes, and who comes: hosts and ports of the configuration's URLs, and arithmetic on address blocks. */}}

{{/* The URLs that the configuration makes the sidecar talk to, one a line; loopback ones left out. */}}
{{- define "mcp-server.urls" -}}
{{- $config := include "mcp-server.config" . | fromYaml | toJson -}}
{{- $urls := list -}}
{{- range regexFindAll "\"(upstream|authorityHost|issuer|[a-zA-Z]*([eE]ndpoint|Uri|Url))\":\"https?://[^\"/]+" $config -1 -}}
{{- $url := regexReplaceAll "^.*\":\"" . "" -}}
{{- if not (regexMatch "^https?://(localhost|127\\.|\\[::1\\])" $url) -}}{{- $urls = append $urls $url -}}{{- end -}}
{{- end -}}
{{- if include "mcp-server.defaultAuthority" . -}}{{- $urls = append $urls "https://login.microsoftonline.com" -}}{{- end -}}
{{- with .Values.sidecar.httpsProxy -}}{{- $urls = append $urls (regexReplaceAll "^(https?://)([^@/]*@)?([^/]*).*$" . "${1}${3}") -}}{{- end -}}
{{- $urls | uniq | sortAlpha | join "\n" -}}
{{- end -}}

{{/* Whether one of Entra's grants names no authority: it is then that of AKS' webhook, or the public cloud's. */}}
{{- define "mcp-server.defaultAuthority" -}}
{{- $config := include "mcp-server.config" . | fromYaml | toJson -}}
{{- if gt (len (regexFindAll "\"entra[A-Z][a-zA-Z]*\":\\{" $config -1)) (len (regexFindAll "\"authorityHost\":\"" $config -1)) -}}true{{- end -}}
{{- end -}}

{{/* The port of such a URL. */}}
{{- define "mcp-server.urlPort" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" .) | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}

{{/* Its host, in lower case. */}}
{{- define "mcp-server.urlHost" -}}
{{- regexReplaceAll "\\.?(:[0-9]+)?$" (regexReplaceAll "^https?://" . "") "" | lower -}}
{{- end -}}

{{/*
The namespace of a Service of this cluster, or nothing: NAME, NAME.NAMESPACE.svc, NAME.NAMESPACE.svc.cluster.local. What is in the cluster is known to policies
by namespace and labels; names and addresses of Services are not what they look at. In: a dict of `host` and `namespace`, the release's.
*/}}
{{- define "mcp-server.clusterNamespace" -}}
{{- if regexMatch "^[a-z0-9-]+$" .host -}}
{{- .namespace -}}
{{- else if regexMatch "^.+\\.[a-z0-9-]+\\.svc(\\.cluster\\.local)?$" .host -}}
{{- regexReplaceAll "^.+\\.([a-z0-9-]+)\\.svc(\\.cluster\\.local)?$" .host "${1}" -}}
{{- end -}}
{{- end -}}

{{/*
Where the URLs lead, as JSON: `outside`, ports by host; `inside`, ports by namespace of this cluster. networkPolicy.egress.ports are ports of each.
*/}}
{{- define "mcp-server.destinations" -}}
{{- $outside := dict -}}
{{- $inside := dict -}}
{{- $more := list -}}
{{- range .Values.networkPolicy.egress.ports -}}{{- $more = append $more (toString (int .)) -}}{{- end -}}
{{- range include "mcp-server.urls" . | splitList "\n" | compact -}}
{{- $host := include "mcp-server.urlHost" . -}}
{{- $ports := prepend $more (include "mcp-server.urlPort" .) -}}
{{- $namespace := include "mcp-server.clusterNamespace" (dict "host" $host "namespace" $.Release.Namespace) -}}
{{- $to := ternary $inside $outside (ne $namespace "") -}}
{{- $key := $namespace | default $host -}}
{{- $_ := set $to $key (concat (get $to $key | default list) $ports | uniq | sortAlpha) -}}
{{- end -}}
{{- dict "outside" $outside "inside" $inside | toJson -}}
{{- end -}}

{{/* The bits that a block of addresses fixes, as a text of 0 and 1: a block lies in another when its bits begin with those. In: a dict of `cidr` and `value`. */}}
{{- define "mcp-server.bits" -}}
{{- $address := regexReplaceAll "/.*$" .cidr "" -}}
{{- $length := regexReplaceAll "^.*/" .cidr "" -}}
{{- $bits := "" -}}
{{- if regexMatch "^([0-9]{1,3}\\.){3}[0-9]{1,3}/[0-9]{1,2}$" .cidr -}}
{{- range splitList "." $address -}}{{- $bits = printf "%s%08b" $bits (atoi .) -}}{{- end -}}
{{- else if and (regexMatch "^[0-9a-fA-F:]*:[0-9a-fA-F:]*/[0-9]{1,3}$" .cidr) (le (len (splitList "::" .cidr)) 2) -}}
{{- $halves := splitList "::" (lower $address) -}}
{{- $left := splitList ":" (first $halves) | compact -}}
{{- $right := splitList ":" (last $halves) | compact -}}
{{- if eq (len $halves) 1 -}}{{- $right = list -}}{{- end -}}
{{- $zeros := until (int (max 0 (sub (sub 8 (len $left)) (len $right)))) -}}
{{- $groups := $left -}}
{{- range $zeros -}}{{- $groups = append $groups "0" -}}{{- end -}}
{{- range concat $groups $right -}}
{{- range $digit := splitList "" (printf "%s%s" (repeat (int (max 0 (sub 4 (len .)))) "0") .) -}}{{- $bits = printf "%s%04b" $bits (int (index (dict "0" 0 "1" 1 "2" 2 "3" 3 "4" 4 "5" 5 "6" 6 "7" 7 "8" 8 "9" 9 "a" 10 "b" 11 "c" 12 "d" 13 "e" 14 "f" 15) $digit)) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (and (has (len $bits) (list 32 128)) (le (atoi $length) (len $bits))) -}}
{{- fail (printf "%s: `%s` is no block of addresses, such as 10.0.0.0/8 or 2001:db8::/32" .value .cidr) -}}
{{- end -}}
{{- substr 0 (atoi $length) $bits -}}
{{- end -}}

{{/*
What is left out of a block, one a line: of networkPolicy.egress.except, all that lies in it. Kubernetes refuses others. In: a dict of `cidr` and `except`.
*/}}
{{- define "mcp-server.exceptsOf" -}}
{{- $cidr := .cidr -}}
{{- $bits := include "mcp-server.bits" (dict "cidr" .cidr "value" "networkPolicy.egress.cidrs") -}}
{{- $in := list -}}
{{- range .except -}}
{{- $other := include "mcp-server.bits" (dict "cidr" . "value" "networkPolicy.egress.except") -}}
{{- if eq (contains ":" .) (contains ":" $cidr) -}}
{{- if hasPrefix $other $bits -}}
{{- fail (printf "networkPolicy.egress.cidrs: `%s` lies in `%s` of networkPolicy.egress.except, so that nothing of it would be open; take one of the two out" $cidr .) -}}
{{- end -}}
{{- if hasPrefix $bits $other -}}{{- $in = append $in . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- join "\n" $in -}}
{{- end -}}

{{/*
Whether the server's own metrics are scraped. They are on the port of the callers: not behind `inbound`, where the sidecar has it; nor where the policy lets
callers in by name, but not those who read metrics.
*/}}
{{- define "mcp-server.scraped" -}}
{{- if and .Values.app.metrics (not (include "mcp-server.inbound" .)) -}}
{{- $from := .Values.networkPolicy.ingress.from -}}
{{- $kept := list -}}
{{- if and .Values.networkPolicy.enabled $from -}}
{{- $peers := list -}}
{{- range $from -}}{{- $peers = append $peers (toJson .) -}}{{- end -}}
{{- range .Values.networkPolicy.ingress.metricsFrom -}}{{- if not (has (toJson .) $peers) -}}{{- $kept = append $kept . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if not $kept -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pods that the policies are for: the server's and the test's. */}}
{{- define "mcp-server.policySelector" -}}
matchLabels:
  app.kubernetes.io/instance: {{ .Release.Name | quote }}
matchExpressions:
  - key: app.kubernetes.io/name
    operator: In
    values: [{{ include "mcp-server.name" . | quote }}, {{ include "mcp-server.testName" . | quote }}]
{{- end -}}
