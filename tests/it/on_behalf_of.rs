//! The whole way of a caller: token, handle, workload, handle, exchange, upstream. Real processes, real sockets; the workload holds no credential,
//! neither the pod's nor the caller's, and its memory, traffic and logs are searched for every one in play.

use crate::{
    credential_free::{contains, found_in_memory},
    inbound_lab::{RESOURCE, bare, send, with_token},
    lab::{Lab, PATIENT, program, start},
};
use harness::{
    authority::{Endpoint, Fault, Options},
    body,
    client::{Answer, Client},
    keys,
    process::{McpServer, Sidecar, mcp_server::rpc},
    tap::Tap,
    workload::Workload,
};
use http::{Request, header};
use serde_json::json;
use std::net::SocketAddr;

/// A lab whose token endpoint exchanges callers' tokens: they are the cluster issuer's, for the workload.
pub(crate) async fn lab() -> Lab {
    Lab::with(Options {
        sts_subject_audiences: vec![RESOURCE.into()],
        ..Options::default()
    })
    .await
}

/// A caller's token.
pub(crate) fn token(lab: &Lab, subject: &str) -> String {
    let issuer = lab.authority.issuer();
    let mut claims = issuer.claims(&harness::issuer::ProjectedToken {
        audiences: vec![RESOURCE.into()],
        ..Default::default()
    });
    claims["sub"] = json!(subject);
    claims["scope"] = json!("tools.call");
    issuer.sign(&claims).unwrap()
}

/// A configuration with both sides of a workload at `workload`. `inbound`: further keys of the inbound side; `more`: of the route. Both as flow-style YAML
/// behind a comma.
pub(crate) fn config(lab: &Lab, workload: SocketAddr, inbound: &str, more: &str) -> String {
    format!(
        "listen: '{{listen}}'\nadmin: '{{admin}}'\nlog: {{ level: trace }}\n\
         inbound: {{ listen: '{{inbound}}', upstream: 'http://{workload}', resource: '{RESOURCE}', issuers: [{{ issuer: '{}' }}]{inbound} }}\n\
         credentials:\n  backend: {{ tokenExchange: {{ tokenEndpoint: '{}', subjectToken: caller, subjectTokenType: 'urn:ietf:params:oauth:token-type:jwt', audience: [api://backend] }} }}\n\
         \x20 pod: {{ entraClientAssertion: {{ scope: api://backend/.default }} }}\n\
         routes:\n  - {{ name: backend, upstream: '{}', credential: backend{PATIENT}{more} }}\n\
         \x20 - {{ name: pod, match: {{ pathPrefix: /pods-own }}, upstream: '{}', credential: pod }}\n",
        lab.authority.issuer().url(),
        lab.authority.token_endpoint(),
        lab.upstream.url(),
        lab.upstream.url(),
    )
}

/// A sidecar with such a configuration, ready; `more`: further keys of the route.
async fn sidecar(lab: &Lab, workload: SocketAddr, more: &str) -> Sidecar {
    configured(lab, config(lab, workload, "", more)).await
}

/// A sidecar with this configuration, ready.
pub(crate) async fn configured(lab: &Lab, config: String) -> Sidecar {
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    sidecar
}

fn exchanges(lab: &Lab) -> usize {
    lab.authority
        .issued()
        .count(|issued| issued.endpoint == Endpoint::Sts)
}

/// On behalf of its caller without a secret, by a proxy that the application does not know of: it does nothing but pass on the header that it was
/// called with. Asked for in Azure/data-api-builder#3641 and envoyproxy/gateway#10026.
#[tokio::test]
async fn a_workload_that_passes_on_its_callers_header_acts_on_their_behalf() {
    let lab = lab().await;
    let workload = Workload::start().await.unwrap();
    let sidecar = sidecar(&lab, workload.address(), "").await;
    workload.set_backend(sidecar.listen());
    let (ada, bob) = (token(&lab, "ada"), token(&lab, "bob"));
    for (caller, subject) in [(&ada, "ada"), (&bob, "bob"), (&ada, "ada")] {
        let answer = send(&sidecar, with_token("/call?path=/users/7", caller)).await;
        assert_eq!(
            answer.status,
            200,
            "{}\n{}",
            answer.text(),
            sidecar.process.output()
        );
        let request = lab.authority.requests().all();
        let exchange = request
            .iter()
            .rfind(|r| r.endpoint == Endpoint::Sts)
            .unwrap();
        let sent = lab.upstream.requests().last().unwrap();
        let claims = keys::peek(sent.bearer().unwrap()).unwrap();
        assert_eq!(
            (&claims["sub"], &claims["aud"]),
            (&json!(subject), &json!(["api://backend"]))
        );
        if subject == "bob" {
            assert_eq!(exchange.field("subject_token"), Some(bob.as_str()));
        }
        assert!(
            sent.bearer() != Some(caller.as_str()),
            "never the caller's own token"
        );
        let handle = workload.received().last().unwrap();
        assert!(handle.handle().is_some_and(|h| h.len() == 43));
    }
    assert_eq!(
        exchanges(&lab),
        2,
        "one for each caller: the third call was served from memory"
    );
}

/// Without a good handle there is no identity at all: not the caller's, and not the pod's in its place.
#[tokio::test]
async fn what_stands_for_no_caller_gets_nothing() {
    let lab = lab().await;
    let workload = Workload::start().await.unwrap();
    let sidecar = sidecar(&lab, workload.address(), "").await;
    workload.set_backend(sidecar.listen());
    let ada = token(&lab, "ada");
    let outbound = |value: Option<String>| {
        let mut request = Request::get("/users/7");
        if let Some(value) = value {
            request = request.header(header::AUTHORIZATION, value);
        }
        let client = sidecar.client();
        async move { client.send(bare(request)).await.unwrap() }
    };
    let made_up = "A".repeat(43);
    for value in [
        None,
        Some(format!("Bearer {made_up}")),
        Some(format!("Bearer {ada}")),
        Some("Basic YTpi".to_owned()),
    ] {
        let answer = outbound(value).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    assert!(lab.upstream.requests().is_empty() && exchanges(&lab) == 0);
    // The pod's own routes need no caller.
    assert_eq!(sidecar.client().get("/pods-own").await.unwrap().status, 404);
    assert_eq!(lab.upstream.requests().len(), 1);
    // A handle is good as long as its request lasts and its grace, and in this pod alone.
    assert_eq!(send(&sidecar, with_token("/", &ada)).await.status, 200);
    let handle = workload
        .received()
        .last()
        .unwrap()
        .handle()
        .unwrap()
        .to_owned();
    assert_eq!(outbound(Some(format!("Bearer {handle}"))).await.status, 200);
    let other = self::sidecar(&lab, workload.address(), "").await;
    let request =
        Request::get("/users/7").header(header::AUTHORIZATION, format!("Bearer {handle}"));
    assert_eq!(
        other.client().send(bare(request)).await.unwrap().status,
        401
    );
}

/// What the authorization server asks of the caller comes back to the caller as a challenge, by way of a workload that passes on the answer.
#[tokio::test]
async fn a_step_up_comes_back_to_the_caller_as_a_challenge() {
    let lab = lab().await;
    let workload = Workload::start().await.unwrap();
    let sidecar = sidecar(&lab, workload.address(), "").await;
    workload.set_backend(sidecar.listen());
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let refusal = Fault::Reply {
        status: 400,
        headers: vec![("content-type", "application/json".into())],
        body: json!({ "error": "interaction_required", "claims": claims }).to_string(),
    };
    lab.authority.fail_always(Endpoint::Sts, refusal);
    let ada = token(&lab, "ada");
    let answer = send(&sidecar, with_token("/call?path=/users/7", &ada)).await;
    assert!(
        matches!(answer.status.as_u16(), 401 | 403),
        "{}",
        answer.text()
    );
    assert_eq!(
        answer.json()["type"],
        "urn:token-sidecar:step-up",
        "{}",
        answer.text()
    );
    let challenge = answer.header("www-authenticate");
    use base64::{Engine, engine::general_purpose::STANDARD};
    assert!(
        challenge.contains(&format!("claims=\"{}\"", STANDARD.encode(claims))),
        "{challenge}"
    );
    assert!(
        challenge.contains("resource_metadata=\"https://mcp.example.com/"),
        "{challenge}"
    );
    assert_eq!(
        answer.header("token-sidecar-step-up"),
        "",
        "the mark stays inside"
    );
    // Never cached: as soon as the caller has done it, the next call succeeds.
    lab.authority.heal(Endpoint::Sts);
    let again = token(&lab, "ada");
    let answer = send(&sidecar, with_token("/call?path=/users/7", &again)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A call of a tool through the inbound side, by `/messages` or `/mcp`.
async fn tool_call(sidecar: &Sidecar, mcp: bool, user: &str, token: &str) -> Answer {
    let mut body = rpc("get_user_profile", &json!({ "user_id": user }));
    let mut request = Request::post(if mcp { "/mcp" } else { "/messages" })
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    if mcp {
        body["params"]["_meta"] = harness::process::mcp_server::meta();
        request = request
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header(
                "MCP-Protocol-Version",
                harness::process::mcp_server::REVISION,
            )
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", "get_user_profile");
    }
    let request = request.body(body::full(body.to_string())).unwrap();
    Client::new(sidecar.inbound()).send(request).await.unwrap()
}

/// Token exchange between an MCP server and its upstream, as asked for in stacklok/toolhive#2044; and the proof that no credential of anybody's
/// ever enters the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mcp_server_acts_for_its_callers_and_no_token_ever_reaches_it() {
    let lab = lab().await;
    // The server and the sidecar call one another: the port comes first.
    let placeholder = harness::ports::free().unwrap();
    let sidecar = sidecar(&lab, placeholder, "").await;
    let tap = Tap::start(sidecar.listen()).await.unwrap();
    let backend = format!("http://{}", tap.address());
    let settings = [("FORWARD_CALLER", "true"), ("LOG_LEVEL", "trace")];
    let server = McpServer::start_at(program(), placeholder, &backend, &settings)
        .await
        .unwrap();
    let planted = "planted-argument-9c2e77";
    let callers: Vec<String> = ["ada", "bob"].map(|s| token(&lab, s)).to_vec();
    for mcp in [false, true] {
        for (caller, subject) in callers.iter().zip(["ada", "bob"]) {
            let answer = tool_call(&sidecar, mcp, planted, caller).await;
            assert_eq!(
                answer.status,
                200,
                "{}\n{}",
                answer.text(),
                server.process.output()
            );
            assert!(answer.text().contains("Ada Lovelace"), "{}", answer.text());
            let sent = lab.upstream.requests().last().unwrap();
            assert_eq!(keys::peek(sent.bearer().unwrap()).unwrap()["sub"], subject);
        }
    }
    assert_eq!(exchanges(&lab), 2);

    // A step-up on both doors: the caller gets the HTTP challenge in the place of the tool's error.
    let refusal = Fault::Reply {
        status: 400,
        headers: vec![("content-type", "application/json".into())],
        body: json!({ "error": "interaction_required" }).to_string(),
    };
    lab.authority.fail_always(Endpoint::Sts, refusal);
    for mcp in [false, true] {
        let answer = tool_call(&sidecar, mcp, "1", &token(&lab, "eve")).await;
        assert!(
            matches!(answer.status.as_u16(), 401 | 403),
            "{}",
            answer.text()
        );
        assert!(
            answer
                .header("www-authenticate")
                .contains("resource_metadata=")
        );
    }

    // Every token in play, by its payload and by its signature.
    let mut tokens = callers.clone();
    for issued in lab.authority.issued().all() {
        tokens.extend([issued.token, issued.subject_token]);
    }
    let needles: Vec<&str> = tokens.iter().flat_map(|t| t.split('.').skip(1)).collect();
    assert!(needles.len() >= 12, "callers', issued and projected tokens");
    assert_eq!(
        found_in_memory(&server.process, &[planted]).unwrap(),
        [planted],
        "the search is blind"
    );
    assert_eq!(
        found_in_memory(&server.process, &needles).unwrap(),
        Vec::<&str>::new(),
        "a token in the MCP server's memory"
    );
    let handle = String::from_utf8_lossy(&tap.requests())
        .lines()
        .find_map(|l| l.strip_prefix("authorization: Bearer ").map(str::to_owned))
        .expect("the tap sees handles");
    assert_eq!(handle.trim().len(), 43);
    let traffic = [tap.requests(), tap.answers()].concat();
    let logs = server.process.output();
    for secret in &needles {
        assert!(
            !contains(&traffic, secret),
            "a token in the MCP server's traffic"
        );
        assert!(!logs.contains(secret), "a token in the MCP server's logs");
    }
    // Of the sidecar, which holds them all: not in what it says.
    let said = format!(
        "{}{}{}",
        sidecar.process.output(),
        sidecar.metrics().await.unwrap().0,
        sidecar.admin_get("/readyz").await.unwrap().text()
    );
    for secret in needles.iter().copied().chain([handle.trim()]) {
        assert!(!said.contains(secret), "a secret in what the sidecar says");
    }
}
