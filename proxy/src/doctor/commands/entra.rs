//! Commands for what Entra refuses, by its number.

use super::{Facts, embedded, kubernetes, or, quoted};
use crate::token::exchange::error::Class;

/// The audience that a federated identity credential has, in every cloud.
pub(in super::super) const AUDIENCE: &str = "api://AzureADTokenExchange";
/// The audience of tokens for AKS' identity bindings, which no federated credential takes.
pub(in super::super) const BINDING_AUDIENCE: &str = "api://AKSIdentityBinding";

/// For a refusal, by its code. None for a number that is not known.
pub(in super::super) fn refused(code: &str, facts: &Facts) -> Vec<String> {
    match code {
        "aadsts_70021" | "aadsts_700211" | "aadsts_700213" | "aadsts_70025" => {
            [compare(facts), create(facts)].concat()
        }
        // One with this issuer and subject is there already; an identity takes no second.
        "aadsts_7002138" => [compare(facts), update(facts)].concat(),
        "aadsts_700212" if facts.audiences.iter().any(|a| a == AUDIENCE) => {
            [compare(facts), update(facts)].concat()
        }
        "aadsts_700212" => {
            let mut commands = kubernetes::audience(AUDIENCE, facts);
            if facts.audiences.iter().any(|a| a == BINDING_AUDIENCE) {
                commands.push(format!(
                    "kubectl patch deployment <deployment> -n {} --type merge -p '{{\"spec\":{{\"template\":{{\"metadata\":{{\"annotations\":{{\"azure.workload.identity/use-identity-binding\":null}}}}}}}}}}'",
                    facts.namespace()
                ));
            }
            commands
        }
        "aadsts_700024" => [kubernetes::clock(facts), kubernetes::rotation(facts)].concat(),
        "aadsts_500133" => kubernetes::clock(facts),
        "aadsts_700016" | "aadsts_700011" => [
            vec![
                "az account show --query tenantId --output tsv   # the tenant that the next lines look in".into(),
                principal(facts),
                "az identity list --query '[].{name:name,clientId:clientId,tenantId:tenantId}' --output table".into(),
            ],
            kubernetes::annotate("client-id", "<right client id>", facts),
        ]
        .concat(),
        "aadsts_90002" | "aadsts_9001023" => [
            vec!["az account show --query '{tenantId:tenantId,cloud:environmentName}'".to_owned()],
            kubernetes::annotate("tenant-id", "<right tenant id>", facts),
        ]
        .concat(),
        "aadsts_900144" | "aadsts_90023" | "aadsts_9002313" => kubernetes::environment(facts),
        "aadsts_500011" | "aadsts_50001" => vec![
            resource(facts),
            "az ad sp create --id <application id of the resource>   # brings a resource of another tenant into this one".into(),
        ],
        "aadsts_650057" => vec![
            resource(facts),
            format!("az ad app permission list --id {}", facts.client_id()),
            format!(
                "az ad app permission add --id {} --api <application id of the resource> --api-permissions <app role id>=Role",
                facts.client_id()
            ),
        ],
        "aadsts_70011" | "aadsts_28002" | "aadsts_700022" => {
            [vec![resource(facts)], kubernetes::configuration(facts)].concat()
        }
        "aadsts_7000215" | "aadsts_7000222" | "aadsts_7000218" => {
            [compare(facts), create(facts)].concat()
        }
        "aadsts_700222" | "aadsts_700223" | "aadsts_700229" | "aadsts_700238" => {
            [kubernetes::audience(AUDIENCE, facts), compare(facts)].concat()
        }
        "aadsts_700027" => [discovery(facts), compare(facts)].concat(),
        "aadsts_90061" => [
            discovery(facts),
            vec!["az aks update --resource-group <group> --name <cluster>   # reconciles the issuer".into()],
        ]
        .concat(),
        "aadsts_50013" | "aadsts_500131" => vec![format!(
            "az ad app show --id {} --query '{{appId:appId,uris:identifierUris}}'   # one of these is the audience that the caller must ask for",
            facts.client_id()
        )],
        "aadsts_65001" => [
            vec![format!("az ad app permission admin-consent --id {}", facts.client_id())],
            assign(facts),
        ]
        .concat(),
        "aadsts_50105" => assign(facts),
        "aadsts_53000" | "aadsts_53003" | "aadsts_530035" | "aadsts_50005" => vec![
            sign_ins(facts),
            "az rest --method get --url https://graph.microsoft.com/v1.0/identity/conditionalAccess/policies --query 'value[].{name:displayName,state:state,clients:conditions.clientApplications}'".into(),
        ],
        "aadsts_50074" | "aadsts_50076" | "aadsts_50079" | "aadsts_50173" | "aadsts_70043" => {
            vec![sign_ins(facts)]
        }
        "aadsts_900382" | "aadsts_90038" | "aadsts_900439" => vec![
            "az cloud list --query '[].{name:name,active:isActive,authority:endpoints.activeDirectory}' --output table   # authorityHost must be the tenant's cloud's".into(),
        ],
        "aadsts_7000112" | "aadsts_70001" => vec![
            principal(facts),
            format!("az ad sp update --id {} --set accountEnabled=true", facts.client_id()),
        ],
        "aadsts_82001" => kubernetes::configuration(facts),
        "aadsts_1002016" => super::network::unreachable("tls_certificate_error", facts),
        "aadsts_50196" | "aadsts_90055" => vec![
            "kubectl get pods --all-namespaces -l azure.workload.identity/use=true   # how many ask at once".into(),
            sign_ins(facts),
        ],
        "aadsts_90006" | "aadsts_90012" | "aadsts_90024" | "aadsts_90033" | "aadsts_50033" => vec![format!(
            "curl -sS -o /dev/null -w '%{{http_code}}\\n' {}   # does it answer anybody",
            quoted(&metadata(facts))
        )],
        _ => vec![],
    }
}

/// The number that is most like an OAuth error, or a status, that comes from Entra without one.
pub(in super::super) fn numbered(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_client" | "invalid_grant" | "invalid_request" | "invalid_token" => "aadsts_70021",
        "unauthorized_client" => "aadsts_700016",
        "invalid_scope" => "aadsts_70011",
        "invalid_resource" | "invalid_target" => "aadsts_500011",
        "invalid_tenant" => "aadsts_90002",
        "access_denied" => "aadsts_50105",
        "consent_required" => "aadsts_65001",
        "interaction_required" | "login_required" | "insufficient_user_authentication" => {
            "aadsts_53003"
        }
        "temporarily_unavailable" | "server_error" | "http_5xx" => "aadsts_90033",
        "slow_down" | "http_429" => "aadsts_90055",
        _ => return None,
    })
}

/// For an upstream that refuses the identity (403): what it may do.
pub(in super::super) fn permissions(facts: &Facts) -> Vec<String> {
    let azure = facts.scope.as_deref().is_some_and(|scope| {
        let scope = scope.to_ascii_lowercase();
        ["azure.", "windows.net", "azure.com"]
            .iter()
            .any(|a| scope.contains(a))
    });
    if azure {
        return vec![format!(
            "az role assignment list --assignee {} --all --query '[].{{role:roleDefinitionName,scope:scope}}' --output table   # a new one takes up to ten minutes",
            facts.client_id()
        )];
    }
    assign(facts)
}

/// For an upstream that refuses the token (401): whose it is.
pub(in super::super) fn resource(facts: &Facts) -> String {
    let scope = facts.scope.as_deref();
    let resource = scope.map(|s| s.strip_suffix("/.default").unwrap_or(s));
    format!(
        "az ad sp show --id {} --query '{{name:displayName,appId:appId,names:servicePrincipalNames,enabled:accountEnabled}}'   # none: no such resource in this tenant",
        or(resource, "<resource of the scope>")
    )
}

/// What the authority says of itself.
fn metadata(facts: &Facts) -> String {
    let host = facts
        .authority
        .as_ref()
        .map_or("https://login.microsoftonline.com".to_owned(), |url| {
            url.origin().ascii_serialization()
        });
    let tenant = facts.tenant_id.as_deref().unwrap_or("<tenant id>");
    format!("{host}/{tenant}/v2.0/.well-known/openid-configuration")
}

/// The client's service principal.
fn principal(facts: &Facts) -> String {
    format!(
        "az ad sp show --id {} --query '{{name:displayName,homeTenant:appOwnerOrganizationId,enabled:accountEnabled,type:servicePrincipalType}}'",
        facts.client_id()
    )
}

/// What the federated credentials say now.
fn compare(facts: &Facts) -> Vec<String> {
    const COLUMNS: &str = "--query '[].{name:name,issuer:issuer,subject:subject,audience:audiences[0]}' --output table";
    let mut commands = Vec::new();
    if !facts.application {
        commands.push(format!(
            "az identity list --query \"[?clientId=='{}'].{{name:name,group:resourceGroup}}\" --output table   # which managed identity; none: an app registration",
            embedded(facts.client_id.as_deref(), "<client id>")
        ));
        commands.push(format!(
            "az identity federated-credential list --identity-name <identity> --resource-group <group> {COLUMNS}"
        ));
    }
    commands.push(format!(
        "az ad app federated-credential list --id {} {COLUMNS}{}",
        facts.client_id(),
        if facts.application {
            ""
        } else {
            "   # for an app registration"
        }
    ));
    commands
}

/// Issuer, subject and audience that a federated credential must have.
fn claims(facts: &Facts) -> (String, String) {
    if facts.parent.is_some() {
        // The assertion is Entra's own, of a managed identity: its subject is the identity's object id.
        let tenant = facts.tenant_id.as_deref().unwrap_or("<tenant id>");
        let host = facts
            .authority
            .as_ref()
            .map_or("https://login.microsoftonline.com".to_owned(), |url| {
                url.origin().ascii_serialization()
            });
        return (
            format!("{host}/{tenant}/v2.0"),
            "<principal id of the managed identity>".to_owned(),
        );
    }
    (
        facts
            .issuer
            .clone()
            .unwrap_or_else(|| "<issuer>".to_owned()),
        facts
            .subject
            .clone()
            .unwrap_or_else(|| "<subject>".to_owned()),
    )
}

fn value(text: &str) -> String {
    match text.starts_with('<') && text.ends_with('>') {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Makes one that fits.
fn create(facts: &Facts) -> Vec<String> {
    let (issuer, subject) = claims(facts);
    let json = serde_json::json!({
        "name": "token-sidecar", "issuer": issuer, "subject": subject, "audiences": [AUDIENCE],
    });
    let mut commands = Vec::new();
    if !facts.application {
        commands.push(format!(
            "az identity federated-credential create --name token-sidecar --identity-name <identity> --resource-group <group> --issuer {} --subject {} --audiences {AUDIENCE}   # for a managed identity",
            value(&issuer),
            value(&subject)
        ));
    }
    commands.push(format!(
        "az ad app federated-credential create --id {} --parameters {}   # for an app registration",
        facts.client_id(),
        quoted(&json.to_string())
    ));
    commands
}

/// Makes the one that is there fit.
fn update(facts: &Facts) -> Vec<String> {
    let (issuer, subject) = claims(facts);
    let json = serde_json::json!({ "issuer": issuer, "subject": subject, "audiences": [AUDIENCE] });
    let mut commands = Vec::new();
    if !facts.application {
        commands.push(format!(
            "az identity federated-credential update --name <name> --identity-name <identity> --resource-group <group> --issuer {} --subject {} --audiences {AUDIENCE}   # for a managed identity",
            value(&issuer),
            value(&subject)
        ));
    }
    commands.push(format!(
        "az ad app federated-credential update --id {} --federated-credential-id <name> --parameters {}   # for an app registration",
        facts.client_id(),
        quoted(&json.to_string())
    ));
    commands
}

/// Gives the identity one of a resource's app roles.
fn assign(facts: &Facts) -> Vec<String> {
    let client = embedded(facts.client_id.as_deref(), "<client id>");
    vec![
        format!(
            "az rest --method get --url \"https://graph.microsoft.com/v1.0/servicePrincipals(appId='{client}')/appRoleAssignments\" --query 'value[].{{resource:resourceDisplayName,role:appRoleId}}'"
        ),
        format!(
            "az rest --method post --url \"https://graph.microsoft.com/v1.0/servicePrincipals(appId='{client}')/appRoleAssignments\" --body '{{\"principalId\":\"<principal id>\",\"resourceId\":\"<object id of the resource>\",\"appRoleId\":\"<app role id>\"}}'"
        ),
    ]
}

/// Entra's own record of what it refused, and why.
fn sign_ins(facts: &Facts) -> String {
    format!(
        "az rest --method get --url https://graph.microsoft.com/beta/auditLogs/signIns --url-parameters \"\\$filter=appId eq '{}' and signInEventTypes/any(t:t eq '{}')\" '$top=5' --query 'value[].{{at:createdDateTime,status:status,policies:appliedConditionalAccessPolicies}}'",
        embedded(facts.client_id.as_deref(), "<client id>"),
        if facts.application {
            "nonInteractiveUser"
        } else {
            "servicePrincipal"
        }
    )
}

/// What Entra reads of an issuer.
fn discovery(facts: &Facts) -> Vec<String> {
    let issuer = facts
        .issuer
        .as_deref()
        .map_or("<issuer>", |i| i.trim_end_matches('/'));
    let at = |path: &str| match issuer {
        "<issuer>" => format!("<issuer>{path}"),
        issuer => quoted(&format!("{issuer}{path}")),
    };
    vec![
        format!(
            "curl -sS {}   # must answer from outside the cluster, and name itself exactly as the token's `iss`",
            at("/.well-known/openid-configuration")
        ),
        format!(
            "curl -sS {}   # the jwks_uri of that document",
            at("/openid/v1/jwks")
        ),
    ]
}

/// What is added in words for a failure of this class, when the assertion is the pod's own.
pub(in super::super) fn hint(code: &str, class: Class, facts: &Facts) -> Option<String> {
    match code {
        "aadsts_700211" if facts.parent.is_none() && facts.issuer.as_deref().is_some_and(|i| !i.ends_with('/')) => Some(
            "the token's issuer has no / at the end; AKS' own have one: is it this cluster's".to_owned(),
        ),
        "aadsts_700212" if facts.audiences.iter().any(|a| a == BINDING_AUDIENCE) => Some(
            "the token is one for identity bindings, which go through the cluster's token proxy: AZURE_KUBERNETES_TOKEN_PROXY is not set here".to_owned(),
        ),
        _ if class == Class::Propagation => facts.parent.as_ref().map(|parent| {
            format!("the assertion is the token of credential {parent}: the federated credential's subject is that identity's principal (object) id, its issuer Entra itself")
        }),
        _ => None,
    }
}
