//! Servers that this project did not write with the sidecar on both sides: official clients show a caller's token, the server sees a handle, and what it
//! asks of its backend is done as that caller if it passes the header on, and as the pod if the route says so. What streams, streams: see `session.*`.

use crate::{
    credential_free::{contains, found_in_memory},
    interop_lab::{Language, Parts, parts, said},
    lab::{Lab, program},
    on_behalf_of::{self, token},
};
use harness::{
    authority::Endpoint,
    keys, ports,
    process::{McpServer, Process, Sidecar},
    tap::Tap,
};
use std::net::SocketAddr;

const TOOL: [&str; 2] = ["get_user_profile", r#"{"user_id":"123"}"#];

/// A server with the sidecar on both sides, and taps on what callers send to the sidecar and on what the server sends to it.
struct Behind {
    lab: Lab,
    sidecar: Sidecar,
    callers: Tap,
    outgoing: Tap,
    address: SocketAddr,
    path: &'static str,
}

impl Behind {
    /// Everything but the server; `change` is done to the configuration of [`on_behalf_of::config`].
    async fn new(change: impl FnOnce(String) -> String) -> Self {
        let (lab, address) = (on_behalf_of::lab().await, ports::free().unwrap());
        let config = on_behalf_of::config(&lab, address, "", "");
        let config = change(config.replace("level: trace", "level: info"));
        let sidecar = on_behalf_of::configured(&lab, config).await;
        Self {
            callers: Tap::start(sidecar.inbound()).await.unwrap(),
            outgoing: Tap::start(sidecar.listen()).await.unwrap(),
            lab,
            sidecar,
            address,
            path: "/mcp",
        }
    }

    async fn server(&self, parts: &Parts, language: Language, name: &str) -> Process {
        let base = format!("http://{}", self.outgoing.address());
        parts
            .server((language, name), self.address, &base, &[])
            .await
    }

    /// Where callers reach the server.
    fn url(&self) -> String {
        format!("http://{}{}", self.callers.address(), self.path)
    }

    /// Calls the tool with an official client that shows `token`: whether it succeeded, and what everybody said.
    async fn call(&self, parts: &Parts, language: Language, token: &str) -> (bool, String) {
        let url = self.url();
        let args = [url.as_str(), TOOL[0], TOOL[1]];
        let output = parts
            .client(language, "client", &args, &[("TOKEN", token)])
            .await;
        let whole = format!("{}\n{}", said(&output), self.sidecar.process.output());
        (output.status.success(), whole)
    }

    /// Who the upstream takes the sender of its last request for.
    fn acted_as(&self) -> String {
        let sent = self.lab.upstream.requests().last().unwrap();
        assert_eq!(sent.verified, Some(Ok(())));
        let claims = keys::peek(sent.bearer().unwrap()).unwrap();
        claims["sub"].as_str().unwrap().to_owned()
    }

    /// By which grant the token of the upstream's last request was got.
    fn granted_by(&self) -> Endpoint {
        let sent = self.lab.upstream.requests().last().unwrap();
        let issued = self.lab.authority.issued().all();
        let same = |token: &str| sent.bearer() == Some(token);
        issued.iter().find(|i| same(&i.token)).unwrap().endpoint
    }

    /// The handles among what the server sent to the sidecar.
    fn handles(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.outgoing.requests())
            .lines()
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let bearer = value.trim().strip_prefix("Bearer ")?;
                name.eq_ignore_ascii_case("authorization")
                    .then(|| bearer.to_owned())
            })
            .collect()
    }

    /// No token of anybody's was in the server's traffic, and none is in its memory.
    fn assert_server_is_credential_free(&self, server: &Process, callers: &[String]) {
        let mut tokens = callers.to_vec();
        for issued in self.lab.authority.issued().all() {
            tokens.extend([issued.token, issued.subject_token]);
        }
        let needles: Vec<&str> = tokens.iter().flat_map(|t| t.split('.').skip(1)).collect();
        assert!(needles.len() >= 4, "a caller's token and an issued one");
        let traffic = [self.outgoing.requests(), self.outgoing.answers()].concat();
        assert!(needles.iter().all(|needle| !contains(&traffic, needle)));
        let found = found_in_memory(server, &[TOOL[0]]).unwrap();
        assert_eq!(found, [TOOL[0]], "the search is blind");
        let found = found_in_memory(server, &needles).unwrap();
        assert_eq!(found, Vec::<&str>::new());
    }
}

/// Each client is acted for by a server that passes on the header, in single calls and in sessions, and the server has handles and nothing else.
async fn assert_acts_for_callers(parts: &Parts, language: Language, name: &str) {
    let behind = Behind::new(|config| config).await;
    let server = behind.server(parts, language, name).await;
    let mut tokens = Vec::new();
    for (client, subject) in [(Language::Python, "ada"), (Language::TypeScript, "bob")] {
        let token = token(&behind.lab, subject);
        let (succeeded, whole) = behind.call(parts, client, &token).await;
        assert!(succeeded && whole.contains("Ada Lovelace"), "{whole}");
        assert_eq!(behind.acted_as(), subject);
        assert_session_passes(parts, &behind, client, (subject, &token)).await;
        tokens.push(token);
    }
    let wire = String::from_utf8_lossy(&behind.callers.requests()).to_lowercase();
    for (what, times) in [
        ("\r\nlast-event-id: ", 2),
        ("delete /mcp http/1.1\r\n", 2),
        ("get /mcp http/1.1\r\n", 4),
    ] {
        let found = wire.matches(what).count();
        assert!(found >= times, "{what:?} {found} times");
    }
    // Sessions are of the older era; single calls of the newer one, where the server's SDK knows it.
    let modern = wire.contains("\r\nmcp-method: tools/call\r\n");
    assert_eq!(modern, language == Language::Python);
    let handles = behind.handles();
    assert_eq!(handles.len(), 10, "{handles:?}");
    assert!(handles.iter().all(|handle| handle.len() == 43));
    behind.assert_server_is_credential_free(&server, &tokens);
}

/// A session with all that streams: progress while a call lasts, a question to the client's user in its midst, a stream that the server closes and the
/// client resumes, the session's own stream, ping, a session that is nobody else's, and its end.
async fn assert_session_passes(
    parts: &Parts,
    behind: &Behind,
    client: Language,
    (subject, token): (&str, &str),
) {
    let before = behind.lab.upstream.requests().len();
    let url = behind.url();
    let other = self::token(&behind.lab, "eve");
    let env = [("TOKEN", token), ("OTHER", other.as_str())];
    let output = parts.client(client, "session", &[&url], &env).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "ping\nprogress: 1 2 Ada Lovelace\nAda Lovelace, Ada Lovelace\nasked: Whose profile?\nAda Lovelace\nAda Lovelace\n\
         announced\nanother caller: 404\nafter the end: 404\n",
        "{client:?}: {}\n{}",
        said(&output),
        behind.sidecar.process.output()
    );
    // Also what was asked for after the stream had been closed was asked for as the caller.
    let sent = behind.lab.upstream.requests().since(before);
    assert_eq!(sent.len(), 4);
    for request in sent {
        let claims = keys::peek(request.bearer().unwrap()).unwrap();
        assert_eq!(claims["sub"], subject);
    }
}

#[tokio::test]
async fn a_fastmcp_server_that_passes_on_the_header_acts_for_its_callers() {
    let Some(parts) = parts("a relaying FastMCP server between both sides") else {
        return;
    };
    assert_acts_for_callers(&parts, Language::Python, "fastmcp_relaying_server").await;
}

#[tokio::test]
async fn a_typescript_server_that_passes_on_the_header_acts_for_its_callers() {
    let Some(parts) = parts("a relaying TypeScript server between both sides") else {
        return;
    };
    assert_acts_for_callers(&parts, Language::TypeScript, "sdk_relaying_server").await;
}

/// The transport that was there before Streamable HTTP: answers come by the one stream that was opened first, for requests that have long ended.
#[tokio::test]
async fn the_older_transport_passes_and_acts_for_its_callers() {
    let Some(parts) = parts("HTTP with SSE between both sides") else {
        return;
    };
    let mut behind = Behind::new(|config| config).await;
    behind.path = "/sse";
    let base = format!("http://{}", behind.outgoing.address());
    let name = (Language::Python, "fastmcp_relaying_server");
    let transport = [("TRANSPORT", "sse")];
    let _server = parts.server(name, behind.address, &base, &transport).await;
    for (client, subject) in [(Language::Python, "ada"), (Language::TypeScript, "bob")] {
        let (succeeded, whole) = behind
            .call(&parts, client, &token(&behind.lab, subject))
            .await;
        assert!(succeeded && whole.contains("Ada Lovelace"), "{whole}");
        assert_eq!(behind.acted_as(), subject);
    }
}

/// Servers that know one base URL and nothing else: callers must show a token, and the backend is asked as the pod, where the configuration says so. Where
/// it does not, the pod never stands in for the caller that the server left out.
#[tokio::test]
async fn servers_that_pass_on_nothing_have_the_pods_identity_or_none() {
    let Some(parts) = parts("plain servers between both sides") else {
        return;
    };
    for (language, name, path) in [
        // FastMCP leads clients from there to `/mcp`, by an absolute URL.
        (Language::Python, "fastmcp_server", "/mcp/"),
        (Language::TypeScript, "sdk_server", "/mcp"),
    ] {
        let mut behind =
            Behind::new(|c| c.replace("credential: backend,", "credential: pod,")).await;
        behind.path = path;
        let server = behind.server(&parts, language, name).await;
        let ada = token(&behind.lab, "ada");
        for client in Language::ALL {
            let (succeeded, whole) = behind.call(&parts, client, &ada).await;
            assert!(succeeded && whole.contains("Ada Lovelace"), "{whole}");
            assert_eq!(behind.granted_by(), Endpoint::Entra);
        }
        assert!(behind.handles().is_empty());
        behind.assert_server_is_credential_free(&server, std::slice::from_ref(&ada));

        // The configuration is another one from here on, the server is the same.
        let sent = behind.lab.upstream.requests().len();
        let config = on_behalf_of::config(&behind.lab, behind.address, "", "");
        behind.sidecar.write_config(&config).unwrap();
        behind
            .sidecar
            .metric("the route for callers", |m| {
                let labels = [("result", "success")];
                m.value("token_sidecar_config_reloads_total", &labels) == Some(2.0)
            })
            .await
            .unwrap();
        let (succeeded, whole) = behind.call(&parts, language, &ada).await;
        assert!(!succeeded, "{whole}");
        assert_eq!(behind.lab.upstream.requests().len(), sent);
        assert_eq!(
            behind
                .lab
                .authority
                .issued()
                .count(|i| i.endpoint == Endpoint::Sts),
            0
        );
    }
}

#[tokio::test]
async fn the_official_clients_are_acted_for_by_our_own_server() {
    let Some(parts) = parts("the official MCP clients with a token") else {
        return;
    };
    let behind = Behind::new(|config| config).await;
    let backend = format!("http://{}", behind.outgoing.address());
    let settings = [("FORWARD_CALLER", "true")];
    let _server = McpServer::start_at(program(), behind.address, &backend, &settings)
        .await
        .unwrap();
    for client in Language::ALL {
        let (succeeded, whole) = behind
            .call(&parts, client, &token(&behind.lab, "ada"))
            .await;
        assert!(succeeded && whole.contains("Ada Lovelace"), "{whole}");
        assert_eq!(behind.acted_as(), "ada");
        let sent = behind.lab.upstream.requests().len();
        let (succeeded, whole) = behind.call(&parts, client, "made-up").await;
        assert!(!succeeded, "{whole}");
        assert_eq!(behind.lab.upstream.requests().len(), sent);
    }
}
