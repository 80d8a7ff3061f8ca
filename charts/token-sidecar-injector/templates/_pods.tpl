{{/* What all pods of this chart have in common: labels and annotations, nodes, hardening, and what pods that end (those of hooks) have besides. */}}

{{/*
Labels and annotations of the values beside the chart's own, as text, and never in their place: by those the webhook's pods are known. In: a dict of `root`; `labels` and
`annotations`, those of the chart. Out: YAML of `labels` and `annotations`.
*/}}
{{- define "injector.podMetadata" -}}
{{- $own := include "injector.labels" .root | fromYaml -}}
{{- $labels := dict -}}
{{- $annotations := dict -}}
{{- $values := .root.Values -}}
{{- range $value, $target := dict "podLabels" $labels "podAnnotations" $annotations -}}
{{- range $key, $said := index $values $value -}}
{{- if hasPrefix "azure.workload.identity/" $key -}}
{{- fail (printf "%s: %s would give the injector an identity, or a container that runs as root; it needs neither: leave it out" $value $key) -}}
{{- else if hasKey $own $key -}}
{{- fail (printf "%s: %s is set by this chart: by it the Service and the injector itself find its pods; leave it out" $value $key) -}}
{{- else if and (hasPrefix "token-sidecar.io/inject" $key) (ne (toString $said) "false") -}}
{{- fail (printf "%s: %s would have the injector wait for itself; leave it out" $value $key) -}}
{{- end -}}
{{- $_ := set $target $key (ternary $said (toJson $said) (kindIs "string" $said)) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "labels" (merge dict (.labels | default dict) $own $labels) "annotations" (merge dict (.annotations | default dict) $annotations)) -}}
{{- end -}}

{{/*
Of a pod that ends. Another name than the webhook's pods have: neither Service, disruption budget nor network policy of theirs mean it. Without a mesh's sidecar, which would never
end. In: a dict of `root`; `name`, what stands behind the chart's name; `annotations`.
*/}}
{{- define "injector.endingMetadata" -}}
{{- $labels := dict "app.kubernetes.io/name" (printf "token-sidecar-injector-%s" .name) "sidecar.istio.io/inject" "false" -}}
{{- $annotations := merge dict (.annotations | default dict) (dict "linkerd.io/inject" "disabled" "consul.hashicorp.com/connect-inject" "false") -}}
{{- include "injector.podMetadata" (dict "root" .root "labels" $labels "annotations" $annotations) -}}
{{- end -}}

{{/* The key `nodeSelector` of a pod, where there is one: Kubernetes wants text, whatever type YAML gave it. */}}
{{- define "injector.nodeSelector" -}}
{{- $selector := dict -}}
{{- range $key, $said := .Values.nodeSelector -}}
{{- $_ := set $selector $key (ternary $said (toJson $said) (kindIs "string" $said)) -}}
{{- end -}}
{{- with $selector -}}{{- toYaml (dict "nodeSelector" .) -}}{{- end -}}
{{- end -}}

{{/* Seconds after which what ends has failed. */}}
{{- define "injector.endingSeconds" -}}
{{- int64 ((.Values.hooks | default dict).activeDeadlineSeconds | default 240) -}}
{{- end -}}

{{/*
The spec of a pod that ends, but for its containers and volumes. The chart's own service account need not be there yet. Of the affinity what is said of nodes: the rest is of where the
webhook's pods are to one another, and might leave no node for this one.
*/}}
{{- define "injector.endingPod" -}}
{{- $account := ternary "default" (.Values.serviceAccount.name | default "default") .Values.serviceAccount.create -}}
serviceAccountName: {{ (.Values.hooks | default dict).serviceAccountName | default $account }}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- range $key := list "imagePullSecrets" "tolerations" "priorityClassName" }}
{{- with index $.Values $key }}
{{ toYaml (dict $key .) }}
{{- end }}
{{- end }}
{{- with include "injector.nodeSelector" . }}
{{ . }}
{{- end }}
{{- with (.Values.affinity | default dict).nodeAffinity }}
affinity:
  nodeAffinity:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{/* A container's hardening: as given, and this whatever was given. */}}
{{- define "injector.containerSecurity" -}}
{{- $security := deepCopy .Values.securityContext -}}
{{- range $key, $value := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "privileged" false "capabilities" (dict "drop" (list "ALL")) -}}
{{- $_ := set $security $key $value -}}
{{- end -}}
{{- toYaml $security -}}
{{- end -}}
