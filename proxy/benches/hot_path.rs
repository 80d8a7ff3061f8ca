//! Benchmarks of the hot path (slot, route, strip and inject), of reply parsing, and of building the table of routes. They print figures and decide
//! nothing.

use divan::{Bencher, black_box, counter::ItemsCount};
use http::{HeaderMap, HeaderValue, Method, header};
use std::{rc::Rc, sync::Arc, time::Duration};
use token_sidecar::{
    metrics::request::RequestMetrics,
    request::{
        access::{Access, CredentialHandle},
        inject,
        params::{
            HttpVersions, Limits, ListenAddr, RequestParams, RouteParams, UpstreamParams,
            UpstreamTimeouts,
        },
        route::{Matcher, RouteTable},
        strip,
        table::{Prepared, Table},
    },
    token::{
        exchange::{
            TokenType,
            reply::{self, Expected, RawReply},
        },
        injection::Injection,
        slot::Slot,
    },
};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

fn slots(count: usize) -> Vec<Arc<Slot>> {
    let slot = |i: usize| {
        let slot = Slot::new(format!("credential-{i}").into());
        slot.store(
            HeaderValue::from_static("Bearer aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            Instant::now() + Duration::from_secs(3600),
        );
        slot
    };
    (0..count).map(slot).collect()
}

/// Reading one slot of many: no lock, no allocation, flat.
#[divan::bench(args = [1, 1000])]
fn slot_load(bencher: Bencher<'_, '_>, credentials: usize) {
    let slots = slots(credentials);
    let now = Instant::now();
    let mut next = 0;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| {
        next = (next + 1) % slots.len();
        black_box(slots[next].load(now))
    });
}

/// Matching among many routes of one host.
#[divan::bench(args = [1, 100, 10_000])]
fn route_match(bencher: Bencher<'_, '_>, routes: usize) {
    let table = RouteTable::new((0..routes).map(|i| {
        (
            Matcher {
                host: Some("api.example.com".into()),
                path_prefix: format!("/v1/tenants/{i}"),
                methods: None,
            },
            false,
            Rc::new(i),
        )
    }));
    let path = format!("/v1/tenants/{}/users/7", routes / 2);
    bencher.bench_local(|| {
        matches!(
            table.find("api.example.com", black_box(&path), &Method::GET),
            token_sidecar::request::route::Matched::Route { .. }
        )
    });
}

fn headers() -> HeaderMap {
    let mut m = HeaderMap::new();
    for (name, value) in [
        ("host", "127.0.0.1:8080"),
        ("user-agent", "python-httpx/0.28.1"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip, deflate"),
        ("connection", "keep-alive"),
        ("authorization", "Bearer not-ours"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        m.append(name, HeaderValue::from_static(value));
    }
    m
}

/// What happens to an ordinary request's header section.
#[divan::bench]
fn strip_and_inject(bencher: Bencher<'_, '_>) {
    let slots = slots(1);
    let injection = Injection::default();
    let now = Instant::now();
    bencher
        .with_inputs(headers)
        .bench_local_values(|mut headers| {
            strip::request(&mut headers, &[]);
            if let Some(token) = slots[0].load(now) {
                inject::credential(&mut headers, &injection, &token);
            }
            headers.insert(header::HOST, HeaderValue::from_static("api.example.com"));
            headers
        });
}

/// What a token endpoint's answer takes: a token of an ordinary length.
#[divan::bench]
fn reply_parsing(bencher: Bencher<'_, '_>) {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":86399,"ext_expires_in":86399,"refresh_in":43199,"access_token":"{}"}}"#,
        "a".repeat(1800)
    );
    let headers = HeaderMap::new();
    bencher.bench_local(|| {
        let raw = RawReply {
            status: 200,
            headers: &headers,
            body: black_box(body.as_bytes()),
        };
        reply::parse(
            raw,
            Expected::AccessToken,
            TokenType::Bearer,
            Duration::from_secs(1_800_000_000),
        )
        .is_ok()
    });
}

fn request_params(routes: usize) -> RequestParams {
    let second = Duration::from_secs(1);
    let listen = ListenAddr::Tcp(([127, 0, 0, 1], 8080).into());
    let route = |i: usize| RouteParams {
        name: format!("route-{i}").into(),
        listen: listen.clone(),
        host: None,
        path_prefix: format!("/v1/tenants/{i}"),
        methods: None,
        upstream_variable: None,
        upstream: UpstreamParams {
            tls: false,
            host: format!("tenant-{i}.localhost"),
            port: 80,
            unix: None,
            base_path: String::new(),
            http: HttpVersions::Auto,
            ca_file: None,
            server_name: None,
            allow_insecure_http: false,
            max_connections: 1024,
            max_idle_connections: 128,
            idle_timeout: second,
        },
        credential: "one".into(),
        without_caller: None,
        strip_request_headers: vec![],
        strip_response_headers: vec![],
        replay_buffer: 0,
        max_request_body: None,
        token_wait: second,
        upgrades: true,
        timeouts: UpstreamTimeouts {
            connect: second,
            response_header: second,
            idle: second,
        },
    };
    RequestParams {
        listeners: vec![listen.clone()],
        routes: (0..routes).map(route).collect(),
        limits: Limits {
            max_connections: 1,
            max_requests: 1,
            max_header_bytes: 65536,
            max_header_fields: 100,
            max_uri_bytes: 16384,
            header_read_timeout: second,
            keep_alive_timeout: second,
        },
        allowed_hosts: vec![],
        allow_remote_peers: false,
        allowed_origins: vec![],
        inbound: None,
    }
}

/// What a configuration takes until it can serve: for routes with an upstream each, as many times longer as there are more of them.
#[divan::bench(args = [100, 10_000], sample_count = 10)]
fn table_building(bencher: Bencher<'_, '_>, routes: usize) {
    let access = Access::Credential(CredentialHandle {
        slot: slots(1).remove(0),
        injection: Arc::default(),
        prover: None,
        unavailable: prometheus::IntCounter::new("unavailable", "none").unwrap_or_else(fail),
    });
    let metrics = RequestMetrics::register(&prometheus::Registry::new()).unwrap_or_else(fail);
    bencher
        .with_inputs(|| request_params(routes))
        .bench_local_values(|params| {
            let plan = Prepared::new(params)
                .unwrap_or_else(fail)
                .plan(|_| access.clone(), None);
            let first = Table::new(&plan, 0, &metrics, &Table::default());
            Table::new(&plan, 0, &metrics, &first)
        });
}

#[expect(clippy::panic, reason = "a benchmark has nobody to return an error to")]
fn fail<E: std::fmt::Display, T>(error: E) -> T {
    panic!("{error}")
}
