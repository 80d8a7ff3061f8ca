//! The table is complete, filled in, and safe to paste.

use super::*;

const FACTS: Facts<'static> = Facts {
    issuer: Some("https://westeurope.oic.prod-aks.azure.com/t/i/"),
    subject: Some("system:serviceaccount:shop:backend"),
    client_id: Some("22222222-2222-4222-8222-222222222222"),
    scope: Some("api://backend/.default"),
    host: Some("login.microsoftonline.com"),
};

/// Every AADSTS number that a federated pod can meet.
const AADSTS: &[u64] = &[
    70021, 700_211, 700_212, 700_213, 7_002_138, 70025, 700_024, 700_016, 700_011, 90002, 900_144,
    90023, 9_002_313, 9_001_023, 500_011, 50001, 650_057, 70011, 28002, 700_022, 7_000_215,
    7_000_222, 7_000_218, 700_222, 700_229, 700_238, 700_223, 700_027, 90061, 50013, 500_131,
    500_133, 65001, 50105, 53003, 530_035, 50005, 53000, 70043, 1_002_016, 900_382, 90038, 900_439,
    7_000_112, 70001, 90055, 90024, 90033, 90006, 50033, 90012, 50196, 82001,
];

#[test]
fn every_known_number_has_a_command_of_its_own() {
    for number in AADSTS {
        let code = format!("aadsts_{number}");
        let commands = exchange(&code, &FACTS);
        assert!(!commands.is_empty(), "{code}");
        for command in commands {
            let program = command.split(' ').next().unwrap();
            assert!(
                ["az", "kubectl", "curl", "openssl", "token-sidecar"].contains(&program),
                "{code}: {command}"
            );
            assert_eq!(command.lines().count(), 1, "{code}");
        }
    }
    assert!(exchange("aadsts_other", &FACTS).is_empty());
}

#[test]
fn the_values_at_hand_are_filled_in() {
    let commands = exchange("aadsts_700213", &FACTS).join("\n");
    assert!(commands.contains(
        "--issuer https://westeurope.oic.prod-aks.azure.com/t/i/ --subject system:serviceaccount:shop:backend --audiences api://AzureADTokenExchange"
    ), "{commands}");
    assert!(commands.contains("az ad app federated-credential create --id 22222222-2222-4222-8222-222222222222 --parameters '{"), "{commands}");
    let commands = exchange("aadsts_700016", &FACTS).join("\n");
    assert!(
        commands.contains("kubectl annotate serviceaccount backend -n shop azure.workload.identity/client-id=<client id> --overwrite"),
        "{commands}"
    );
    let commands = exchange("aadsts_500011", &FACTS).join("\n");
    assert!(commands.contains("api://backend"), "{commands}");
    assert!(
        exchange("aadsts_700213", &Facts::default())
            .join("\n")
            .contains("--issuer <issuer> --subject <subject>")
    );
}

#[test]
fn foreign_values_cannot_break_out_of_a_command() {
    let evil = Facts {
        subject: Some("system:serviceaccount:a b:c'; rm -rf / #"),
        issuer: Some("https://x/$(reboot)"),
        ..FACTS
    };
    for code in ["aadsts_700213", "aadsts_700016", "aadsts_90061"] {
        for command in exchange(code, &evil) {
            let outside: String = {
                // What a shell would read outside of single quotes.
                let mut quoted = false;
                let mut escaped = false;
                command
                    .chars()
                    .filter(|c| {
                        if escaped {
                            escaped = false;
                            return false;
                        }
                        match c {
                            '\\' if !quoted => escaped = true,
                            '\'' => quoted = !quoted,
                            _ => return !quoted,
                        }
                        false
                    })
                    .collect()
            };
            let outside = outside.split("   #").next().unwrap().to_owned();
            assert!(
                !outside.contains("rm -rf") && !outside.contains("$("),
                "{command}"
            );
        }
    }
}

#[test]
fn every_way_a_file_can_be_wrong_has_a_command() {
    for error in SubjectError::ALL {
        assert!(!subject(error).is_empty(), "{error}");
    }
    for code in [
        "dns_error",
        "connection_refused",
        "connection_timeout",
        "tls_certificate_error",
        "proxy_tunnel",
        "destination_ip_prohibited",
    ] {
        assert!(!network(code, &FACTS).is_empty(), "{code}");
    }
}
