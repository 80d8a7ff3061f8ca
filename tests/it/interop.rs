//! Parts that this project did not write, against the real processes: MCP servers in Python and TypeScript that know a base URL and nothing of tokens,
//! the official clients of both languages, curl, and users of `HTTP_PROXY`. The same behind the inbound side: `interop_inbound`.
//!
//! `tests/interop/setup` installs them; without it these tests say that they are skipped, or fail where INTEROP=required.

use crate::{
    interop_lab::{Language, Parts, parts, run, said},
    lab::{Lab, program, start},
};
use harness::{client::Client, ports, process::McpServer};
use std::path::Path;

/// Each official client gets the profile through `url`, and no token comes with it.
async fn assert_profile(parts: &Parts, lab: &Lab, url: &str) {
    for language in Language::ALL {
        let args = [url, "get_user_profile", r#"{"user_id":"123"}"#];
        let output = parts.client(language, "client", &args, &[]).await;
        let printed = said(&output);
        assert!(output.status.success(), "{language:?}: {printed}");
        assert!(printed.contains("Ada Lovelace"), "{language:?}: {printed}");
        for issued in lab.authority.issued().all() {
            assert!(!printed.contains(&issued.token), "{language:?}");
        }
    }
}

/// A server of somebody else's behind the sidecar, called by both clients.
async fn assert_one_base_url_is_enough(parts: &Parts, language: Language, name: &str) {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let (base, address) = (
        format!("http://{}", sidecar.listen()),
        ports::free().unwrap(),
    );
    let _server = parts.server((language, name), address, &base, &[]).await;
    assert_profile(parts, &lab, &format!("http://{address}/mcp")).await;
}

#[tokio::test]
async fn a_fastmcp_server_changes_one_base_url_and_nothing_else() {
    let Some(parts) = parts("a FastMCP server behind the sidecar") else {
        return;
    };
    assert_one_base_url_is_enough(&parts, Language::Python, "fastmcp_server").await;
}

#[tokio::test]
async fn a_typescript_server_changes_one_base_url_and_nothing_else() {
    let Some(parts) = parts("a TypeScript MCP server behind the sidecar") else {
        return;
    };
    assert_one_base_url_is_enough(&parts, Language::TypeScript, "sdk_server").await;
}

#[tokio::test]
async fn the_official_clients_call_our_own_server() {
    let Some(parts) = parts("the official MCP clients") else {
        return;
    };
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
    let server = McpServer::start(program(), &format!("http://{}", sidecar.listen()), &[])
        .await
        .unwrap();
    assert_profile(&parts, &lab, &format!("http://{}/mcp", server.address())).await;
}

/// Two programs that everybody has, with nothing but an environment variable: `http://` URLs leave as https, with a credential.
#[tokio::test]
async fn users_of_http_proxy_need_no_other_change() {
    let Some(parts) = parts("curl and Python with HTTP_PROXY") else {
        return;
    };
    let lab = Lab::new().await;
    let config = lab.config().replace(
        "credential: backend }",
        "credential: backend, match: { host: backend.example.com } }",
    );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let proxy = format!("http://{}", sidecar.listen());
    let url = "http://backend.example.com/users/123";
    let python = parts.python();
    let fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())";
    let httpx = "import sys, httpx; print(httpx.get(sys.argv[1]).raise_for_status().text)";
    for (program, args) in [
        (Path::new("curl"), vec!["-sS", "--fail-with-body", url]),
        (&python, vec!["-c", fetch, url]),
        (&python, vec!["-c", httpx, url]),
    ] {
        let output = run(
            program,
            &args,
            &[("HTTP_PROXY", &proxy), ("http_proxy", &proxy)],
        )
        .await;
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("Ada Lovelace"), "{}", said(&output));
    }
    // A host that no route names is not fetched for anybody.
    let elsewhere = ["-sS", "--fail-with-body", "http://elsewhere.example.com/"];
    let output = run(Path::new("curl"), &elsewhere, &[("http_proxy", &proxy)]).await;
    assert!(
        !output.status.success() && said(&output).contains("404"),
        "{}",
        said(&output)
    );
    // What the sidecar said to those programs is what any client gets.
    assert_eq!(
        Client::new(sidecar.listen())
            .get("/users/123")
            .await
            .unwrap()
            .status,
        404
    );
}
