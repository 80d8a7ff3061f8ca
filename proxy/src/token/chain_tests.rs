//! Credentials that use each other's tokens: order, renewal, waiting, reload; and a token that is for other credentials alone.

use super::*;
use crate::token::params::{ChainedTokenParams, EntraAgentBlueprintParams, TenantParams};
use tokio::net::TcpListener;

/// `name` exchanges the subject token `subject`.
fn using(name: &str, subject: &str, endpoint: Url) -> CredentialParams {
    let mut credential = exchanged(name, endpoint);
    if let GrantParams::TokenExchange(p) = &mut credential.grant {
        p.subject_token = subject.into();
    }
    credential
}

fn chained(name: &str, credential: &str) -> ChainedTokenParams {
    ChainedTokenParams {
        name: name.into(),
        credential: credential.into(),
    }
}

/// The subject token `x` is the token of `parent`.
fn family(bench: &Bench, credentials: Vec<CredentialParams>) -> TokenParams {
    TokenParams {
        chained_tokens: vec![chained("x", "parent")],
        ..bench.params(credentials)
    }
}

/// Issues `WORD-0`, `WORD-1` and so on: no JWTs.
async fn numbering(word: &'static str) -> RawServer {
    RawServer::start(move |n| {
        let body =
            format!(r#"{{"access_token":"{word}-{n}","token_type":"Bearer","expires_in":3600}}"#);
        reply("200 OK", "", &body)
    })
    .await
}

fn sent(server: &RawServer, n: usize) -> String {
    let form = server.form(n);
    let field = form.iter().find(|(name, _)| name == "subject_token");
    field.unwrap().1.clone()
}

/// Has an upstream reject the current token, and waits for the next.
async fn renewed(slot: &Slot) -> Injectable {
    let old = token(slot).await;
    slot.reject(old.serial, None);
    let deadline = Instant::now() + Duration::from_secs(20);
    slot.replaced(old.serial, deadline)
        .await
        .expect("a renewal")
}

fn condition(bench: &Bench, name: &str) -> (bool, String) {
    let report = bench.readiness.report();
    let found = report.conditions.iter().find(|c| c.name == name);
    let found = found.unwrap();
    (found.ready, found.reason.clone().unwrap_or_default())
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    timeout(Duration::from_secs(20), async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn one_credentials_token_is_anothers_subject_and_renewals_propagate() {
    let (parents, children) = (numbering("parent").await, numbering("child").await);
    let bench = Bench::new();
    bench.write("a");
    // The child stands first: order in the configuration does not matter.
    let flow = bench
        .start(family(
            &bench,
            vec![
                using("child", "x", children.url()),
                exchanged("parent", parents.url()),
            ],
        ))
        .unwrap();
    let (child, _, _) = flow.handle("child");
    let (parent, _, _) = flow.handle("parent");
    assert_eq!(token(&child).await.header, "Bearer child-0");
    assert_eq!(sent(&children, 0), "parent-0", "bare, and no JWT");
    // The parent's is an ordinary credential all the same.
    assert_eq!(token(&parent).await.header, "Bearer parent-0");

    assert_eq!(renewed(&parent).await.header, "Bearer parent-1");
    assert_eq!(renewed(&child).await.header, "Bearer child-1");
    assert_eq!(sent(&children, 1), "parent-1");
    assert!(bench.readiness.report().ready);
}

#[tokio::test]
async fn a_child_waits_for_its_parent_and_says_so() {
    let (parents, children) = (numbering("parent").await, numbering("child").await);
    let bench = Bench::new();
    let mut params = family(
        &bench,
        vec![
            exchanged("parent", parents.url()),
            using("child", "x", children.url()),
            using("grandchild", "y", children.url()),
        ],
    );
    params.chained_tokens.push(chained("y", "child"));
    let flow = bench.start(params).unwrap();
    for (name, parent) in [("child", "parent"), ("grandchild", "child")] {
        let told = format!("the token of credential `{parent}`");
        eventually("the wait to be told", || {
            let (ready, reason) = condition(&bench, &format!("credential {name}"));
            !ready && reason.contains(&told)
        })
        .await;
    }
    let (child, _, _) = flow.handle("child");
    let now = child.wait(Instant::now() + Duration::from_secs(5)).await;
    assert_eq!(&*now.unwrap_err().reason, "credential_pending");
    assert!(children.requests().is_empty() && parents.requests().is_empty());
    // The file comes, and everything follows at once.
    bench.write("a");
    token(&flow.handle("grandchild").0).await;
    assert!(sent(&children, 1).starts_with("child-"));
    eventually("readiness", || bench.readiness.report().ready).await;
}

#[tokio::test]
async fn a_hung_parent_delays_only_its_children() {
    // Accepts and never answers: nobody accepts from the backlog.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = Url::parse(&format!("http://{}/", hung.local_addr().unwrap())).unwrap();
    let server = numbering("token").await;
    let bench = Bench::new();
    bench.write("a");
    let mut parent = exchanged("parent", hung);
    parent.exchange_timeout = Duration::from_secs(3600);
    let mut params = family(
        &bench,
        vec![
            parent,
            using("child", "x", server.url()),
            exchanged("other", server.url()),
            using("others-child", "z", server.url()),
        ],
    );
    params.chained_tokens.push(chained("z", "other"));
    let flow = bench.start(params).unwrap();
    token(&flow.handle("other").0).await;
    token(&flow.handle("others-child").0).await;
    assert!(flow.handle("child").0.load(Instant::now()).is_none());
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_child_starts_anew_when_its_parent_gets_another_token() {
    let (parents, children) = (numbering("parent").await, numbering("child").await);
    let bench = Bench::new();
    bench.write("a");
    let params = |change: &dyn Fn(&mut CredentialParams)| {
        let mut parent = exchanged("parent", parents.url());
        change(&mut parent);
        family(&bench, vec![parent, using("child", "x", children.url())])
    };
    let mut flow = bench.start(params(&|_| {})).unwrap();
    let (child, _, _) = flow.handle("child");
    assert_eq!(token(&child).await.header, "Bearer child-0");

    // Another way to the same token changes nothing for the child.
    flow.apply(
        params(&|p| p.exchange_timeout = Duration::from_secs(9)),
        None,
    )
    .unwrap();
    assert!(Arc::ptr_eq(&flow.handle("child").0, &child));
    assert!(child.load(Instant::now()).is_some());

    // Another token of the parent's is another one of the child's.
    let another = |p: &mut CredentialParams| {
        if let GrantParams::TokenExchange(p) = &mut p.grant {
            p.target.audience = vec!["other".into()];
        }
    };
    flow.apply(params(&another), None).unwrap();
    let (anew, _, _) = flow.handle("child");
    assert!(!Arc::ptr_eq(&anew, &child));
    token(&anew).await;
    let (last, parents_last) = (children.requests().len() - 1, parents.requests().len() - 1);
    assert_eq!(sent(&children, last), format!("parent-{parents_last}"));

    // And so is one that comes from another credential under the same name.
    let mut elsewhere = params(&another);
    elsewhere
        .credentials
        .push(exchanged("other", parents.url()));
    elsewhere.chained_tokens = vec![chained("x", "other")];
    flow.apply(elsewhere, None).unwrap();
    assert!(!Arc::ptr_eq(&flow.handle("child").0, &anew));
}

#[tokio::test]
async fn circles_and_unknown_parents_are_refused_and_change_nothing() {
    let server = numbering("token").await;
    let bench = Bench::new();
    bench.write("a");
    let mut flow = bench
        .start(bench.params(vec![exchanged("parent", server.url())]))
        .unwrap();
    let (slot, _, _) = flow.handle("parent");
    token(&slot).await;
    let round = family(&bench, vec![using("parent", "x", server.url())]);
    let error = flow.apply(round, None).unwrap_err().to_string();
    assert!(
        error.contains("`parent` -> (subject token `x`) -> `parent`"),
        "{error}"
    );
    let orphan = TokenParams {
        chained_tokens: vec![chained("x", "gone")],
        ..bench.params(vec![using("parent", "x", server.url())])
    };
    let error = flow.apply(orphan, None).unwrap_err().to_string();
    assert!(error.contains("`gone`") && error.contains("`x`"), "{error}");
    let for_callers = TokenParams {
        chained_tokens: vec![chained("x", "theirs")],
        ..bench.params(vec![
            using("parent", "x", server.url()),
            using("theirs", "caller", server.url()),
        ])
    };
    let error = flow.apply(for_callers, None).unwrap_err().to_string();
    assert!(
        error.contains("`theirs`") && error.contains("each caller"),
        "{error}"
    );
    assert!(Arc::ptr_eq(&flow.handle("parent").0, &slot));
    assert!(slot.load(Instant::now()).is_some());
}

#[tokio::test]
async fn a_blueprints_token_reaches_the_next_exchange_and_never_a_request() {
    let (authority, children) = (numbering("secret-parent").await, numbering("child").await);
    let bench = Bench::new();
    bench.write("a");
    let blueprint = CredentialParams {
        name: "parent".into(),
        grant: GrantParams::EntraAgentBlueprint(EntraAgentBlueprintParams {
            tenant: TenantParams {
                authority_host: authority.url(),
                tenant_id: "t".into(),
                identity_binding: None,
                authority: AuthorityParams::default(),
            },
            client_id: "blueprint".into(),
            agent_identity: "agent".into(),
            client_assertion: "pod".into(),
        }),
        injection: Arc::default(),
        caller_cache: Default::default(),
        exchange_timeout: Duration::from_secs(10),
    };
    let mut flow = bench
        .start(family(
            &bench,
            vec![
                blueprint.clone(),
                using("child", "x", children.url()),
                using("sibling", "x", children.url()),
            ],
        ))
        .unwrap();
    for name in ["child", "sibling"] {
        token(&flow.handle(name).0).await;
    }
    assert_eq!(sent(&children, 0), "secret-parent-0");
    assert_eq!(sent(&children, 1), "secret-parent-0");
    assert_eq!(authority.requests().len(), 1, "one for both");
    // Even where somebody asks for it by name there is nothing.
    let (slot, _, _) = flow.handle("parent");
    assert!(slot.load(Instant::now()).is_none());
    assert!(bench.readiness.report().ready);
    // Nor in the slot itself.
    let inside = &flow.credentials.get("parent").unwrap().slot;
    assert_eq!(inside.load(Instant::now()).unwrap().header, "");
    flow.stop();
}
