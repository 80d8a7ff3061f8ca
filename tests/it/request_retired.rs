//! Reloads under way: pools that are replaced and listeners that go, each with requests in flight.

use crate::{
    lab::Lab,
    request_lab::{at_once, config, get, get_request, plain_upstream, ready, route},
};
use harness::{
    client::{Client, Connected},
    ports,
    process::Sidecar,
    raw::Raw,
    wait::{LONG, until, within},
};
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

/// An answer of 20 bytes, one every 100 ms, that has begun.
async fn streaming(client: &Client) -> (Connected, Response<Incoming>) {
    let mut connection = client.connect().await.unwrap();
    let response = connection
        .start(get_request("/slow-body?n=20&ms=100"))
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    (connection, response)
}

async fn finishes((connection, response): (Connected, Response<Incoming>)) {
    let body = within(LONG, "a stream to end", response.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(body.to_bytes().len(), 20);
    drop(connection);
}

async fn reloaded(sidecar: &Sidecar, text: &str, count: f64) {
    sidecar.write_config(text).unwrap();
    sidecar
        .metric("a reload", |m| {
            m.value(
                "token_sidecar_config_reloads_total",
                &[("result", "success")],
            )
            .is_some_and(|n| n >= count)
        })
        .await
        .unwrap();
}

async fn gauge(sidecar: &Sidecar, open: usize) {
    sidecar
        .metric(&format!("{open} connections in the gauge"), |m| {
            m.value("token_sidecar_upstream_connections", &[]) == Some(open as f64)
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_pool_finishes_its_requests_and_closes() {
    let lab = Lab::new().await;
    let plain = plain_upstream(&lab).await;
    for (upstream, http) in [(&plain, "1"), (&plain, "2"), (&lab.upstream, "auto")] {
        let text = |idle: &str| {
            let more = format!(
                ", http: '{http}', pool: {{ idleTimeout: {idle} }}, timeouts: {{ idle: {idle} }}"
            );
            config("", &[route(&upstream.url(), &more)])
        };
        let sidecar = ready(&lab, text("4m")).await;
        let mut streams = vec![];
        for _ in 0..4 {
            streams.push(streaming(&sidecar.client()).await);
            streams.push(streaming(&sidecar.client().http2()).await);
        }
        // Some idle ones too.
        for _ in 0..4 {
            assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
        }
        // One that was opened in vain may be on its way out.
        sidecar
            .metric("as many in the gauge as are open", |m| {
                let open = upstream.open_connections();
                open > 0 && m.value("token_sidecar_upstream_connections", &[]) == Some(open as f64)
            })
            .await
            .unwrap();
        reloaded(&sidecar, &text("3m"), 2.0).await;
        for stream in streams {
            finishes(stream).await;
        }
        until("the old connections to be closed", || {
            upstream.open_connections() == 0
        })
        .await
        .unwrap();
        gauge(&sidecar, 0).await;
        assert_eq!(sidecar.client().get("/users/1").await.unwrap().status, 200);
        assert_eq!(upstream.open_connections(), 1, "{http}");
        gauge(&sidecar, 1).await;
        drop(sidecar);
        until("the sidecar to be gone", || {
            upstream.open_connections() == 0
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_goes_finishes_what_it_took_and_disturbs_no_other() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let (second, third) = (ports::free().unwrap(), ports::free().unwrap());
    let with = |more: &[String]| {
        let mut routes = vec![route(&upstream.url(), "")];
        routes.extend_from_slice(more);
        config("", &routes)
    };
    let at = |name: &str, listen| {
        format!(
            "name: {name}, listen: '{listen}', upstream: '{}'",
            upstream.url()
        )
    };
    let sidecar = ready(&lab, with(&[at("second", second)])).await;
    let mut kept = sidecar.client().connect().await.unwrap();
    assert_eq!(
        kept.send(get_request("/users/1")).await.unwrap().status,
        200
    );
    let undisturbed = streaming(&sidecar.client()).await;
    let going = [
        streaming(&Client::new(second)).await,
        streaming(&Client::new(second).http2()).await,
    ];
    // One that has not been answered, and one whose body is still to come.
    let mut slow = Raw::connect(second).await.unwrap();
    slow.send(get("/slow-header?ms=1500")).await.unwrap();
    let mut uploading = Raw::connect(second).await.unwrap();
    uploading
        .send("POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
        .await
        .unwrap();
    until("both to arrive", || {
        upstream
            .requests()
            .count(|r| ["/slow-header", "/sink"].contains(&r.path()))
            == 2
    })
    .await
    .unwrap();

    // One listener goes, another one comes with its route.
    reloaded(&sidecar, &with(&[at("third", third)]), 2.0).await;
    until("the listener to be gone", || {
        std::net::TcpStream::connect(second).is_err()
    })
    .await
    .unwrap();
    uploading.send("def").await.unwrap();
    let answer = uploading.answer().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert!(answer.text().contains("\"bytes\":6"), "{}", answer.text());
    assert_eq!(slow.answer().await.unwrap().status(), 200);
    for raw in [&mut uploading, &mut slow] {
        assert!(raw.closes_within(LONG).await);
    }
    for stream in going {
        finishes(stream).await;
    }
    finishes(undisturbed).await;
    assert_eq!(
        kept.send(get_request("/users/1")).await.unwrap().status,
        200
    );
    for client in [Client::new(third), Client::new(third).http2()] {
        assert_eq!(client.get("/users/1").await.unwrap().status, 200);
    }
    let metrics = sidecar.metrics().await.unwrap();
    let counted = metrics.value("token_sidecar_requests_total", &[("route", "third")]);
    assert_eq!(counted, Some(2.0));
}

/// Requests that queue for a place in a pool are served even if the pool is replaced meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_queue_in_a_replaced_pool_are_served() {
    let lab = Lab::new().await;
    let upstream = plain_upstream(&lab).await;
    let text = |idle: &str| {
        let more = format!(
            ", pool: {{ maxConnections: 1, idleTimeout: {idle} }}, timeouts: {{ connect: 5m }}"
        );
        config("workers: 1", &[route(&upstream.url(), &more)])
    };
    let sidecar = ready(&lab, text("4m")).await;
    let held = streaming(&sidecar.client()).await;
    let client = sidecar.client();
    let mut queued = JoinSet::new();
    queued.spawn(async move { at_once(&client, 10, "/users/1").await });
    sidecar
        .metric("all to be in", |m| {
            m.value("token_sidecar_requests_in_flight", &[])
                .is_some_and(|n| n >= 11.0)
        })
        .await
        .unwrap();
    reloaded(&sidecar, &text("3m"), 2.0).await;
    finishes(held).await;
    for answer in queued.join_all().await.concat() {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until("the old connections to be closed", || {
        upstream.open_connections() == 0
    })
    .await
    .unwrap();
    gauge(&sidecar, 0).await;
}
