//! The tables are complete, filled in, of commands and options that there are, and safe to paste.

use super::{every, *};
use crate::{
    doctor::facts::Client,
    token::{exchange::error::all_known, subject::SubjectError},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn facts() -> Facts {
    Facts {
        issuer: Some("https://westeurope.oic.prod-aks.azure.com/t/i/".into()),
        subject: Some("system:serviceaccount:shop:backend".into()),
        audiences: vec![entra::AUDIENCE.into()],
        pod: Some("backend-0".into()),
        node: Some("aks-0".into()),
        client_id: Some("22222222-2222-4222-8222-222222222222".into()),
        tenant_id: Some("11111111-1111-4111-8111-111111111111".into()),
        scope: Some("api://backend/.default".into()),
        authority: Some("https://login.microsoftonline.com/".parse().unwrap()),
        host: Some("login.microsoftonline.com".into()),
        port: Some(443),
        ..Facts::default()
    }
}

fn keycloak(client: Client) -> Facts {
    Facts {
        tenant_id: None,
        authority: Some(
            "https://kc.example.com/auth/realms/mcp/protocol/openid-connect/token"
                .parse()
                .unwrap(),
        ),
        client_id: Some("mcp-server".into()),
        host: Some("kc.example.com".into()),
        client,
        ..facts()
    }
}

fn google() -> Facts {
    Facts {
        provider: Some(
            "//iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/providers/aks"
                .into(),
        ),
        service_account: Some("sa@project.iam.gserviceaccount.com".into()),
        ..facts()
    }
}

/// The words of a command as a POSIX shell would make them, without the comment; `None`: quotes are left open, or something would be expanded.
fn words(command: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => all.extend(word.take()),
            '#' if word.is_none() => break,
            '\'' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => text.push(c),
                    }
                }
            }
            '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => text.push(chars.next()?),
                        '$' | '`' => return None,
                        c => text.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '$' | '`' | '*' | '&' | ';' | '~' => return None,
            c => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    Some(all)
}

/// Placeholders for what nobody but the reader knows.
const READERS: &[&str] = &[
    "<deployment>",
    "<identity>",
    "<group>",
    "<cluster>",
    "<name>",
    "<id>",
    "<alias of the identity provider>",
    "<principal id>",
    "<object id of the resource>",
    "<app role id>",
    "<application id of the resource>",
    "<right client id>",
    "<right tenant id>",
    "<secret>",
    "<key>",
    "<file>",
    "<release>",
    "<project of the service account>",
    "<organization>",
    "<key file>",
    "<certificate file>",
    "<principal id of the managed identity>",
];

#[track_caller]
fn check(code: &str, commands: &[String], known: bool) {
    assert!(!commands.is_empty(), "{code} has no command");
    assert!(commands.len() <= 6, "{code} has too many: {commands:#?}");
    for command in commands {
        assert_eq!(command.lines().count(), 1, "{code}");
        let program = command.split(' ').next().unwrap();
        assert!(
            [
                "az", "kubectl", "kcadm.sh", "gcloud", "helm", "curl", "openssl"
            ]
            .contains(&program),
            "{code}: {command}"
        );
        // A pipe, and what curl reads from nowhere, are the only shell in them.
        for part in command.replace(" </dev/null", "").split(" | ") {
            assert!(words(&replaced(part)).is_some(), "{code}: {command}");
        }
        if known {
            for placeholder in placeholders(command) {
                assert!(
                    READERS.contains(&&*placeholder),
                    "{code}: {placeholder} in {command}"
                );
            }
        }
    }
}

fn placeholders(command: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in command.match_indices('<') {
        let rest = &command[at..];
        if let Some(end) = rest.find('>')
            && rest[1..].starts_with(char::is_alphabetic)
        {
            found.insert(rest[..=end].to_owned());
        }
    }
    found
}

/// With something for each placeholder, as a reader would put it.
fn replaced(command: &str) -> String {
    placeholders(command)
        .iter()
        .fold(command.to_owned(), |text, p| text.replace(p.as_str(), "x"))
}

/// All codes that a refusal, or our own side, can have: Entra's, OAuth's, statuses, files.
#[test]
fn every_code_has_commands_with_the_values_at_hand() {
    for known in all_known() {
        let code = known.code;
        if ["aadsts_other", "other"].contains(&code) {
            assert!(exchange(code, &facts()).is_empty());
            continue;
        }
        if code.starts_with("aadsts_") {
            check(code, &exchange(code, &facts()), true);
            check(code, &exchange(code, &Facts::default()), false);
            continue;
        }
        check(code, &exchange(code, &facts()), true);
        for client in [
            Client::Unknown,
            Client::Secret,
            Client::Assertion,
            Client::Key,
            Client::Certificate,
        ] {
            check(code, &exchange(code, &keycloak(client)), true);
        }
    }
    for code in every::GOOGLE {
        check(code, &exchange(code, &google()), true);
    }
    for code in every::NETWORK {
        check(code, &network::unreachable(code, &facts()), true);
    }
    for error in SubjectError::ALL {
        for webhook in [true, false] {
            check(
                error.reason(),
                &kubernetes::subject(error, webhook, &facts()),
                true,
            );
        }
    }
    check("timeout", &exchange("timeout", &facts()), true);
    check("permissions", &entra::permissions(&facts()), true);
    check("sub_path", &kubernetes::sub_path(&facts()), true);
    check("issuer", &kubernetes::issuer(&facts()), true);
    check("binding", &kubernetes::binding(&facts()), true);
    check("sidecar", &kubernetes::sidecar(&facts()), true);
    check("containers", &kubernetes::containers(&facts()), true);
    check("secret", &kubernetes::replace_secret(&facts()), true);
}

/// A command's options, and of which sets one is required.
#[derive(serde::Deserialize)]
struct Az {
    options: BTreeSet<String>,
    required: Vec<Vec<String>>,
}

/// Of the Azure CLI, by what its own help prints (tests/charts/az.json).
#[test]
fn every_az_command_and_option_exists() {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/charts/az.json"
    ));
    let known: BTreeMap<String, Az> = serde_json::from_str(&text.unwrap()).unwrap();
    let mut checked = 0;
    for command in every::commands() {
        // Also those in comments: `# none: az aks update …`.
        for part in command.split("# ").flat_map(|p| p.split(": ")) {
            let part = part.trim();
            if !part.starts_with("az ") {
                continue;
            }
            let words = words(&replaced(part)).unwrap();
            let names = words.iter().take_while(|w| !w.starts_with('-'));
            let name = names.cloned().collect::<Vec<_>>().join(" ");
            let az = known
                .get(&name)
                .unwrap_or_else(|| panic!("there is no `{name}`: {command}"));
            for option in words.iter().filter(|w| w.starts_with("--")) {
                assert!(az.options.contains(option), "`{name}` has no {option}");
            }
            for names in &az.required {
                let given = names.iter().any(|n| words.contains(n));
                assert!(given, "`{name}` needs {names:?}: {command}");
            }
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}

#[test]
fn the_commands_of_the_codes_that_matter_most_are_these() {
    let all = exchange("aadsts_700213", &facts());
    assert_eq!(
        all[0],
        "az identity list --query \"[?clientId=='22222222-2222-4222-8222-222222222222'].{name:name,group:resourceGroup}\" --output table   # which managed identity; none: an app registration"
    );
    assert!(all[3].starts_with(
        "az identity federated-credential create --name token-sidecar --identity-name <identity> --resource-group <group> --issuer https://westeurope.oic.prod-aks.azure.com/t/i/ --subject system:serviceaccount:shop:backend --audiences api://AzureADTokenExchange"
    ), "{all:#?}");
    // The JSON of an app registration's is JSON.
    let words = words(&all[4]).unwrap();
    let json: Value = serde_json::from_str(words.last().unwrap()).unwrap();
    assert_eq!(json["subject"], "system:serviceaccount:shop:backend");
    assert_eq!(json["audiences"][0], "api://AzureADTokenExchange");
    // One that is there takes no second of the same issuer and subject.
    for code in ["aadsts_700212", "aadsts_7002138"] {
        let all = exchange(code, &facts()).join("\n");
        assert!(
            all.contains("federated-credential update") && !all.contains("create"),
            "{all}"
        );
    }
    let bound = Facts {
        audiences: vec![entra::BINDING_AUDIENCE.into()],
        ..facts()
    };
    let all = exchange("aadsts_700212", &bound).join("\n");
    assert!(
        all.contains("use-identity-binding\":null") && !all.contains("az "),
        "{all}"
    );
    // An agent identity's blueprint, and what acts for users, is an app registration.
    let application = Facts {
        application: true,
        ..facts()
    };
    let all = exchange("aadsts_70025", &application).join("\n");
    assert!(
        all.contains("az ad app federated-credential create") && !all.contains("az identity"),
        "{all}"
    );
    // An assertion that is another credential's token is of a managed identity.
    let chained = Facts {
        parent: Some("managed".into()),
        ..facts()
    };
    let all = exchange("aadsts_700213", &chained).join("\n");
    assert!(all.contains("--issuer https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/v2.0 --subject <principal id"), "{all}");
    let all = exchange("aadsts_700016", &facts()).join("\n");
    assert!(
        all.contains("kubectl annotate serviceaccount backend -n shop azure.workload.identity/client-id=<right client id> --overwrite"),
        "{all}"
    );
}

#[test]
fn keycloak_is_known_by_its_paths() {
    let all = exchange("invalid_client", &keycloak(Client::Assertion)).join("\n");
    assert!(
        all.contains("kcadm.sh get clients -r mcp -q clientId=mcp-server")
            && all
                .contains("'attributes.\"jwt.credential.sub\"=system:serviceaccount:shop:backend'"),
        "{all}"
    );
    let (realm, issuer) = oauth::keycloak(keycloak(Client::Key).authority.as_ref().unwrap())
        .map(|(r, i)| (r.to_owned(), i))
        .unwrap();
    assert_eq!(
        (&*realm, &*issuer),
        ("mcp", "https://kc.example.com/auth/realms/mcp")
    );
    for other in [
        "https://a/token",
        "https://a/realms//protocol/openid-connect/token",
        "https://a/realms/a/b/protocol/openid-connect/token",
    ] {
        assert_eq!(oauth::keycloak(&other.parse().unwrap()), None, "{other}");
    }
}

#[test]
fn google_gets_its_pool_and_its_account() {
    let all = exchange("google_permission_denied", &google()).join("\n");
    assert!(
        all.contains("add-iam-policy-binding 'sa@project.iam.gserviceaccount.com'")
            || all.contains("add-iam-policy-binding sa@project.iam.gserviceaccount.com"),
        "{all}"
    );
    assert!(all.contains("principal://iam.googleapis.com/projects/1234/locations/global/workloadIdentityPools/pool/subject/system:serviceaccount:shop:backend"), "{all}");
    let all = exchange("invalid_grant", &google()).join("\n");
    assert!(
        all.contains(
            "providers describe aks --workload-identity-pool=pool --location=global --project=1234"
        ),
        "{all}"
    );
}

#[test]
fn what_runs_in_this_pod_is_looked_for_in_this_pod() {
    let local = Facts {
        host: Some("127.0.0.1".into()),
        ..facts()
    };
    let all = network::unreachable("connection_refused", &local).join("\n");
    assert!(
        all.starts_with("kubectl get pod backend-0 -n shop") && !all.contains("reach-check"),
        "{all}"
    );
}

/// Values come from configurations and tokens: whatever they hold stays one word, or goes.
#[test]
fn foreign_values_cannot_break_out_of_a_command() {
    const EVIL: &str = "x'; reboot #\n\"$(reboot)`reboot`";
    let evil = |client| Facts {
        issuer: Some(EVIL.into()),
        subject: Some(format!("system:serviceaccount:{EVIL}:{EVIL}")),
        audiences: vec![EVIL.into()],
        pod: Some(EVIL.into()),
        node: Some(EVIL.into()),
        client_id: Some(EVIL.into()),
        tenant_id: Some(EVIL.into()),
        scope: Some(EVIL.into()),
        host: Some(EVIL.into()),
        provider: None,
        service_account: Some(EVIL.into()),
        client,
        ..keycloak(client)
    };
    let mut all = Vec::new();
    for client in [Client::Unknown, Client::Secret, Client::Assertion] {
        let evil = evil(client);
        for known in all_known() {
            all.extend(exchange(known.code, &evil));
        }
        for code in every::NETWORK {
            all.extend(network::unreachable(code, &evil));
        }
        for error in SubjectError::ALL {
            all.extend(kubernetes::subject(error, true, &evil));
        }
        all.extend(kubernetes::binding(&evil));
        let google = Facts {
            provider: Some(format!("//iam.googleapis.com/projects/{EVIL}")),
            ..evil
        };
        for code in every::GOOGLE {
            all.extend(exchange(code, &google));
        }
    }
    assert!(all.len() > 100);
    for command in all {
        assert_eq!(command.lines().count(), 1);
        for part in command.replace(" </dev/null", "").split(" | ") {
            let words = words(&replaced(part)).unwrap_or_else(|| panic!("{command}"));
            assert!(!words.iter().any(|w| w == "reboot"), "{command}");
        }
    }
}
