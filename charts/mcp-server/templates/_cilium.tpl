{{/* What a CiliumNetworkPolicy says otherwise than a NetworkPolicy: peers by labels, and what of networkPolicy.egress has no meaning there. */}}

{{/* The defaults of values.yaml, for which flavor=cilium has no use. A test keeps them equal. */}}
{{- define "mcp-server.egressDefaults" -}}
cidrs: ["0.0.0.0/0", "::/0"]
except: ["169.254.0.0/16", "168.63.129.16/32", "fe80::/10", "fd00:ec2::254/128"]
{{- end -}}

{{- define "mcp-server.checkCilium" -}}
{{- $egress := .Values.networkPolicy.egress -}}
{{- range $key, $default := include "mcp-server.egressDefaults" . | fromYaml -}}
{{- if ne (toJson (get $egress $key)) (toJson $default) -}}
{{- fail (printf "networkPolicy.egress.%s: with flavor=cilium hosts are let through by name, and this is not looked at; leave it out, and write addresses as rules with toCIDRSet in networkPolicy.egress.rules" $key) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.subjectToken.source "webhook") (include "mcp-server.defaultAuthority" .) -}}
{{- fail "azure.authorityHost: with networkPolicy.flavor=cilium hosts are let through by name, and that of the authority only AKS' webhook knows; say it here: https://login.microsoftonline.com, https://login.microsoftonline.us (US Government) or https://login.chinacloudapi.cn (China)" -}}
{{- end -}}
{{- if and .Values.subjectToken.identityBinding (not $egress.rules) -}}
{{- fail "networkPolicy.egress.rules: with flavor=cilium and subjectToken.identityBinding a rule must open the way to the cluster's token proxy, which AZURE_KUBERNETES_TOKEN_PROXY names in the pods" -}}
{{- end -}}
{{- end -}}

{{/* A peer of a NetworkPolicy as the beginning of a rule. In: the peer. */}}
{{- define "mcp-server.ciliumPeer" -}}
{{- if .ipBlock -}}
{{- toYaml (dict "toCIDRSet" (list .ipBlock)) -}}
{{- else -}}
{{- $labels := dict -}}
{{- $expressions := list -}}
{{- $selectors := dict "k8s:io.cilium.k8s.namespace.labels." (.namespaceSelector | default dict) "k8s:" (.podSelector | default dict) -}}
{{- range $prefix, $selector := $selectors -}}
{{- range $key, $value := $selector.matchLabels -}}
{{- $_ := set $labels (include "mcp-server.ciliumKey" (printf "%s%s" $prefix $key)) $value -}}
{{- end -}}
{{- range $selector.matchExpressions -}}
{{- $expressions = append $expressions (merge (dict "key" (include "mcp-server.ciliumKey" (printf "%s%s" $prefix .key))) (deepCopy .)) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey . "namespaceSelector") (not .namespaceSelector) -}}
{{- $expressions = append $expressions (dict "key" "k8s:io.kubernetes.pod.namespace" "operator" "Exists") -}}
{{- end -}}
{{- $endpoint := dict -}}
{{- with $labels -}}{{- $_ := set $endpoint "matchLabels" . -}}{{- end -}}
{{- with $expressions -}}{{- $_ := set $endpoint "matchExpressions" . -}}{{- end -}}
{{- toYaml (dict "toEndpoints" (list $endpoint)) -}}
{{- end -}}
{{- end -}}

{{/* Cilium has a label of its own for a namespace's name. */}}
{{- define "mcp-server.ciliumKey" -}}
{{- ternary "k8s:io.kubernetes.pod.namespace" . (eq . "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name") -}}
{{- end -}}

{{- define "mcp-server.ciliumPorts" -}}
toPorts:
  - ports:
      {{- range . }}
      - {port: {{ . | quote }}, protocol: TCP}
      {{- end }}
{{- end -}}
