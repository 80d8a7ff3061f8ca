//! MCP sessions on the inbound side: whom the workload gave one to may use it, and nobody else, whatever the workload makes of handles.

use crate::inbound_lab::{InboundLab, bare, send};
use harness::{process::Sidecar, wait::eventually};
use http::Request;

struct Sessions {
    lab: InboundLab,
    sidecar: Sidecar,
}

impl Sessions {
    async fn new(more: &str) -> Self {
        let lab = InboundLab::new().await;
        let sidecar = lab.sidecar(more).await;
        Self { lab, sidecar }
    }

    /// A request of `caller` that names a session; the status, and the reason when it was refused.
    async fn request(&self, caller: &str, path: &str, session: Option<&str>) -> (u16, String) {
        let token = self.lab.token(caller);
        let mut request = Request::get(path).header("authorization", format!("Bearer {token}"));
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let answer = send(&self.sidecar, bare(request)).await;
        let reason = answer.json()["reason"].as_str().unwrap_or_default().into();
        (answer.status.as_u16(), reason)
    }

    /// The workload gives `caller` this session.
    async fn give(&self, caller: &str, session: &str) {
        let workload = &self.lab.workload;
        workload.answer_with("mcp-session-id", session).unwrap();
        let (status, _) = self.request(caller, "/mark", None).await;
        assert_eq!(status, 200);
    }
}

fn served() -> (u16, String) {
    (200, String::new())
}

#[tokio::test]
async fn a_session_is_for_the_caller_whom_it_was_given_to() {
    let sessions = Sessions::new("").await;
    sessions.give("ada", "one").await;
    sessions.give("bob", "two").await;
    let received = sessions.lab.workload.received().len();
    let refused = (404, "unknown_session".to_owned());
    assert_eq!(sessions.request("bob", "/", Some("one")).await, refused);
    assert_eq!(sessions.request("ada", "/", Some("two")).await, refused);
    assert_eq!(sessions.lab.workload.received().len(), received);
    // Each with their own, by whatever token; with none; and with one that the workload has to know.
    assert_eq!(sessions.request("ada", "/", Some("one")).await, served());
    assert_eq!(sessions.request("bob", "/", Some("two")).await, served());
    assert_eq!(sessions.request("bob", "/", None).await, served());
    assert_eq!(sessions.request("bob", "/", Some("three")).await, served());
    // A new configuration changes nothing of whose they are.
    let stricter = sessions.lab.config(", requiredScopes: [tools.call]");
    sessions.sidecar.write_config(&stricter).unwrap();
    sessions
        .sidecar
        .metric("the new configuration", |m| {
            let labels = [("result", "success")];
            m.value("token_sidecar_config_reloads_total", &labels) == Some(2.0)
        })
        .await
        .unwrap();
    assert_eq!(sessions.request("bob", "/", Some("one")).await, refused);
    assert_eq!(sessions.request("ada", "/", Some("one")).await, served());
    // One that binds none any more lets go of those that it knew.
    let unbound = sessions.lab.config(", bindSessions: false");
    sessions.sidecar.write_config(&unbound).unwrap();
    eventually("sessions to be anybody's", || async {
        (sessions.request("bob", "/", Some("one")).await == served()).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_workload_whose_sessions_mean_something_else_is_left_alone() {
    // It gives all the same one.
    let sessions = Sessions::new("").await;
    sessions.give("ada", "constant").await;
    sessions.give("bob", "constant").await;
    for caller in ["ada", "bob", "eve"] {
        let answer = sessions.request(caller, "/", Some("constant")).await;
        assert_eq!(answer, served());
    }
    // Its owner says so.
    let sessions = Sessions::new(", bindSessions: false").await;
    sessions.give("ada", "one").await;
    assert_eq!(sessions.request("bob", "/", Some("one")).await, served());
}
