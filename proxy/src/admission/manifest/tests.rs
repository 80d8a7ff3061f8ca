//! Manifests in and out: what is touched, what stays, and that taking it out gives back the text to the byte.

use super::{super::tests, *};
use crate::admission::profile::Profile;

mod corpus;

fn inject_with(text: &str, profile: Profile) -> Result<Manifest, Vec<String>> {
    let profiles = Profiles([("default".to_owned(), profile)].into());
    apply(
        text,
        "m.yaml",
        Action::Inject {
            profiles: &profiles,
            check: &|_, _| Ok(()),
            profile: None,
        },
    )
}

fn inject(text: &str) -> Manifest {
    inject_with(text, tests::projected()).unwrap()
}

fn uninject(text: &str) -> String {
    apply(text, "m.yaml", Action::Uninject).unwrap().text
}

/// In, in again, out: and nothing was written anew.
fn there_and_back(text: &str) -> String {
    for profile in [
        tests::projected(),
        tests::profile(),
        Profile {
            native: false,
            ..tests::profile()
        },
    ] {
        let once = inject_with(text, profile.clone()).unwrap();
        assert!(
            !once.notes.iter().any(|n| n.contains("anew")),
            "{:?}\n{}",
            once.notes,
            once.text
        );
        assert_ne!(once.text, text);
        let twice = inject_with(&once.text, profile).unwrap();
        assert_eq!(twice.text, once.text);
        assert!(
            twice
                .notes
                .iter()
                .any(|n| n.ends_with("unchanged, the sidecar is in it")),
            "{:?}",
            twice.notes
        );
        assert_eq!(uninject(&once.text), text, "from:\n{}", once.text);
    }
    inject(text).text
}

const DEPLOYMENT: &str = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop   # é
spec:
  replicas: 2
  template:
    metadata:
      labels: {app: shop}
    spec:
      # two of them
      containers:
      # the server
      - name: shop
        image: \"shop:1\" # pinned
        env:
        - name: MODE
          value: 'yes'
        # where orders are
        - name: BACKEND_API_URL
          value: https://orders.example/api/  # with a slash

      # the cache
      - name: cache
        image: redis:7
        args:
        - --save
        - |
          60
          1
      # nothing here yet
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
";

#[test]
fn comments_and_order_stay() {
    let text = there_and_back(DEPLOYMENT);
    let expected = "\
# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop   # é
spec:
  replicas: 2
  template:
    metadata:
      labels: {app: shop, \"token-sidecar.io/injected\":\"true\"}
      annotations:
        token-sidecar.io/status: '{\"version\":1,\"profile\":\"default\",\"volumes\":[\"token-sidecar-token\"],\"created\":[[\"spec/initContainers\",\"absent\"],[\"spec/volumes\",\"absent\"],[\"metadata/annotations\",\"absent\"]],\"labels\":{\"token-sidecar.io/injected\":null},\"items\":[{\"container\":\"shop\",\"list\":\"env\",\"index\":1,\"done\":\"replaced\",\"was\":{\"name\":\"BACKEND_API_URL\",\"value\":\"https://orders.example/api/\"}}]}'
    spec:
      # two of them
      containers:
      # the server
      - name: shop
        image: \"shop:1\" # pinned
        env:
        - name: MODE
          value: 'yes'
        # where orders are
        - name: BACKEND_API_URL
          value: http://127.0.0.1:8080/  # with a slash

      # the cache
      - name: cache
        image: redis:7
        args:
        - --save
        - |
          60
          1
      initContainers:
      - name: token-sidecar
        image: registry.example/token-sidecar:1
        args:
        - --listen
        - 127.0.0.1:8080
        - --admin
        - '[::]:9090'
        - --workers
        - '2'
        env:
        - name: AZURE_FEDERATED_TOKEN_FILE
          value: /var/run/secrets/token-sidecar/token
        - name: AZURE_CLIENT_ID
          value: c
        - name: AZURE_TENANT_ID
          value: t
        - name: TOKEN_SIDECAR_UPSTREAM
          value: https://orders.example/api/
        - name: TOKEN_SIDECAR_SCOPE
          value: api://orders/.default
        - name: TOKEN_SIDECAR_LOG_LEVEL
          value: info
        imagePullPolicy: IfNotPresent
        livenessProbe:
          failureThreshold: 3
          httpGet:
            path: /livez
            port: 9090
          periodSeconds: 10
          timeoutSeconds: 2
        ports:
        - name: sidecar-admin
          containerPort: 9090
          protocol: TCP
        readinessProbe:
          failureThreshold: 2
          httpGet:
            path: /readyz
            port: 9090
          periodSeconds: 5
          timeoutSeconds: 2
        resources: {}
        restartPolicy: Always
        securityContext:
          allowPrivilegeEscalation: false
          capabilities:
            drop:
            - ALL
          privileged: false
          readOnlyRootFilesystem: true
          runAsGroup: 64117
          runAsNonRoot: true
          runAsUser: 64117
          seccompProfile:
            type: RuntimeDefault
        startupProbe:
          failureThreshold: 180
          httpGet:
            path: /startupz
            port: 9090
          periodSeconds: 1
          timeoutSeconds: 2
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
        - name: token-sidecar-token
          mountPath: /var/run/secrets/token-sidecar
          readOnly: true
      volumes:
      - name: token-sidecar-token
        projected:
          sources:
          - serviceAccountToken:
              audience: sts
              expirationSeconds: 3600
              path: token
      # nothing here yet
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
";
    for (i, (ours, theirs)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {}", i + 1);
    }
    assert_eq!(text, expected);
}

#[test]
fn in_many_forms() {
    for text in [
        // Lists that stand in, init containers and volumes of its own, a last line without an end.
        "kind: Pod\nmetadata:\n  name: p\n  labels:\n    a: b\n  annotations:\n    c: d\nspec:\n  initContainers:\n    # first\n    - name: i\n      image: x\n  containers:\n    - name: c\n      env:\n        - {name: BACKEND_API_URL, value: \"https://a.example\"}\n  volumes:\n    - name: v\n      emptyDir: {}",
        // All in flow style.
        "kind: Pod\nmetadata: {name: p, annotations: {}}\nspec: {containers: [{name: c, env: [{name: BACKEND_API_URL, value: https://a.example}]}], volumes: []}\n",
        // Empty where something comes to be; a dash alone on its line; key order upside down.
        "kind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          volumes: []\n          initContainers: []\n          restartPolicy: Never\n          containers:\n          -\n            env:\n            - value: https://a.example\n              name: BACKEND_API_URL\n            name: c\n        metadata: {}\nmetadata: {name: j}\n",
        // JSON.
        "{\n  \"kind\": \"Pod\",\n  \"metadata\": {\"name\": \"p\"},\n  \"spec\": {\"containers\": [{\"name\": \"c\", \"env\": [{\"name\": \"BACKEND_API_URL\", \"value\": \"https://a.example\"}]}]}\n}\n",
        // Line ends of another system.
        "kind: Pod\r\nmetadata:\r\n  name: p\r\nspec:\r\n  containers:\r\n  - name: c\r\n    env:\r\n    - name: BACKEND_API_URL\r\n      value: https://a.example\r\n",
        // A list, and documents.
        "---\nkind: List\nitems:\n- kind: Pod\n  metadata:\n    name: a\n  spec:\n    containers:\n    - name: c\n      env:\n      - name: BACKEND_API_URL\n        value: https://a.example\n- kind: ConfigMap\n  data: {x: y}\n---\n# empty\n---\nkind: StatefulSet\nmetadata:\n  name: s\nspec:\n  template:\n    spec:\n      containers:\n      - name: c\n        env:\n        - name: BACKEND_API_URL\n          value: 'https://b.example'\n        image: x\n  volumeClaimTemplates: []\n...\n",
    ] {
        if text.contains("CronJob") {
            let once = inject(text);
            assert_eq!(inject(&once.text).text, once.text);
            assert_eq!(uninject(&once.text), text);
        } else {
            there_and_back(text);
        }
    }
}

#[test]
fn json_stays_json() {
    let text = "{\"kind\": \"Pod\", \"spec\": {\"containers\": [{\"name\": \"c\", \"env\": [{\"name\": \"BACKEND_API_URL\", \"value\": \"https://a.example\"}]}]}}";
    let after: Value = serde_json::from_str(&inject(text).text).unwrap();
    assert_eq!(after["spec"]["initContainers"][0]["name"], "token-sidecar");
}

/// An alias stays one while it means what is wanted, and is written out where it does not.
#[test]
fn aliases_and_merge_keys_stay_where_they_can() {
    let text = there_and_back(
        "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    env: &env\n    - name: BACKEND_API_URL\n      value: &url https://a.example\n  - &d\n    name: d\n    env: *env\n    args: [*url]\n  - <<: *d\n    name: e\n",
    );
    assert!(
        text.contains(
            "  - name: c\n    env: &env\n    - name: BACKEND_API_URL\n      value: &url http://127.0.0.1:8080\n  - &d\n    name: d\n    env: *env\n    args: [\"https://a.example\"]\n  - <<: *d\n    name: e\n"
        ),
        "{text}"
    );
    // Where what it refers to goes, it is written out.
    let text = there_and_back(
        "kind: Pod\nmetadata: {name: p}\nspec:\n  volumes: &none []\n  tolerations: *none\n  containers:\n  - name: c\n    env:\n    - name: BACKEND_API_URL\n      valueFrom: &from {configMapKeyRef: {name: s, key: k}}\n    - name: OTHER\n      valueFrom: *from\n    - {<<: {name: MORE}, valueFrom: *from}\n",
    );
    assert!(
        text.contains(
            "\n    - name: OTHER\n      valueFrom:\n        configMapKeyRef:\n          name: s\n"
        ) && text.contains("MORE}, valueFrom: {\"configMapKeyRef\":")
            && text.contains("  tolerations: []\n"),
        "{text}"
    );
    // What `<<` brings and is to be another is overridden; what it brings and is to go is written out with all the rest.
    let text = there_and_back(
        "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - &c\n    name: c\n    image: i\n    env:\n    - name: BACKEND_API_URL\n      value: https://a.example\n  - <<: *c\n    name: d\n    env:\n    - name: BACKEND_API_URL\n      value: https://b.example\n  - <<: [{name: e, env: [{name: BACKEND_API_URL, value: https://b.example}]}, *c]\n",
    );
    assert!(
        text.contains("\n  - <<: [{name: e, env: [{name: BACKEND_API_URL, value: https://b.example}]}, *c]\n    env:\n    - name: BACKEND_API_URL\n      value: http://127.0.0.1:8081\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_changed_in_place_is_written_anew_and_comes_back_all_the_same() {
    let text = "---\n# a comment\nkind: Pod\nmetadata: {name: p}\nspec:\n  initContainers:\n    &init\n  - name: i\n  containers:\n  - name: c\n    env:\n    - name: BACKEND_API_URL\n      value: https://a.example\n";
    let done = inject(text);
    assert!(
        done.notes.contains(
            &"m.yaml:3: written anew, without its comments: its YAML could not be changed in place"
                .to_owned()
        ),
        "{:?}",
        done.notes
    );
    assert!(
        done.text.starts_with("---\nkind: Pod\nmetadata:\n"),
        "{}",
        done.text
    );
    let value = yaml::value(&done.text).unwrap();
    assert_eq!(value["spec"]["initContainers"][1]["name"], "i");
    assert_eq!(
        value["spec"]["containers"][0]["env"][0]["value"],
        "http://127.0.0.1:8080"
    );
    assert_eq!(uninject(&done.text), text);
    // Too much to be remembered: that is said while the file is still there.
    let large = text.replace("# a comment", &"# a comment\n".repeat(2000));
    let done = inject(&large);
    assert!(
        done.notes
            .iter()
            .any(|n| n.ends_with("not every byte of its text; keep the file")),
        "{:?}",
        done.notes
    );
    assert_eq!(
        yaml::value(&uninject(&done.text)).unwrap(),
        yaml::value(&large).unwrap()
    );
}

/// It is said once, in or again.
#[test]
fn what_stands_on_the_deployment_is_said() {
    let said = DEPLOYMENT.replace(
        "metadata:\n  name: shop",
        "metadata:\n  annotations: {token-sidecar.io/inject: \"false\"}\n  name: shop",
    );
    assert_ne!(said, DEPLOYMENT);
    let note = "m.yaml:2: deployment/shop: token-sidecar.io/inject stands on the Deployment itself, which counts for nothing; put it under spec.template.metadata";
    let once = inject(&said);
    for done in [&once, &inject(&once.text)] {
        let notes = done.notes.iter().filter(|n| *n == note);
        assert_eq!(notes.count(), 1, "{:?}", done.notes);
    }
}

#[test]
fn a_sidecar_whose_status_is_lost_is_not_called_absent() {
    let once = inject(DEPLOYMENT).text;
    let lost = once.replace("token-sidecar.io/status", "other.example/status");
    assert_ne!(lost, once);
    let done = apply(&lost, "m.yaml", Action::Uninject).unwrap();
    assert_eq!(done.text, lost);
    assert_eq!(
        done.notes[0],
        "m.yaml:2: deployment/shop: left alone, though a container token-sidecar is in it: the annotation token-sidecar.io/status, which says what was done, is \
         not; take the container and its addresses (http://127.0.0.1:…) out by hand, or go back to the manifest before injection"
    );
}

#[test]
fn notes_say_what_was_done() {
    let pod = |name: &str, more: &str| {
        format!(
            "---\nkind: Pod\nmetadata: {{name: {name}{more}}}\nspec: {{containers: [{{name: c, env: [{{name: BACKEND_API_URL, value: https://a.example}}]}}]}}\n"
        )
    };
    let text = [
        pod("a", ""),
        pod("b", ", namespace: kube-system"),
        pod("c", ", labels: {token-sidecar.io/inject: \"false\"}"),
        "---\nkind: ConfigMap\nmetadata: {generateName: d-}\n".into(),
    ]
    .concat();
    let done = inject(&text);
    let expected = [
        "m.yaml:2: pod/a: sidecar put in",
        "m.yaml:6: pod/b: left alone, a namespace of the system",
        "m.yaml:10: pod/c: left alone, it says inject: \"false\"",
        "m.yaml:14: configmap/d-: left alone, no pod in it",
    ];
    assert_eq!(done.notes, expected);
    // By another profile it is put in from scratch.
    let anew = inject_with(&done.text, tests::profile()).unwrap();
    assert_eq!(
        anew.text,
        inject_with(&text, tests::profile()).unwrap().text
    );
}

#[test]
fn refusals_name_the_place_and_come_all_at_once() {
    let text = "kind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: c, env: [{name: BACKEND_API_URL, value: https://a.example}]}]}\n---\nkind: DaemonSet\nmetadata: {name: b}\nspec: {template: {spec: {hostPID: true, containers: [{name: c, env: [{name: BACKEND_API_URL, value: https://a.example}]}]}}}\n";
    let problems = inject_with(text, tests::profile()).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].starts_with("m.yaml:1: pod/a: hostNetwork: ")
            && problems[1].starts_with("m.yaml:5: daemonset/b: hostPID: "),
        "{problems:?}"
    );
    assert_eq!(
        inject_with("a: b\n c: d\n", tests::profile()).unwrap_err(),
        ["m.yaml:2:3: not YAML: mapping values are not allowed in this context"]
    );
}
