//! Pods in service meshes: where the sidecar goes, and what is refused since the proxy and the sidecar would wait for each other.

use super::*;

const ORDINARY: &str = "make the sidecar an ordinary container (annotation token-sidecar.io/native: \"false\", or `native: false` of the profile)";

/// A pod with these init containers and further containers; a name that ends in `+` is a native sidecar's.
fn meshed(init: &[&str], containers: &[&str]) -> Value {
    let mut pod = pod();
    for (list_name, names) in [("initContainers", init), ("containers", containers)] {
        for name in names {
            let container = match name.strip_suffix('+') {
                Some(name) => json!({"name": name, "restartPolicy": "Always"}),
                None => json!({"name": name}),
            };
            list(&mut pod["spec"], list_name).push(container);
        }
    }
    pod
}

fn order(pod: &Value) -> Vec<&str> {
    let init = pod["spec"]["initContainers"].as_array().unwrap();
    init.iter().map(|c| c["name"].as_str().unwrap()).collect()
}

fn annotated(mut pod: Value, annotations: &[(&str, &str)]) -> Value {
    for (key, value) in annotations {
        pod["metadata"]["annotations"][*key] = json!(value);
    }
    pod
}

#[test]
fn the_sidecar_goes_where_it_has_the_network() {
    for (init, containers, expected) in [
        // The proxy is native: behind it, before the workload's own.
        (
            vec!["istio-init", "istio-proxy+", "migrate"],
            vec![],
            vec!["istio-init", "istio-proxy", "token-sidecar", "migrate"],
        ),
        (
            vec!["istio-validation", "istio-proxy+"],
            vec![],
            vec!["istio-validation", "istio-proxy", "token-sidecar"],
        ),
        (
            vec!["linkerd-network-validator", "linkerd-proxy+", "a"],
            vec![],
            vec![
                "linkerd-network-validator",
                "linkerd-proxy",
                "token-sidecar",
                "a",
            ],
        ),
        (
            vec!["consul-connect-inject-init-web", "consul-dataplane-web+"],
            vec![],
            vec![
                "consul-connect-inject-init-web",
                "consul-dataplane-web",
                "token-sidecar",
            ],
        ),
        // The workload's come before it: they need the sidecar.
        (
            vec!["migrate", "linkerd-init", "linkerd-proxy+"],
            vec![],
            vec!["token-sidecar", "migrate", "linkerd-init", "linkerd-proxy"],
        ),
        // It is not: before it takes the network away.
        (
            vec!["migrate", "istio-init"],
            vec!["istio-proxy"],
            vec!["token-sidecar", "migrate", "istio-init"],
        ),
        (
            vec!["linkerd-init", "migrate"],
            vec!["linkerd-proxy"],
            vec!["token-sidecar", "linkerd-init", "migrate"],
        ),
        (
            vec!["istio-initial", "consul-dataplaned+"],
            vec![],
            vec!["token-sidecar", "istio-initial", "consul-dataplaned"],
        ),
    ] {
        let pod = meshed(&init, &containers);
        let after = injected(&pod, profile());
        assert_eq!(order(&after), expected);
        assert_eq!(with(&after, profile()).unwrap().outcome, Outcome::Unchanged);
        assert_eq!(remove(&after).unwrap().unwrap(), pod);
    }
    // And when the mesh comes between the two calls.
    let mut late = injected(&meshed(&["migrate"], &[]), profile());
    let init = list(&mut late["spec"], "initContainers");
    init.insert(0, json!({"name": "linkerd-init"}));
    list(&mut late["spec"], "containers").push(json!({"name": "linkerd-proxy"}));
    let again = injected(&late, profile());
    assert_eq!(order(&again), ["token-sidecar", "linkerd-init", "migrate"]);
    assert_eq!(with(&again, profile()).unwrap().outcome, Outcome::Unchanged);
}

#[test]
fn who_would_wait_for_each_other_is_refused() {
    let early = |mesh: &str, native: &str, out: &str, into: &str| {
        format!(
            "{mesh}'s network plugin leads the pod's connections to a proxy that is an ordinary container, which starts only once the sidecar has its first \
             token: neither would ever start; {native}{ORDINARY}, or lead the sidecar's calls and probes past the proxy (annotations {out}: \"443\" and \
             {into}: \"9090\")"
        )
    };
    let native = |annotation: &str| {
        format!("make it a native sidecar (annotation {annotation}: \"true\"), or ")
    };
    let (istio, linkerd, consul) = (
        meshed(&["istio-validation"], &["istio-proxy"]),
        meshed(&["linkerd-network-validator"], &["linkerd-proxy"]),
        annotated(
            meshed(&["consul-connect-inject-init"], &["consul-dataplane"]),
            &[("consul.hashicorp.com/redirect-traffic-config", "{}")],
        ),
    );
    for (pod, expected, past) in [
        (
            istio,
            early(
                "Istio",
                &native("sidecar.istio.io/nativeSidecar"),
                "traffic.sidecar.istio.io/excludeOutboundPorts",
                "traffic.sidecar.istio.io/excludeInboundPorts",
            ),
            [
                "traffic.sidecar.istio.io/excludeOutboundPorts",
                "traffic.sidecar.istio.io/excludeInboundPorts",
            ],
        ),
        (
            linkerd,
            early(
                "Linkerd",
                &native("config.beta.linkerd.io/proxy-enable-native-sidecar"),
                "config.linkerd.io/skip-outbound-ports",
                "config.linkerd.io/skip-inbound-ports",
            ),
            [
                "config.linkerd.io/skip-outbound-ports",
                "config.linkerd.io/skip-inbound-ports",
            ],
        ),
        (
            consul,
            early(
                "Consul",
                "",
                "consul.hashicorp.com/transparent-proxy-exclude-outbound-ports",
                "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
            ),
            [
                "consul.hashicorp.com/transparent-proxy-exclude-outbound-ports",
                "consul.hashicorp.com/transparent-proxy-exclude-inbound-ports",
            ],
        ),
    ] {
        let refused = |pod: &Value| with(pod, profile()).map(|i| i.pod().clone()).unwrap_err();
        assert_eq!(refused(&pod), [expected.as_str()]);
        // Each way out that is named is one.
        let ordinary = annotated(pod.clone(), &[("token-sidecar.io/native", "false")]);
        assert_eq!(
            with(&ordinary, profile()).unwrap().warnings,
            Vec::<String>::new()
        );
        let mut made_native = pod.clone();
        let proxy = list(&mut made_native["spec"], "containers").pop().unwrap();
        let init = list(&mut made_native["spec"], "initContainers");
        init.push(proxy);
        init[1]["restartPolicy"] = "Always".into();
        injected(&made_native, profile());
        for (inbound, enough) in [
            ("9090", true),
            ("80, 9000-9100", true),
            ("80,9091", false),
            ("", false),
        ] {
            let past = annotated(pod.clone(), &[(past[0], "443"), (past[1], inbound)]);
            assert_eq!(with(&past, profile()).is_ok(), enough, "{inbound}");
        }
        assert_eq!(refused(&annotated(pod, &[(past[1], "9090")])), [expected]);
    }
}

/// Istio's agent passes probes on, and is not there yet.
#[test]
fn probes_that_nobody_would_answer_are_refused() {
    let mut pod = injected(&pod(), profile());
    pod["spec"]["initContainers"][0]["startupProbe"]["httpGet"] =
        json!({"path": "/app-health/token-sidecar/startupz", "port": 15020});
    list(&mut pod["spec"], "initContainers").push(json!({"name": "istio-init"}));
    let mut native = pod.clone();
    list(&mut native["spec"], "initContainers")
        .insert(1, json!({"name": "istio-proxy", "restartPolicy": "Always"}));
    list(&mut pod["spec"], "containers").push(json!({"name": "istio-proxy"}));
    assert_eq!(
        with(&pod, profile()).map(|i| i.pod().clone()).unwrap_err(),
        [format!(
            "Istio's proxy answers the sidecar's probes, and is an ordinary container, which starts only once they have succeeded: neither would ever start; make it a \
             native sidecar (annotation sidecar.istio.io/nativeSidecar: \"true\"), or {ORDINARY}"
        )]
    );
    let sidecar = with(&native, profile()).unwrap();
    assert_eq!(sidecar.warnings, Vec::<String>::new());
}

#[test]
fn what_may_turn_out_so_is_said() {
    let warned = |pod: &Value| with(pod, profile()).unwrap().warnings;
    let comes = |mesh: &str, key: &str, native: &str| {
        vec![format!(
            "the pod asks for {mesh}'s proxy ({key}): unless that becomes a native sidecar, too, it starts only after this one, which may then wait for it without end; \
             {native}{ORDINARY}"
        )]
    };
    let istio =
        "make it a native sidecar (annotation sidecar.istio.io/nativeSidecar: \"true\"), or ";
    let linkerd = "make it a native sidecar (annotation config.beta.linkerd.io/proxy-enable-native-sidecar: \"true\"), or ";
    let mut labelled = pod();
    labelled["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "true"});
    assert_eq!(
        warned(&labelled),
        comes("Istio", "sidecar.istio.io/inject", istio)
    );
    let asks = |key: &str, value: &str| annotated(pod(), &[(key, value)]);
    assert_eq!(
        warned(&asks("sidecar.istio.io/inject", "true")),
        comes("Istio", "sidecar.istio.io/inject", istio)
    );
    for value in ["enabled", "ingress"] {
        let asking = asks("linkerd.io/inject", value);
        assert_eq!(
            warned(&asking),
            comes("Linkerd", "linkerd.io/inject", linkerd)
        );
        // The annotation was called otherwise before, and will be.
        for stage in ["beta.", "alpha.", ""] {
            let key = format!("config.{stage}linkerd.io/proxy-enable-native-sidecar");
            let native = annotated(asking.clone(), &[(&key, "true")]);
            assert_eq!(warned(&native), Vec::<String>::new());
        }
    }
    assert_eq!(
        warned(&asks("consul.hashicorp.com/connect-inject", "true")),
        comes("Consul", "consul.hashicorp.com/connect-inject", "")
    );
    let none = Vec::<String>::new();
    assert_eq!(warned(&asks("sidecar.istio.io/inject", "false")), none);
    assert_eq!(warned(&asks("linkerd.io/inject", "disabled")), none);
    for (key, value) in [
        ("sidecar.istio.io/nativeSidecar", "true"),
        ("token-sidecar.io/native", "false"),
    ] {
        assert_eq!(
            warned(&annotated(
                asks("sidecar.istio.io/inject", "true"),
                &[(key, value)]
            )),
            none,
            "{key}"
        );
    }
    // Here the sidecar has its token before the network is taken away, unless the mesh leads to it.
    assert_eq!(
        warned(&meshed(&["linkerd-init"], &["linkerd-proxy"])),
        [format!(
            "Linkerd's proxy is an ordinary container and starts after the sidecar, which cannot reach until then what only the mesh reaches; if its tokens come from \
             there, {linkerd}{ORDINARY}"
        )]
    );
}
