//! Entra on behalf of callers and for agent identities. Exchangers that need a caller's token are asked directly; what the pod gets for itself goes
//! through a real sidecar.

use crate::lab::{Lab, PATIENT, assert_passes, start};
use harness::authority::{
    Endpoint, Options, UserToken,
    options::{AGENT, CLIENT, RESOURCE, SCOPE, TENANT},
};
use serde_json::Value;
use sidecar_runtime::clock::Clock;
use std::{sync::Arc, time::Duration};
use token_sidecar::token::{
    exchange::{
        self, IssuedToken, SubjectTokens,
        bound::Binding,
        error::{CallerFault, ExchangeError, Fault},
    },
    params::{
        AuthorityParams, EntraAgentBlueprintParams, EntraOnBehalfOfParams, GrantParams,
        TenantParams,
    },
    subject::SubjectToken,
};

fn trusting(lab: &Lab) -> AuthorityParams {
    AuthorityParams {
        ca_file: Some(lab.ca.file()),
        proxy: None,
    }
}

fn on_behalf_of(lab: &Lab, client_id: &str) -> GrantParams {
    GrantParams::EntraOnBehalfOf(EntraOnBehalfOfParams {
        tenant: TenantParams {
            authority_host: lab.authority.authority_host().parse().unwrap(),
            tenant_id: TENANT.into(),
            identity_binding: None,
            authority: trusting(lab),
        },
        client_id: client_id.into(),
        scope: format!("{RESOURCE}/orders.read {RESOURCE}/orders.write"),
        client_assertion: "proof".into(),
        assertion: "caller".into(),
    })
}

async fn exchanged(
    grant: &GrantParams,
    tokens: &[(&str, &str)],
    claims: Option<&str>,
) -> Result<IssuedToken, ExchangeError> {
    let tokens = tokens.iter().map(|(name, text)| {
        let token = SubjectToken::parse(text.as_bytes(), Duration::ZERO).unwrap();
        (Arc::from(*name), Arc::new(token))
    });
    exchange::build(grant, Binding::default(), Clock::system())
        .unwrap()
        .exchange(&SubjectTokens::new(tokens.collect()), claims)
        .await
}

/// One on-behalf-of exchange, the pod's token being the proof.
async fn for_caller(lab: &Lab, caller: &str) -> Result<IssuedToken, ExchangeError> {
    let pod = lab.authority.projected_token().unwrap();
    let tokens = [("proof", &*pod), ("caller", caller)];
    exchanged(&on_behalf_of(lab, CLIENT), &tokens, None).await
}

/// Azure/data-api-builder#3641, envoyproxy/gateway#10026: on behalf of, without a secret anywhere.
#[tokio::test]
async fn a_callers_token_becomes_one_for_the_upstream_without_a_secret() {
    let lab = Lab::new().await;
    let user = UserToken::default();
    let caller = lab.authority.user_token(&user);
    let issued = for_caller(&lab, &caller).await.unwrap();
    let tokens = lab.authority.access_tokens();
    let claims = tokens.verify(&issued.token, RESOURCE).unwrap();
    assert_eq!(claims["oid"], user.user.as_str());
    assert_eq!(claims["scp"], "orders.read orders.write");
    assert_eq!(claims["appid"], CLIENT);
    assert_eq!(issued.lifetime, Duration::from_secs(3600));
    let request = lab.authority.requests().last().unwrap();
    assert_eq!(request.field("client_secret"), None);
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(request.field("assertion"), Some(&*caller));
}

#[tokio::test]
async fn what_is_wrong_with_a_callers_token_is_the_callers_fault() {
    let lab = Lab::new().await;
    let token = |change: &dyn Fn(&mut UserToken)| {
        let mut user = UserToken::default();
        change(&mut user);
        lab.authority.user_token(&user)
    };
    let good = token(&|_| {});
    // Half of the signature is somebody else's.
    let other = token(&|_| {});
    let forged = format!(
        "{}.{}",
        good.rsplit_once('.').unwrap().0,
        other.rsplit_once('.').unwrap().1
    );
    let gone = token(&|t| t.user = "gone".into());
    lab.authority.revoke_sessions("gone");
    for (caller, code) in [
        (forged, "aadsts_50013"),
        (
            token(&|t| t.audience = "another-api".into()),
            "aadsts_500131",
        ),
        (token(&|t| t.lifetime = Duration::ZERO), "aadsts_500133"),
        (gone, "aadsts_50173"),
    ] {
        let error = for_caller(&lab, &caller).await.unwrap_err();
        assert_eq!(
            (error.code(), error.fault()),
            (code, Fault::Caller(CallerFault::Token))
        );
        assert_eq!(error.claims(), None);
        assert!(!format!("{error} {error:?} {:?}", error.detail()).contains(&caller));
    }
    for_caller(&lab, &good).await.unwrap();
}

#[tokio::test]
async fn policies_come_back_as_what_the_caller_must_do() {
    let lab = Lab::new().await;
    let caller = lab.authority.user_token(&UserToken::default());
    lab.authority.configure(|o| o.users.consented = false);
    let error = for_caller(&lab, &caller).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Consent));
    assert_eq!(error.code(), "aadsts_65001");

    lab.authority.configure(|o| {
        o.users.consented = true;
        o.users.blocked = true;
    });
    let error = for_caller(&lab, &caller).await.unwrap_err();
    assert_eq!(error.code(), "aadsts_53003");
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Interaction));

    lab.authority.configure(|o| {
        o.users.blocked = false;
        o.users.strong_only = true;
    });
    let error = for_caller(&lab, &caller).await.unwrap_err();
    assert_eq!(error.code(), "aadsts_50079");
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Interaction));
    let challenge: Value = serde_json::from_str(error.claims().unwrap()).unwrap();
    assert_eq!(challenge["access_token"]["polids"]["essential"], true);
    // A token of a stronger sign-in is taken.
    let strong = UserToken {
        strong: true,
        ..UserToken::default()
    };
    for_caller(&lab, &lab.authority.user_token(&strong))
        .await
        .unwrap();
    // So is an upstream's challenge, sent along.
    let pod = lab.authority.projected_token().unwrap();
    let challenge = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let tokens = [("proof", &*pod), ("caller", &*caller)];
    let issued = exchanged(&on_behalf_of(&lab, CLIENT), &tokens, Some(challenge))
        .await
        .unwrap();
    let claims = lab
        .authority
        .access_tokens()
        .verify(&issued.token, RESOURCE);
    assert_eq!(claims.unwrap()["requested_claims"], challenge);
}

#[tokio::test]
async fn the_pods_own_trouble_is_no_callers_fault() {
    let lab = Lab::new().await;
    let caller = lab.authority.user_token(&UserToken::default());
    lab.authority
        .configure(|o| o.applications[0].federated.clear());
    let error = for_caller(&lab, &caller).await.unwrap_err();
    assert_eq!((error.code(), error.fault()), ("aadsts_70025", Fault::Pod));
    lab.authority
        .fail_once(Endpoint::Entra, harness::authority::Fault::throttled("7"));
    let error = for_caller(&lab, &caller).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Authority);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

fn agent(lab: &Lab, more: &str) -> String {
    format!(
        "listen: {{listen}}\nadmin: {{admin}}\n\
         credentials:\n  agent:\n    entraAgentIdentity: {{ scope: {SCOPE}, agentIdentityClientId: {AGENT}{more} }}\n\
         routes:\n  - {{ name: backend, upstream: '{}', credential: agent{PATIENT} }}\n",
        lab.upstream.url()
    )
}

#[tokio::test]
async fn an_agent_identity_signs_in_with_its_blueprints_token_which_no_request_carries() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(agent(&lab, ""))).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let requests = lab.authority.requests().all();
    let clients: Vec<_> = requests
        .iter()
        .map(|r| r.field("client_id").unwrap())
        .collect();
    assert_eq!(clients, [CLIENT, AGENT]);
    assert_eq!(requests[0].field("fmi_path"), Some(AGENT));
    let issued = lab.authority.issued().all();
    assert_eq!(
        requests[1].field("client_assertion"),
        Some(&*issued[0].token)
    );
    let sent = lab.upstream.requests().all();
    assert!(sent.iter().all(|r| r.bearer() == Some(&*issued[1].token)));
    let claims = lab
        .authority
        .access_tokens()
        .verify(&issued[1].token, RESOURCE);
    assert_eq!(claims.unwrap()["appid"], AGENT);
    assert!(!sidecar.process.output().contains(&issued[0].token));
    let readyz = sidecar.admin_get("/readyz").await.unwrap().text();
    assert!(readyz.contains("credential agent/blueprint"), "{readyz}");
}

#[tokio::test]
async fn the_blueprints_token_is_kept_and_not_fetched_for_each_exchange() {
    let lab = Lab::new().await;
    let sidecar = start(&lab.aks().config(agent(&lab, ""))).await;
    sidecar.ready().await.unwrap();
    let last = lab.authority.issued().last().unwrap();
    lab.authority.access_tokens().revoke(&last.token);
    // The agent's token is replaced; the blueprint's is good for an hour.
    assert_passes(&sidecar).await;
    let of = |client: &str| {
        let requests = lab.authority.requests();
        requests.count(|r| r.field("client_id") == Some(client))
    };
    assert_eq!((of(CLIENT), of(AGENT)), (1, 2));
}

#[tokio::test]
async fn an_agent_identity_without_its_blueprints_token_gets_nothing() {
    let lab = Lab::with(Options {
        agent_identities: vec![],
        ..Options::default()
    })
    .await;
    let sidecar = start(&lab.aks().config(agent(&lab, ""))).await;
    let answer = sidecar.pending("aadsts_700016").await.unwrap();
    assert!(
        answer
            .text()
            .contains("waiting for the token of credential `agent/blueprint`"),
        "{}",
        answer.text()
    );
    let clients = lab
        .authority
        .requests()
        .count(|r| r.field("client_id") == Some(AGENT));
    assert_eq!(clients, 0);
}

#[tokio::test]
async fn an_agent_identity_acts_for_a_user_who_signed_in_to_its_blueprint() {
    let lab = Lab::new().await;
    let pod = lab.authority.projected_token().unwrap();
    let blueprint = GrantParams::EntraAgentBlueprint(EntraAgentBlueprintParams {
        tenant: TenantParams {
            authority_host: lab.authority.authority_host().parse().unwrap(),
            tenant_id: TENANT.into(),
            identity_binding: None,
            authority: trusting(&lab),
        },
        client_id: CLIENT.into(),
        agent_identity: AGENT.into(),
        client_assertion: "pod".into(),
    });
    let parent = exchanged(&blueprint, &[("pod", &pod)], None).await.unwrap();
    let caller = lab.authority.user_token(&UserToken::default());
    let grant = on_behalf_of(&lab, AGENT);
    let tokens = [("proof", &**parent.token), ("caller", &*caller)];
    let issued = exchanged(&grant, &tokens, None).await.unwrap();
    let claims = lab
        .authority
        .access_tokens()
        .verify(&issued.token, RESOURCE);
    let claims = claims.unwrap();
    assert_eq!(claims["appid"], AGENT);
    assert_eq!(claims["oid"], UserToken::default().user.as_str());

    // A user of the agent's own is nobody: their token must be for the blueprint.
    let for_agent = lab.authority.user_token(&UserToken {
        audience: AGENT.into(),
        ..UserToken::default()
    });
    let tokens = [("proof", &**parent.token), ("caller", &*for_agent)];
    let error = exchanged(&grant, &tokens, None).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Caller(CallerFault::Token));
    // The pod's token does not prove the agent.
    let tokens = [("proof", &*pod), ("caller", &*caller)];
    let error = exchanged(&grant, &tokens, None).await.unwrap_err();
    assert_eq!((error.code(), error.fault()), ("aadsts_700211", Fault::Pod));
}
