//! Commands for what a pod, its volumes, its service account and its node lack.

use super::{Facts, embedded, or};
use crate::token::subject::SubjectError;

/// The annotation and label of AKS' webhook.
const WORKLOAD_IDENTITY: &str = "azure.workload.identity";

/// What is mounted into which container, for a file that is not where it should be.
fn mounts(facts: &Facts) -> String {
    format!(
        "kubectl get pod {} -n {} -o jsonpath='{{range .spec.initContainers[*]}}{{.name}}{{\" \"}}{{.volumeMounts}}{{\"\\n\"}}{{end}}{{range .spec.containers[*]}}{{.name}}{{\" \"}}{{.volumeMounts}}{{\"\\n\"}}{{end}}'",
        facts.pod(),
        facts.namespace()
    )
}

/// The projected tokens of a pod, with their audiences and paths.
fn projected(facts: &Facts) -> String {
    format!(
        "kubectl get pod {} -n {} -o jsonpath='{{.spec.volumes[*].projected.sources[*].serviceAccountToken}}'",
        facts.pod(),
        facts.namespace()
    )
}

fn restart(facts: &Facts, why: &str) -> String {
    format!(
        "kubectl rollout restart deployment <deployment> -n {}   # {why}",
        facts.namespace()
    )
}

/// For a pod that AKS' webhook has not served.
fn served(facts: &Facts) -> Vec<String> {
    vec![
        format!(
            "kubectl patch deployment <deployment> -n {} --type merge -p '{{\"spec\":{{\"template\":{{\"metadata\":{{\"labels\":{{\"{WORKLOAD_IDENTITY}/use\":\"true\"}}}}}}}}}}'   # the label belongs on the pod, not on the Deployment or the service account",
            facts.namespace()
        ),
        "kubectl get pods -n kube-system -l azure-workload-identity.io/system=true   # none: az aks update --resource-group <group> --name <cluster> --enable-oidc-issuer --enable-workload-identity".into(),
    ]
}

/// For a container without the variables that AKS' webhook sets; `client`: also, or only, that of the client id.
pub(in super::super) fn without_variables(client: bool, facts: &Facts) -> Vec<String> {
    let labels = format!(
        "kubectl get pod {} -n {} -o jsonpath='{{.metadata.labels}}{{\"\\n\"}}{{.metadata.annotations}}{{\"\\n\"}}{{.spec.serviceAccountName}}'   # {WORKLOAD_IDENTITY}/use, and this container not among skip-containers",
        facts.pod(),
        facts.namespace()
    );
    let mut all = vec![labels];
    all.extend(served(facts));
    if client {
        all.extend(annotate("client-id", "<right client id>", facts));
    }
    all
}

/// For a subject token's file that is not usable. `webhook`: AKS' webhook would have mounted it.
pub(in super::super) fn subject(error: SubjectError, webhook: bool, facts: &Facts) -> Vec<String> {
    match error {
        SubjectError::Missing if webhook => [vec![mounts(facts)], served(facts)].concat(),
        SubjectError::Missing => vec![mounts(facts), projected(facts)],
        SubjectError::Unreadable => vec![format!(
            "kubectl get pod {} -n {} -o jsonpath='{{.spec.securityContext}}{{\"\\n\"}}{{range .spec.initContainers[*]}}{{.name}}{{\" \"}}{{.securityContext}}{{\"\\n\"}}{{end}}{{range .spec.containers[*]}}{{.name}}{{\" \"}}{{.securityContext}}{{\"\\n\"}}{{end}}'   # fsGroup, or the runAsUser that owns the file",
            facts.pod(),
            facts.namespace()
        )],
        SubjectError::Empty | SubjectError::TooLarge | SubjectError::NotAJwt => {
            vec![mounts(facts), projected(facts)]
        }
        SubjectError::Expired => rotation(facts),
    }
}

/// For a token that the kubelet does not rotate.
pub(in super::super) fn rotation(facts: &Facts) -> Vec<String> {
    vec![
        format!(
            "kubectl get events -n {} --field-selector involvedObject.name={}   # FailedMount: the kubelet cannot get a new token",
            facts.namespace(),
            facts.pod()
        ),
        format!(
            "kubectl describe node {}   # is it Ready, has the kubelet stopped posting its status",
            facts.node()
        ),
        format!(
            "kubectl delete pod {} -n {}   # a new pod gets a new token",
            facts.pod(),
            facts.namespace()
        ),
    ]
}

/// For a file that is mounted with `subPath`.
pub(in super::super) fn sub_path(facts: &Facts) -> Vec<String> {
    vec![
        mounts(facts),
        restart(facts, "once the volume is mounted whole, without subPath"),
    ]
}

/// For a node whose clock is wrong.
pub(in super::super) fn clock(facts: &Facts) -> Vec<String> {
    let node = facts.node();
    vec![
        format!(
            "kubectl debug node/{node} -it --image=busybox -- date -u   # compare with a machine whose clock is right"
        ),
        format!(
            "kubectl drain {node} --ignore-daemonsets --delete-emptydir-data   # then repair its time synchronisation, or replace it"
        ),
    ]
}

/// For a cluster without a public issuer.
pub(in super::super) fn issuer(facts: &Facts) -> Vec<String> {
    vec![
        "az aks update --resource-group <group> --name <cluster> --enable-oidc-issuer --enable-workload-identity".into(),
        "az aks show --resource-group <group> --name <cluster> --query oidcIssuerProfile.issuerUrl --output tsv".into(),
        restart(facts, "tokens made before have the old issuer"),
    ]
}

/// For a token of another audience than `wanted`.
pub(in super::super) fn audience(wanted: &str, facts: &Facts) -> Vec<String> {
    vec![format!(
        "{}   # audience: must be {}",
        projected(facts),
        super::quoted(wanted)
    )]
}

/// For a service account whose annotation is not there, or wrong.
pub(in super::super) fn annotate(key: &str, value: &str, facts: &Facts) -> Vec<String> {
    let (namespace, account) = (facts.namespace(), facts.service_account_name());
    vec![
        format!(
            "kubectl get serviceaccount {account} -n {namespace} -o jsonpath='{{.metadata.annotations}}'"
        ),
        format!(
            "kubectl annotate serviceaccount {account} -n {namespace} {WORKLOAD_IDENTITY}/{key}={value} --overwrite   # with the chart: helm upgrade, azure.{}",
            if key == "tenant-id" {
                "tenantId"
            } else {
                "clientId"
            }
        ),
        restart(facts, "annotations are read when a pod is made"),
    ]
}

/// For a secret's, key's or certificate's file that is not there or not usable.
pub(in super::super) fn secret_file(facts: &Facts) -> Vec<String> {
    vec![
        mounts(facts),
        format!(
            "kubectl describe secret -n {}   # its keys, and how many bytes each has: shows no value",
            facts.namespace()
        ),
    ]
}

/// For a secret that is there, and wrong.
pub(in super::super) fn replace_secret(facts: &Facts) -> Vec<String> {
    vec![format!(
        "kubectl create secret generic <secret> -n {} --from-file=<key>=<file> --dry-run=client -o yaml | kubectl apply -f -   # the file as it is, nothing before or after it",
        facts.namespace()
    )]
}

/// For a configuration that must change.
pub(in super::super) fn configuration(facts: &Facts) -> Vec<String> {
    vec![format!(
        "helm get values <release> -n {}   # then helm upgrade with the value corrected",
        facts.namespace()
    )]
}

/// For what a container is told by its environment.
pub(in super::super) fn environment(facts: &Facts) -> Vec<String> {
    vec![format!(
        "kubectl get pod {} -n {} -o jsonpath='{{range .spec.initContainers[*]}}{{.name}}{{\" \"}}{{.env}}{{\"\\n\"}}{{end}}{{range .spec.containers[*]}}{{.name}}{{\" \"}}{{.env}}{{\"\\n\"}}{{end}}'",
        facts.pod(),
        facts.namespace()
    )]
}

/// For an identity binding that does not let this service account use the identity.
pub(in super::super) fn binding(facts: &Facts) -> Vec<String> {
    let (namespace, name) = facts
        .account()
        .unwrap_or(("<namespace>", "<service account>"));
    vec![format!(
        "kubectl auth can-i use-managed-identity {}.cid.wi.aks.azure.com --as=system:serviceaccount:{}:{}   # no: a ClusterRole, or its binding, is missing",
        or(facts.client_id.as_deref(), "<client id>"),
        embedded(Some(namespace), "<namespace>"),
        embedded(Some(name), "<service account>"),
    )]
}

/// For what should listen in the pod itself, and does not.
pub(in super::super) fn containers(facts: &Facts) -> Vec<String> {
    vec![format!(
        "kubectl get pod {} -n {} -o jsonpath='{{range .status.initContainerStatuses[*]}}{{.name}}{{\" \"}}{{.state}}{{\"\\n\"}}{{end}}{{range .status.containerStatuses[*]}}{{.name}}{{\" \"}}{{.state}}{{\"\\n\"}}{{end}}'",
        facts.pod(),
        facts.namespace()
    )]
}

/// For a sidecar that is not where it should be, or not ready.
pub(in super::super) fn sidecar(facts: &Facts) -> Vec<String> {
    vec![
        format!(
            "kubectl get pods -n {} -l app.kubernetes.io/part-of=token-sidecar -o wide",
            facts.namespace()
        ),
        format!(
            "kubectl logs {} -n {} -c token-sidecar",
            facts.pod(),
            facts.namespace()
        ),
    ]
}
