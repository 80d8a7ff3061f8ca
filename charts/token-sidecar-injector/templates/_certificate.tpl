{{/*
The CA and the serving certificate of certificate.source=generated: kept, renewed and replaced so that at no moment a certificate is served that the bundle does not vouch for. Pods serve the
certificate before for up to a minute after an upgrade or a rollback, so each state must go together with the one before and the one after:

- The certificate is renewed by the same CA, once it is rotateAfterDays old.
- A CA is good for three times validityDays. In its last two thirds there is a next one, which is in the bundle and signs nothing yet. In the last third, in which a certificate would outlive it, the
  next one takes its place, if it has been in the bundle for a day; the CA before then stays in the bundle until an upgrade finds a certificate of its successor that is a day old.

The CA's key is in a Secret of its own, which no pod mounts.
*/}}

{{/* A new CA. In: a dict of `root` and `now`. Out: YAML of `crt`, `key` (PEM), `made` and `until` (seconds since the epoch). */}}
{{- define "injector.newAuthority" -}}
{{- $days := mul 3 (int64 .root.Values.certificate.validityDays) -}}
{{- $ca := genCAWithKey (printf "%s-ca" (include "injector.fullname" .root)) (int $days) (genPrivateKey "ecdsa") -}}
{{- toYaml (dict "crt" $ca.Cert "key" $ca.Key "made" (toString .now) "until" (toString (add .now (mul $days 86400)))) -}}
{{- end -}}

{{/* What is there, as Helm sees it. In: a dict of `root`, and `name`, the Secret's. Out: YAML of `data`, decoded, and `notes`, its annotations of ours. */}}
{{- define "injector.secretThere" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace .name | default dict -}}
{{- $data := dict -}}
{{- range $key, $value := $secret.data }}{{- $_ := set $data $key (b64dec $value) -}}{{- end -}}
{{- $notes := dict -}}
{{- range $key, $value := dig "metadata" "annotations" dict $secret }}
{{- if hasPrefix "token-sidecar.io/" $key }}{{- $_ := set $notes (trimPrefix "token-sidecar.io/" $key) $value -}}{{- end -}}
{{- end -}}
{{- toYaml (dict "data" $data "notes" $notes) -}}
{{- end -}}

{{/*
Refuses to make a CA where Helm knows the cluster's kinds and still sees nothing of it: Argo CD, and dry runs on the client's side. Each rendering would have another. `helm template` by hand knows
no cluster at all, and is for looking.
*/}}
{{- define "injector.refuseBlind" -}}
{{- if and (.Capabilities.APIVersions.Has "v1/Pod") (not .Values.certificate.withoutLookup) (not (lookup "v1" "Namespace" "" "kube-system")) -}}
{{- fail "certificate.source=generated: Helm does not see what is in the cluster here (Argo CD, a dry run without --dry-run=server), so that every rendering would make another CA; set certificate.source=certManager or secret, or, if this is a dry run alone, certificate.withoutLookup=true" -}}
{{- end -}}
{{- end -}}

{{/* Out: YAML of `authority` and `serving`, each with `data` (PEM) and `notes`, and of `bundle`. Random: to be asked once in a rendering. */}}
{{- define "injector.generated" -}}
{{- $certificate := .Values.certificate -}}
{{- $now := now | unixEpoch | int64 -}}
{{- $life := mul (int64 $certificate.validityDays) 86400 -}}
{{- $name := include "injector.fullname" . -}}
{{- $names := include "injector.names" . -}}
{{- $there := include "injector.secretThere" (dict "root" . "name" (include "injector.authorityName" .)) | fromYaml -}}
{{- $served := include "injector.secretThere" (dict "root" . "name" (include "injector.secretName" .)) | fromYaml -}}
{{- $current := dict -}}{{- $next := dict -}}{{- $previous := get $there.data "previous.crt" -}}
{{- /* One that has ended, or has lost its annotations, is none. */ -}}
{{- if and (get $there.data "ca.crt") (get $there.data "ca.key") (gt (get $there.notes "until" | default "0" | int64) (add $now 86400)) -}}
{{- $current = dict "crt" (get $there.data "ca.crt") "key" (get $there.data "ca.key") "made" (get $there.notes "made-at") "until" (get $there.notes "until") -}}
{{- end -}}
{{- if and (get $there.data "next.crt") (get $there.data "next.key") -}}
{{- $next = dict "crt" (get $there.data "next.crt") "key" (get $there.data "next.key") "made" (get $there.notes "next-made-at") "until" (get $there.notes "next-until") -}}
{{- end -}}
{{- if not $current -}}
{{- include "injector.refuseBlind" . -}}
{{- $current = include "injector.newAuthority" (dict "root" . "now" $now) | fromYaml -}}
{{- /* Of a certificate that is there without its CA's key: whoever signed it stays in the bundle. */ -}}
{{- $previous = regexFind "(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?" (get $served.data "ca.crt") -}}
{{- else -}}
{{- $left := sub (int64 $current.until) $now -}}
{{- if and $next (lt $left $life) (ge (sub $now (int64 $next.made)) 86400) -}}
{{- $previous = $current.crt -}}{{- $current = $next -}}{{- $next = dict -}}
{{- else if and (not $next) (lt $left (mul 2 $life)) -}}
{{- $next = include "injector.newAuthority" (dict "root" . "now" $now) | fromYaml -}}
{{- end -}}
{{- end -}}
{{- $signer := sha256sum $current.crt -}}
{{- $age := sub $now (get $served.notes "made-at" | default "0" | int64) -}}
{{- $fits := and (get $served.data "tls.crt") (get $served.data "tls.key") (eq (get $served.notes "names") $names) (eq (get $served.notes "authority") $signer) -}}
{{- $crt := get $served.data "tls.crt" -}}{{- $key := get $served.data "tls.key" -}}{{- $made := sub $now $age -}}
{{- if and $fits (ge $age 86400) -}}{{- $previous = "" -}}{{- end -}}
{{- if not (and $fits (lt $age (mul (int64 $certificate.rotateAfterDays) 86400))) -}}
{{- /* Never for longer than its CA. */ -}}
{{- $days := max 1 (min (int64 $certificate.validityDays) (div (sub (int64 $current.until) $now) 86400)) -}}
{{- $leaf := genSignedCertWithKey $name nil (splitList "," $names | toJson | fromJsonArray) (int $days) (buildCustomCert (b64enc $current.crt) (b64enc $current.key)) (genPrivateKey "ecdsa") -}}
{{- $crt = $leaf.Cert -}}{{- $key = $leaf.Key -}}{{- $made = $now -}}
{{- end -}}
{{- $data := dict "ca.crt" $current.crt "ca.key" $current.key -}}
{{- $notes := dict "made-at" $current.made "until" $current.until -}}
{{- $bundle := $current.crt -}}
{{- with $next -}}
{{- $_ := set $data "next.crt" .crt -}}{{- $_ := set $data "next.key" .key -}}
{{- $_ := set $notes "next-made-at" .made -}}{{- $_ := set $notes "next-until" .until -}}
{{- $bundle = print $bundle .crt -}}
{{- end -}}
{{- with $previous -}}
{{- $_ := set $data "previous.crt" . -}}
{{- $bundle = print $bundle (trimSuffix "\n" .) "\n" -}}
{{- end -}}
{{- $serving := dict "data" (dict "ca.crt" $bundle "tls.crt" $crt "tls.key" $key) "notes" (dict "made-at" (toString $made) "names" $names "authority" $signer) -}}
{{- toYaml (dict "authority" (dict "data" $data "notes" $notes) "serving" $serving "bundle" $bundle) -}}
{{- end -}}

{{/* A Secret of these. In: a dict of `root`, `name`, `type`, `of` (`data` and `notes`). */}}
{{- define "injector.generatedSecret" -}}
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "injector.labels" .root | nindent 4 }}
  annotations:
    {{- range $key, $value := .of.notes }}
    token-sidecar.io/{{ $key }}: {{ $value | quote }}
    {{- end }}
type: {{ .type }}
data:
  {{- range $key, $value := .of.data }}
  {{ $key }}: {{ b64enc $value }}
  {{- end }}
{{- end -}}
