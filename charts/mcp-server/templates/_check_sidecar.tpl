{{/* What is wrong with sidecar.* and upstreams' surroundings: what would part the configuration from the probes, ports and mounts that this chart makes. */}}

{{- define "mcp-server.checkSidecar" -}}
{{- $config := .Values.sidecar.config | default dict -}}
{{- if hasKey $config "admin" -}}
{{- fail "sidecar.config.admin: probes, monitors and policies of this chart ask for port 9090 of the pod; leave it out" -}}
{{- end -}}
{{- if hasKey $config "listen" -}}
{{- fail "sidecar.config.listen: the server is told http://127.0.0.1:8080; leave it out, and give further upstreams listeners of their own (`upstreams`)" -}}
{{- end -}}
{{- range $key := list "listen" "upstream" -}}
{{- if dig "inbound" $key false $config -}}
{{- fail (printf "sidecar.config.inbound.%s: this chart fills it in, together with the Service, the probes and the server's address; use the value `inbound`" $key) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $config "inbound") (not (include "mcp-server.inbound" .)) -}}
{{- fail "sidecar.config.inbound: Service, probes and the server's address follow the value `inbound`; put it there" -}}
{{- end -}}
{{- $taken := list (include "mcp-server.adminPort" .) (include "mcp-server.appPort" .) -}}
{{- if include "mcp-server.inbound" . -}}{{- $taken = append $taken (include "mcp-server.inboundPort" .) -}}{{- end -}}
{{- range $config.routes -}}
{{- with regexFind "[0-9]+$" (regexFind ":[0-9]+$" (toString (.listen | default ""))) -}}
{{- if has . $taken -}}
{{- fail (printf "sidecar.config.routes: port %s is taken in this pod (%s are); choose another for the route's `listen`" . (join ", " $taken)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.sidecar.env -}}
{{- if has .name $names -}}{{- fail (printf "sidecar.env: two entries are named %s; keep one" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- if hasPrefix "AZURE_" .name -}}
{{- fail (printf "sidecar.env: %s comes from AKS' webhook, and otherwise from the configuration: use azure.* and subjectToken.*" .name) -}}
{{- end -}}
{{- if and (hasPrefix "TOKEN_SIDECAR_" .name) (not (hasPrefix "TOKEN_SIDECAR_UPSTREAM_" .name)) -}}
{{- fail (printf "sidecar.env: %s would come before the configuration that this chart writes; use sidecar.* (sidecar.config for what has no value of its own)" .name) -}}
{{- end -}}
{{- if has (upper .name) (list "HTTPS_PROXY" "NO_PROXY") -}}
{{- fail (printf "sidecar.env: for %s use sidecar.httpsProxy and sidecar.noProxy, which the network policy follows" .name) -}}
{{- end -}}
{{- end -}}
{{- include "mcp-server.checkMounts" . -}}
{{- end -}}

{{- define "mcp-server.checkMounts" -}}
{{- $names := list -}}
{{- $paths := dict -}}
{{- range .Values.sidecar.mounts -}}
{{- $name := .name -}}
{{- $at := printf "sidecar.mounts[%s]" $name -}}
{{- if has $name $names -}}{{- fail (printf "%s: the name is there twice" $at) -}}{{- end -}}
{{- $names = append $names $name -}}
{{- if and .secret .configMap -}}{{- fail (printf "%s: it names a `secret` and a `configMap`; keep one, and make an entry of the other" $at) -}}{{- end -}}
{{- if not (or .secret .configMap) -}}{{- fail (printf "%s: name the `secret` or the `configMap` that is mounted" $at) -}}{{- end -}}
{{- if regexMatch "//|/\\.\\.?(/|$)|:" .path -}}{{- fail (printf "%s.path: `%s` is not a plain path, such as /etc/token-sidecar/%s" $at .path $name) -}}{{- end -}}
{{- $path := trimSuffix "/" .path -}}
{{- range list "/etc/token-sidecar/config" "/var/run/secrets" -}}
{{- if or (hasPrefix (printf "%s/" $path) (printf "%s/" .)) (hasPrefix (printf "%s/" .) (printf "%s/" $path)) -}}
{{- fail (printf "%s.path: `%s` would cover what is at %s, or be covered by it; choose another, such as /etc/token-sidecar/%s" $at $path . $name) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $paths $path -}}{{- fail (printf "%s.path: %s is that of %s, too" $at $path (get $paths $path)) -}}{{- end -}}
{{- $_ := set $paths $path $name -}}
{{- end -}}
{{- end -}}
