//! Proof that the MCP server never holds a credential: its whole traffic, its memory and its logs are searched for every token in play;
//! and the same search finds the tokens where they are.

use crate::lab::{Lab, program};
use harness::{
    authority::Options,
    process::{McpServer, Process},
    tap::Tap,
};
use serde_json::json;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    time::Duration,
};

pub(crate) fn contains(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

/// Which of `needles` occur in the memory of a running process, read as a debugger would (same user, or root).
pub(crate) fn found_in_memory<'n>(
    process: &Process,
    needles: &[&'n str],
) -> io::Result<Vec<&'n str>> {
    let pid = process.pid();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = File::open(format!("/proc/{pid}/mem"))?;
    let (mut found, mut searched) = (Vec::new(), 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let kernel = line.ends_with("[vvar]")
            || line.ends_with("[vvar_vclock]")
            || line.ends_with("[vsyscall]");
        if !rights.starts_with('r') || kernel {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (
            u64::from_str_radix(start, 16).unwrap(),
            u64::from_str_radix(end, 16).unwrap(),
        );
        memory.seek(SeekFrom::Start(start)).unwrap();
        let mut bytes = Vec::new();
        // A mapping may end early (a file that was cut): what could be read is searched.
        drop(
            Read::by_ref(&mut memory)
                .take(end - start)
                .read_to_end(&mut bytes),
        );
        searched += bytes.len();
        for needle in needles {
            if !found.contains(needle) && contains(&bytes, needle) {
                found.push(*needle);
            }
        }
    }
    assert!(searched > 1_000_000, "only {searched} bytes were searched");
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_ever_reaches_the_mcp_server() {
    // Renewals so early that several access tokens come into play, none of which comes near its end.
    let lab = Lab::with(Options {
        access_token_lifetime: Duration::from_secs(1800),
        refresh_in: Some(Duration::from_secs(1)),
        ..Options::default()
    })
    .await;
    let sidecar = lab.patient_sidecar().await;
    let tap = Tap::start(sidecar.listen()).await.unwrap();
    let planted = "planted-argument-5f1d0c";
    let mut server = McpServer::start(
        program(),
        &format!("http://{}", tap.address()),
        &[("LOG_LEVEL", "trace")],
    )
    .await
    .unwrap();
    let front = Tap::start(server.address()).await.unwrap();

    // Calls by both doors, before and after a rotation and a renewal, with a rejected token and with errors in between.
    for round in 0..3 {
        for answer in [
            server
                .call("get_user_profile", &json!({ "user_id": planted }))
                .await
                .unwrap(),
            server
                .call_mcp("get_user_profile", &json!({ "user_id": "123" }))
                .await
                .unwrap(),
        ] {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(
                answer.text().contains("Ada Lovelace"),
                "{}\n{}",
                answer.text(),
                server.process.output()
            );
        }
        let through = harness::client::Client::new(front.address());
        let body =
            harness::process::mcp_server::rpc("get_user_profile", &json!({ "user_id": "7" }));
        assert_eq!(
            through.post_json("/messages", &body).await.unwrap().status,
            200
        );
        lab.rotate();
        if round == 0 {
            let newest = lab.authority.issued().last().unwrap().token;
            lab.authority.access_tokens().revoke(&newest);
        }
        let issued = lab.authority.issued().len();
        lab.authority.issued().wait_for(issued + 1).await.unwrap();
    }
    server
        .call("get_user_profile", &json!({ "user_id": "last" }))
        .await
        .unwrap();

    // From here on tokens stay: what the sidecar holds now is what is searched for.
    lab.authority.configure(|options| {
        options.access_token_lifetime = Duration::from_secs(3600);
        options.refresh_in = None;
    });
    let long = lab
        .authority
        .issued()
        .find("a token that stays", |issued| {
            issued.lifetime.as_secs() == 3600
        })
        .await
        .unwrap();
    sidecar.ready().await.unwrap();
    server
        .call("get_user_profile", &json!({ "user_id": planted }))
        .await
        .unwrap();

    // Every token in play, by its payload and by its signature: a copy that was cut is found too.
    let mut tokens: Vec<String> = vec![std::fs::read_to_string(lab.volume.file()).unwrap()];
    for issued in lab.authority.issued().all() {
        tokens.extend([issued.token, issued.subject_token]);
    }
    assert!(tokens.len() >= 7, "several access tokens were in play");
    let needles: Vec<&str> = tokens
        .iter()
        .flat_map(|token| token.split('.').skip(1))
        .collect();
    let signature = long.token.rsplit('.').next().unwrap();

    // The search finds what is there …
    match found_in_memory(&sidecar.process, &needles) {
        Ok(found) => assert!(
            found.contains(&signature),
            "the search is blind: it does not find the sidecar's own token"
        ),
        // The sidecar forbids it to all but root, as it should; the planted argument below still shows that the search sees.
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
            assert!(!rustix::process::geteuid().is_root(), "{error}");
        }
    }
    assert_eq!(
        found_in_memory(&server.process, &[planted]).unwrap(),
        [planted],
        "the search is blind: it does not find a planted argument"
    );
    assert!(
        contains(&tap.requests(), planted) && contains(&tap.answers(), "Ada Lovelace"),
        "the tap is blind"
    );

    // … and nothing in the server.
    assert_eq!(
        found_in_memory(&server.process, &needles).unwrap(),
        Vec::<&str>::new(),
        "a token in the MCP server's memory"
    );
    let traffic = [
        tap.requests(),
        tap.answers(),
        front.requests(),
        front.answers(),
    ]
    .concat();
    let logs = server.process.output();
    for secret in &needles {
        assert!(
            !contains(&traffic, secret),
            "a token in the MCP server's traffic"
        );
        assert!(!logs.contains(secret), "a token in the MCP server's logs");
    }
    let requests = String::from_utf8_lossy(&tap.requests()).to_ascii_lowercase();
    assert!(
        !requests.contains("authorization"),
        "the server sends no Authorization"
    );
    assert!(server.process.stop().await.unwrap().success());
}
