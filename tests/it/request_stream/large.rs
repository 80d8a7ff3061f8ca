//! Large bodies in flat memory, and what breaks off on its way.

use super::*;

#[tokio::test]
async fn what_breaks_off_upstream_breaks_off_here() {
    let both = Both::new().await;
    for (name, client, _) in both.ways() {
        let mut connection = client.connect().await.unwrap();
        let request = Request::get("/reset?after=100000")
            .body(body::empty())
            .unwrap();
        // The end may overtake the header section: then there is no answer at all, or one that says so.
        let Ok(response) = connection.start(request).await else {
            continue;
        };
        if response.status() == 502 {
            continue;
        }
        assert_eq!(response.status(), 200, "{name}");
        let end = within(LONG, name, response.into_body().collect())
            .await
            .unwrap();
        assert!(end.is_err(), "{name}: a clean end");
    }
    // Without a length, an end is all that tells a whole body from a broken one.
    let lab = Lab::new().await;
    for (name, text) in [
        (
            "chunks without an end",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        (
            "a bad chunk size",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        ),
        (
            "a body shorter than said",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        ),
    ] {
        let upstream = RawUpstream::start(vec![Step::text(text)]).await.unwrap();
        let sidecar = ready(&lab, config("", &[route(&upstream.url(), "")])).await;
        let mut raw = Raw::connect(sidecar.listen()).await.unwrap();
        raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        match raw.answer().await {
            Ok(answer) => assert!(answer.cut || answer.status() == 502, "{name}: {answer:?}"),
            Err(error) => panic!("{name}: {error}"),
        }
        let answer = sidecar.client().http2().get("/").await;
        assert!(
            answer.as_ref().map_or(true, |a| a.status == 502),
            "{name}: {answer:?}"
        );
    }
    // An HTTP/1.0 answer ends with its connection, and so it is whole.
    let upstream = RawUpstream::start(vec![Step::text("HTTP/1.0 200 OK\r\n\r\nabc")])
        .await
        .unwrap();
    let sidecar = ready(&lab, config("", &[route(&upstream.url(), "")])).await;
    let answer = sidecar.client().get("/").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "abc")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_in_flat_memory() {
    let bytes = big_body();
    let both = Both::new().await;
    for (name, client, upstream) in both.ways() {
        // Warm: one body of a few megabytes each way, so that buffers have their size.
        let warm = client.get("/bytes/8000000?length").await.unwrap();
        assert_eq!(warm.body.len(), 8_000_000);
        let before = rss(&both.sidecar);
        let mut most = before;

        let mut connection = client.connect().await.unwrap();
        let request = Request::get(format!("/bytes/{bytes}"))
            .body(body::empty())
            .unwrap();
        let mut response = connection.start(request).await.unwrap();
        let (mut read, mut look) = (0, 0);
        while let Some(piece) = data(&mut response).await {
            read += piece.len() as u64;
            if read >= look {
                most = most.max(rss(&both.sidecar));
                look += 16 * MIB;
            }
        }
        assert_eq!(read, bytes, "{name}");

        let before_bodies = upstream.bodies().len();
        let (writer, body) = body::channel();
        let request = Request::post("/sink").body(body).unwrap();
        let mut connection = client.connect().await.unwrap();
        let piece = Bytes::from(vec![b'x'; MIB as usize / 4]);
        let sending = async {
            let mut sent = 0;
            while sent < bytes {
                let piece = piece.slice(..piece.len().min((bytes - sent) as usize));
                sent += piece.len() as u64;
                assert!(writer.data(piece).await, "{name}");
                if sent % (16 * MIB) == 0 {
                    most = most.max(rss(&both.sidecar));
                }
            }
            drop(writer);
        };
        let (answer, ()) = tokio::join!(connection.start(request), sending);
        assert_eq!(answer.unwrap().status(), 200, "{name}");
        assert_eq!(
            upstream.bodies().since(before_bodies)[0].len,
            bytes,
            "{name}"
        );
        let grown = most.saturating_sub(before);
        println!(
            "{name}: {bytes} bytes each way, resident memory {before} bytes before, {grown} more at most"
        );
        assert!(grown < 32 * MIB, "{name}: grew by {grown} bytes");
    }
}

/// `HARNESS_BIG_BODY_GB` sets the size of the largest bodies; the default keeps the test short in a debug build.
fn big_body() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of this test alone; the programs are not concerned"
    )]
    let wanted = std::env::var("HARNESS_BIG_BODY_GB");
    match wanted {
        Ok(text) => text.parse::<u64>().unwrap() << 30,
        Err(_) => 96 * MIB,
    }
}

/// The sidecar's resident memory.
pub(super) fn rss(sidecar: &Sidecar) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", sidecar.process.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib > 0);
    kib * 1024
}
