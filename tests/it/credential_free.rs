//! Proof that the MCP server never holds a credential: its whole traffic, its memory and its logs are searched for every token in play;
//! and the same search finds the tokens where they are.

use crate::lab::{Lab, program};
use harness::{
    process::{McpServer, Process},
    tap::Tap,
};
use serde_json::json;
use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

fn contains(haystack: &[u8], needle: &str) -> bool {
    let needle = needle.as_bytes();
    let Some((first, rest)) = needle.split_first() else {
        return true;
    };
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| byte == first) {
        let after = from + at + 1;
        if haystack[after..].starts_with(rest) {
            return true;
        }
        from = after;
    }
    false
}

/// Which of `needles` occur in the memory of a running process, read as a debugger would (same user, or root).
fn found_in_memory<'n>(process: &Process, needles: &[&'n str]) -> Vec<&'n str> {
    let pid = process.pid();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| {
        panic!("the memory of {pid} cannot be read: {error}; run as root or allow ptrace")
    });
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
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_ever_reaches_the_mcp_server() {
    let lab = Lab::new().await;
    let sidecar = lab.ready_sidecar().await;
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
        let newest = lab.authority.issued().last().unwrap().token;
        lab.authority.access_tokens().revoke(&newest);
        assert!(lab.authority.issued().len() > round);
    }
    server
        .call("get_user_profile", &json!({ "user_id": "last" }))
        .await
        .unwrap();

    // Every token in play: whole, and the signature alone, in case a copy was cut.
    let mut secrets = Vec::new();
    for issued in lab.authority.issued().all() {
        for token in [issued.token, issued.subject_token] {
            secrets.push(token.rsplit('.').next().unwrap().to_owned());
            secrets.push(token);
        }
    }
    secrets.push(std::fs::read_to_string(lab.volume.file()).unwrap());
    assert!(
        lab.authority.issued().len() >= 3,
        "several access tokens were in play"
    );
    let needles: Vec<_> = secrets.iter().map(String::as_str).collect();
    let current = lab.authority.issued().last().unwrap().token;

    // The search finds what is there …
    let in_sidecar = found_in_memory(&sidecar.process, &needles);
    assert!(
        in_sidecar.contains(&current.as_str()),
        "the search is blind: it does not find the sidecar's own token"
    );
    assert_eq!(
        found_in_memory(&server.process, &[planted]),
        [planted],
        "the search is blind: it does not find a planted argument"
    );
    assert!(
        contains(&tap.requests(), planted) && contains(&tap.answers(), "Ada Lovelace"),
        "the tap is blind"
    );

    // … and nothing in the server.
    assert_eq!(
        found_in_memory(&server.process, &needles),
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
