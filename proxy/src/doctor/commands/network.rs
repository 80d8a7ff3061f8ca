//! Commands for what cannot be reached, by the layer's code.

use super::Facts;
use crate::net::guard::is_loopback_name;

/// For what cannot be reached. The codes are those of `Proxy-Status` (RFC 9209), and of the proxy.
pub(in super::super) fn unreachable(code: &str, facts: &Facts) -> Vec<String> {
    let (namespace, host, port) = (facts.namespace(), facts.host(), facts.port());
    let elsewhere = |command: String| {
        format!(
            "kubectl run reach-check --rm -it --restart=Never --image=busybox -n default -- {command}   # another result there: this namespace's policies are in the way"
        )
    };
    let policies = |what: String| {
        format!(
            "kubectl describe networkpolicy -n {namespace}   # egress {what}; with Cilium also ciliumnetworkpolicy"
        )
    };
    if facts.host.as_deref().is_some_and(is_loopback_name) && code.starts_with("connection") {
        return super::kubernetes::containers(facts);
    }
    match code {
        "dns_silent" => vec![
            policies("to DNS: port 53, UDP and TCP".into()),
            elsewhere(format!("nslookup {host}")),
            "kubectl get pods -n kube-system -l k8s-app=kube-dns".into(),
        ],
        "dns_error" | "destination_ip_prohibited" => vec![elsewhere(format!("nslookup {host}"))],
        "tls_certificate_error" | "tls_alert_received" | "tls_protocol_error" | "tls_timeout" => {
            vec![format!(
                "openssl s_client -connect {host}:{port} -servername {host} -showcerts </dev/null   # from this network: who signed it"
            )]
        }
        "proxy_tunnel" | "proxy_timeout" => super::kubernetes::environment(facts),
        "connection_refused" => vec![elsewhere(format!("nc -vz -w 5 {host} {port}"))],
        _ => vec![
            policies(format!("to {host}, port {port}")),
            elsewhere(format!("nc -vz -w 5 {host} {port}")),
            "az aks show --resource-group <group> --name <cluster> --query networkProfile.outboundType --output tsv   # userDefinedRouting: the firewall must let it through".into(),
        ],
    }
}
