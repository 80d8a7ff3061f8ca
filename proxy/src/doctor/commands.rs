//! The commands that mend what the doctor finds, with the values at hand filled in. `<…>` stands where only the reader knows. A table; it runs nothing.

use crate::token::subject::SubjectError;

/// Values to fill in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts<'a> {
    /// `iss` of the subject token.
    pub(super) issuer: Option<&'a str>,
    /// `sub` of the subject token.
    pub(super) subject: Option<&'a str>,
    /// The credential's client id.
    pub(super) client_id: Option<&'a str>,
    /// The credential's scope.
    pub(super) scope: Option<&'a str>,
    /// The authority's or the upstream's host.
    pub(super) host: Option<&'a str>,
}

impl Facts<'_> {
    /// Service account and namespace.
    fn account(&self) -> (&str, &str) {
        self.subject
            .and_then(|s| s.strip_prefix("system:serviceaccount:"))
            .and_then(|s| s.split_once(':'))
            .map_or(("<namespace>", "<service account>"), |pair| pair)
    }

    fn client(&self) -> String {
        quoted(self.client_id.unwrap_or("<client id>"))
    }

    fn host(&self) -> String {
        quoted(self.host.unwrap_or("<host>"))
    }

    /// The resource of a `/.default` scope.
    fn resource(&self) -> String {
        let scope = self.scope.unwrap_or("<resource>/.default");
        quoted(scope.strip_suffix("/.default").unwrap_or(scope))
    }
}

/// For a shell: in single quotes unless it is plainly harmless. Values come from configurations and tokens.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
    let placeholder = text.starts_with('<') && text.ends_with('>');
    if !text.is_empty() && (text.chars().all(plain) || placeholder) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For a subject token's file that is not usable.
pub(super) fn subject(error: SubjectError) -> Vec<String> {
    let lines: &[&str] = match error {
        SubjectError::Missing => &[
            "kubectl get pod <pod> -n <namespace> -o jsonpath='{.metadata.labels}'   # needs azure.workload.identity/use: \"true\" on the pod itself",
            "kubectl get mutatingwebhookconfiguration azure-wi-webhook-mutating-webhook-configuration   # missing: az aks update --resource-group <group> --name <cluster> --enable-oidc-issuer --enable-workload-identity",
            "kubectl get pod <pod> -n <namespace> -o jsonpath='{.spec.volumes}'   # without the webhook: a projected serviceAccountToken volume, mounted into this container",
        ],
        SubjectError::Unreadable => &[
            "kubectl get pod <pod> -n <namespace> -o jsonpath='{.spec.securityContext}{.spec.containers[*].securityContext}'   # runAsUser differs from the file's owner: set fsGroup, or the same runAsUser",
        ],
        SubjectError::Empty | SubjectError::TooLarge | SubjectError::NotAJwt => &[
            "kubectl get pod <pod> -n <namespace> -o jsonpath='{.spec.volumes}'   # AZURE_FEDERATED_TOKEN_FILE (or subjectTokens.*.file) must name a serviceAccountToken source's path",
        ],
        SubjectError::Expired => return rotation(),
    };
    lines.iter().map(|l| (*l).to_owned()).collect()
}

/// For a token that the kubelet does not rotate.
pub(super) fn rotation() -> Vec<String> {
    vec![
        "kubectl get events -n <namespace> --field-selector involvedObject.name=<pod>   # FailedMount, or token requests that fail".into(),
        "kubectl describe node <node>   # is the kubelet ready, is its clock right".into(),
        "kubectl delete pod <pod> -n <namespace>   # a new pod gets a new token".into(),
    ]
}

/// For a node whose clock is wrong.
pub(super) fn clock() -> Vec<String> {
    vec![
        "kubectl debug node/<node> -it --image=busybox -- date -u   # compare with a machine whose clock is right".into(),
        "kubectl drain <node> --ignore-daemonsets --delete-emptydir-data   # then repair its time synchronisation, or replace it".into(),
    ]
}

/// For an issuer that Entra cannot reach.
pub(super) fn issuer(facts: &Facts<'_>) -> Vec<String> {
    let (namespace, _) = facts.account();
    vec![
        "az aks update --resource-group <group> --name <cluster> --enable-oidc-issuer --enable-workload-identity".into(),
        "az aks show --resource-group <group> --name <cluster> --query oidcIssuerProfile.issuerUrl --output tsv".into(),
        format!("kubectl rollout restart deployment <deployment> -n {}", quoted(namespace)),
    ]
}

/// For a token of another audience.
pub(super) fn audience(facts: &Facts<'_>) -> Vec<String> {
    let (namespace, _) = facts.account();
    vec![format!(
        "kubectl get pod <pod> -n {} -o jsonpath='{{.spec.volumes[*].projected.sources[*].serviceAccountToken.audience}}'   # must be api://AzureADTokenExchange",
        quoted(namespace)
    )]
}

/// For what cannot be reached.
pub(super) fn network(code: &str, facts: &Facts<'_>) -> Vec<String> {
    let (namespace, _) = facts.account();
    let (namespace, host) = (quoted(namespace), facts.host());
    match code {
        "dns_error" => vec![
            format!("kubectl run dns-check --rm -it --restart=Never --image=busybox -n {namespace} -- nslookup {host}"),
            format!("kubectl get networkpolicy -n {namespace}   # egress to DNS: port 53, UDP and TCP"),
        ],
        "tls_certificate_error" | "tls_alert_received" | "tls_protocol_error" => vec![
            format!("openssl s_client -connect {host}:443 -servername {host} -showcerts </dev/null   # who signed it: a private CA goes into caFile (upstreamCaFile), its name into serverName"),
        ],
        "proxy_tunnel" => vec![
            "kubectl get pod <pod> -o jsonpath='{.spec.containers[*].env}'   # HTTPS_PROXY, NO_PROXY".into(),
        ],
        "destination_ip_prohibited" => vec![
            format!("kubectl run dns-check --rm -it --restart=Never --image=busybox -n {namespace} -- nslookup {host}   # it resolves to a link-local, metadata or loopback address"),
        ],
        _ => vec![
            format!("kubectl get networkpolicy -n {namespace}   # egress to {host}"),
            format!("kubectl run reach-check --rm -it --restart=Never --image=busybox -n {namespace} -- nc -vz -w 5 {host} 443"),
        ],
    }
}

/// For an authority's refusal, by its code. Empty for codes that the words alone explain.
pub(super) fn exchange(code: &str, facts: &Facts<'_>) -> Vec<String> {
    let (namespace, account) = facts.account();
    let (namespace, account) = (quoted(namespace), quoted(account));
    let client = facts.client();
    let identity =
        "az identity federated-credential list --identity-name <identity> --resource-group <group>"
            .to_owned();
    let application = format!("az ad app federated-credential list --id {client}");
    let create = || {
        let issuer = facts.issuer.unwrap_or("<issuer>");
        let subject = facts.subject.unwrap_or("<subject>");
        let json = serde_json::json!({
            "name": "token-sidecar", "issuer": issuer, "subject": subject, "audiences": ["api://AzureADTokenExchange"],
        });
        vec![
            format!(
                "az identity federated-credential create --name token-sidecar --identity-name <identity> --resource-group <group> --issuer {} --subject {} --audiences api://AzureADTokenExchange   # for a managed identity",
                quoted(issuer),
                quoted(subject)
            ),
            format!(
                "az ad app federated-credential create --id {client} --parameters {}   # for an app registration",
                quoted(&json.to_string())
            ),
        ]
    };
    let annotate = |key: &str, value: &str| {
        vec![
            format!(
                "kubectl annotate serviceaccount {account} -n {namespace} azure.workload.identity/{key}={value} --overwrite"
            ),
            format!(
                "kubectl rollout restart deployment <deployment> -n {namespace}   # annotations are read when a pod starts"
            ),
        ]
    };
    match code {
        "aadsts_70021" | "aadsts_700211" | "aadsts_700213" | "aadsts_7002138" | "aadsts_70025" => {
            let mut all = vec![identity, application];
            all.extend(create());
            all
        }
        "aadsts_700212" => {
            let mut all = vec![identity, application];
            all.extend(audience(facts));
            all.extend(create());
            all
        }
        "aadsts_700024" | "aadsts_500133" => [clock(), rotation()].concat(),
        "aadsts_700016" | "aadsts_700011" | "aadsts_70001" => [
            vec![
                format!("az ad sp show --id {client} --query '{{name:displayName,tenant:appOwnerOrganizationId,enabled:accountEnabled}}'"),
                "az identity show --name <identity> --resource-group <group> --query '{clientId:clientId,tenantId:tenantId}'".into(),
            ],
            annotate("client-id", "<client id>"),
        ]
        .concat(),
        "aadsts_90002" | "aadsts_9001023" | "invalid_tenant" => [
            vec!["az account show --query tenantId --output tsv".to_owned()],
            annotate("tenant-id", "<tenant id>"),
        ]
        .concat(),
        "aadsts_900144" | "aadsts_90023" | "aadsts_9002313" => vec![
            "token-sidecar --check   # with the same arguments and environment: clientId, tenantId, scope".into(),
            format!("kubectl get pod <pod> -n {namespace} -o jsonpath='{{.spec.initContainers[*].env}}{{.spec.containers[*].env}}'"),
        ],
        "aadsts_500011" | "aadsts_50001" | "aadsts_650057" | "aadsts_70011" | "aadsts_28002"
        | "aadsts_700022" | "invalid_scope" | "invalid_resource" => vec![
            format!("az ad sp list --filter \"servicePrincipalNames/any(n:n eq {})\" --query '[].{{name:displayName,appId:appId}}'   # nothing: the resource has no service principal in this tenant", facts.resource().replace('"', "")),
            "az ad sp create --id <the resource's application id>   # consents to it in this tenant".into(),
            format!("az ad app permission list --id {client}"),
        ],
        "aadsts_7000215" | "aadsts_7000222" | "aadsts_7000218" | "aadsts_50013" | "aadsts_700027"
        | "aadsts_700222" | "aadsts_700223" | "aadsts_700229" | "aadsts_700238" => {
            let mut all = vec![format!(
                "kubectl get pod <pod> -n {namespace} -o jsonpath='{{.spec.volumes[*].projected.sources}}'   # the assertion must be the projected service-account token"
            )];
            all.push(application);
            all.extend(create());
            all
        }
        "aadsts_90061" => vec![
            format!("curl -sS {}   # must answer from outside the cluster", quoted(&discovery(facts.issuer))),
            "az aks update --resource-group <group> --name <cluster>   # reconciles the issuer".into(),
        ],
        "aadsts_500131" => vec![format!(
            "az ad app show --id {client} --query identifierUris   # the caller must ask for a token with this audience"
        )],
        "aadsts_65001" | "consent_required" => vec![format!("az ad app permission admin-consent --id {client}")],
        "aadsts_50105" | "unauthorized_client" | "access_denied" => vec![format!(
            "az rest --method GET --url \"https://graph.microsoft.com/v1.0/servicePrincipals(appId='{}')/appRoleAssignments\"   # the resource's app role must be among them",
            facts.client_id.unwrap_or("<client id>")
        )],
        "aadsts_53000" | "aadsts_53003" | "aadsts_530035" | "aadsts_50005" | "aadsts_70043"
        | "interaction_required" => vec![
            "az rest --method GET --url \"https://graph.microsoft.com/v1.0/identity/conditionalAccess/policies\"   # an administrator's call: which policy covers this workload".into(),
        ],
        "aadsts_900382" | "aadsts_90038" | "aadsts_900439" => vec![
            "az cloud show --query endpoints.activeDirectory --output tsv   # AZURE_AUTHORITY_HOST (authorityHost) must be this".into(),
        ],
        "aadsts_7000112" => vec![format!("az ad sp update --id {client} --set accountEnabled=true")],
        "aadsts_82001" => vec!["token-sidecar --check   # Entra does not speak RFC 8693: use entraClientAssertion or entraOnBehalfOf".into()],
        "aadsts_90006" | "aadsts_90012" | "aadsts_90024" | "aadsts_90033" | "aadsts_50033"
        | "temporarily_unavailable" | "server_error" | "http_5xx" => vec![
            "az rest --method GET --url \"https://graph.microsoft.com/v1.0/admin/serviceAnnouncement/issues\"   # the cloud's own trouble passes; the sidecar asks again by itself".into(),
        ],
        "aadsts_1002016" => vec![format!(
            "openssl s_client -connect {}:443 -tls1_2 </dev/null   # from the node: whose certificate is it? a proxy in between speaks old TLS",
            facts.host()
        )],
        "aadsts_50196" | "aadsts_90055" | "slow_down" | "http_429" => vec![
            "kubectl get pods --all-namespaces -l azure.workload.identity/use=true   # how many ask at once".into(),
        ],
        "invalid_client" => vec![
            "token-sidecar --check   # clientId and clientAuthentication".into(),
            format!("kubectl get pod <pod> -n {namespace} -o jsonpath='{{.spec.volumes}}'   # is the secret's or key's file mounted"),
        ],
        "client_secret_unreadable" => vec![format!(
            "kubectl get pod <pod> -n {namespace} -o jsonpath='{{.spec.volumes}}'   # is the secret's file mounted into this container"
        )],
        _ => vec![],
    }
}

fn discovery(issuer: Option<&str>) -> String {
    let issuer = issuer.unwrap_or("<issuer>").trim_end_matches('/');
    format!("{issuer}/.well-known/openid-configuration")
}

#[cfg(test)]
#[path = "commands_tests.rs"]
mod tests;
