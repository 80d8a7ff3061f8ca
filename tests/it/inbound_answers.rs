//! What becomes of the workload's answers on their way to the caller: redirects to itself, and what web pages may read of them.

use crate::inbound_lab::{InboundLab, bare, send, with_token};
use http::Request;

/// FastMCP answers `/mcp/` with a redirect to `/mcp`, made of the `Host` that it was called by: its own address in the pod.
#[tokio::test]
async fn a_redirect_of_the_workload_to_itself_stays_with_the_callers_address() {
    let lab = InboundLab::new().await;
    let sidecar = lab.sidecar(", publicPaths: [/mark]").await;
    let token = lab.token("ada");
    let elsewhere = "https://login.example.com/?next=/mcp";
    for (location, expected) in [
        (format!("{}/mcp?x=1", lab.workload.url()), "/mcp?x=1"),
        ("/mcp".to_owned(), "/mcp"),
        (elsewhere.to_owned(), elsewhere),
    ] {
        lab.workload.answer_with("location", &location).unwrap();
        for request in [with_token("/mark", &token), bare(Request::get("/mark"))] {
            let answer = send(&sidecar, request).await;
            assert_eq!(answer.header("location"), expected);
        }
    }
    // An open redirect is not made of what was none.
    let odd = format!("{}//evil.example/", lab.workload.url());
    lab.workload.answer_with("location", &odd).unwrap();
    let answer = send(&sidecar, with_token("/mark", &token)).await;
    assert_eq!(answer.header("location"), odd);
}

/// An MCP client in a browser has to read `Mcp-Session-Id`, which the page may not unless that is said.
#[tokio::test]
async fn a_web_page_may_read_every_field_of_an_answer_where_the_sidecar_answers_for_cors() {
    let lab = InboundLab::new().await;
    let origin = "https://app.example.com";
    lab.workload.answer_with("mcp-session-id", "one").unwrap();
    let page = |token: &str| {
        let request = Request::get("/mark").header("origin", origin);
        bare(request.header("authorization", format!("Bearer {token}")))
    };
    let rules = format!(", allowedOrigins: ['{origin}']");
    for (more, expected) in [(", corsPreflights: answer", "*"), ("", "")] {
        let sidecar = lab.sidecar(&format!("{rules}{more}")).await;
        let answer = send(&sidecar, page(&lab.token("ada"))).await;
        assert_eq!(answer.header("mcp-session-id"), "one");
        assert_eq!(answer.header("access-control-expose-headers"), expected);
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        // Answers of the sidecar itself are readable in any case.
        let answer = send(&sidecar, page("made-up")).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("access-control-expose-headers"), "*");
    }
}
