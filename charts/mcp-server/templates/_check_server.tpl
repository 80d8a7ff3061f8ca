{{/* What is wrong with app.*: an image of one's own may have whatever a container may have, but nothing that leads to the sidecar's credentials. */}}

{{- define "mcp-server.checkServer" -}}
{{- $values := .Values -}}
{{- $port := include "mcp-server.appPort" . -}}
{{- if has $port (list (include "mcp-server.port" .) (include "mcp-server.adminPort" .) (include "mcp-server.inboundPort" .)) -}}
{{- fail (printf "app.port: %s is the sidecar's; choose another" $port) -}}
{{- end -}}
{{- $names := list -}}
{{- range $values.app.env -}}
{{- if has .name $names -}}{{- fail (printf "app.env: two entries are named %s; keep one" .name) -}}{{- end -}}
{{- $names = append $names .name -}}
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
{{- $secret := dig "valueFrom" "secretKeyRef" "name" "" . -}}
{{- include "mcp-server.checkSecret" (dict "root" $ "at" (printf "app.env[%s]" .name) "secret" $secret) -}}
{{- end -}}
{{- range $values.app.envFrom -}}
{{- include "mcp-server.checkSecret" (dict "root" $ "at" "app.envFrom" "secret" (dig "secretRef" "name" "" .)) -}}
{{- end -}}
{{- include "mcp-server.checkVolumes" . -}}
{{- end -}}

{{/* A Secret that the sidecar mounts is not for the server. In: a dict of `root`, `at` (who names it) and `secret` (its name, or nothing). */}}
{{- define "mcp-server.checkSecret" -}}
{{- range .root.Values.sidecar.mounts -}}
{{- if and $.secret (eq $.secret (.secret | default "")) -}}
{{- fail (printf "%s: the Secret %s is the sidecar's (sidecar.mounts); the server is to hold no credential" $.at $.secret) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mcp-server.checkVolumes" -}}
{{- $names := list -}}
{{- range .Values.app.volumes -}}
{{- $at := printf "app.volumes[%s]" .name -}}
{{- if has .name $names -}}{{- fail (printf "%s: the name is there twice" $at) -}}{{- end -}}
{{- $names = append $names .name -}}
{{- if regexMatch "^(tools|azure-identity-token|(scratch|token-sidecar|sidecar|azure-workload-identity)-.*)$" .name -}}
{{- fail (printf "%s: the name is one of this chart's or of AKS' webhook; choose another" $at) -}}
{{- end -}}
{{- if hasKey . "hostPath" -}}
{{- fail (printf "%s: a hostPath leads to the tokens of all pods of the node; use another kind of volume" $at) -}}
{{- end -}}
{{- range dig "projected" "sources" list . -}}
{{- if hasKey . "serviceAccountToken" -}}
{{- fail (printf "%s: a service-account token is for the sidecar alone; further ones of it are subjectToken.more" $at) -}}
{{- end -}}
{{- include "mcp-server.checkSecret" (dict "root" $ "at" $at "secret" (dig "secret" "name" "" .)) -}}
{{- end -}}
{{- include "mcp-server.checkSecret" (dict "root" $ "at" $at "secret" (dig "secret" "secretName" "" .)) -}}
{{- end -}}
{{- $paths := list -}}
{{- if .Values.app.tools -}}{{- $paths = append $paths "/etc/mcp-server" -}}{{- end -}}
{{- range .Values.app.scratch -}}
{{- $path := trimSuffix "/" . -}}
{{- if has $path $paths -}}{{- fail (printf "app.scratch: something else is mounted at %s" .) -}}{{- end -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- range .Values.app.volumeMounts -}}
{{- if not (has .name $names) -}}
{{- fail (printf "app.volumeMounts[%s]: app.volumes has no volume of that name; those of the sidecar and of AKS' webhook are not for the server" .name) -}}
{{- end -}}
{{- $path := trimSuffix "/" .mountPath -}}
{{- if has $path $paths -}}{{- fail (printf "app.volumeMounts[%s]: something else is mounted at %s" .name .mountPath) -}}{{- end -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- end -}}
