//! gRPC through the sidecar, server and client on gRPC's C core: calls of every kind, metadata both ways, statuses and details in trailers, flow control,
//! cancellation. The workload speaks cleartext HTTP/2 to the sidecar, as to any local server; the upstream is one too, or TLS with ALPN.

use crate::{
    interop_lab::{Parts, parts, run, said},
    lab::{Lab, start},
};
use harness::{certs::LOCAL_NAMES, ports, process::Process, temp::TempDir, wait::eventually};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The server, once it serves. With `tls`: certificate and key.
async fn server(parts: &Parts, port: u16, seen: &Path, tls: Option<[PathBuf; 2]>) -> Process {
    let mut args: Vec<OsString> = vec![
        parts.script("grpc_echo.py").into(),
        "server".into(),
        port.to_string().into(),
        seen.into(),
    ];
    args.extend(tls.into_iter().flatten().map(OsString::from));
    let server = Process::spawn(&parts.python(), &args, &BTreeMap::new()).unwrap();
    eventually("the gRPC server serves", || async {
        let serves = server.stdout().count(|line| line == "serving") > 0;
        serves.then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{e}:\n{}", server.output()));
    server
}

/// Every call of the client's passes, and the server sees the sidecar's credential, not the client's.
async fn assert_grpc_passes(parts: &Parts, lab: &Lab, tls: bool) {
    let dir = TempDir::new("grpc").unwrap();
    let (seen, port) = (dir.join("seen"), ports::free().unwrap().port());
    let pair = [dir.join("tls.crt"), dir.join("tls.key")];
    let leaf = lab.ca.leaf(&LOCAL_NAMES).unwrap();
    fs::write(&pair[0], leaf.pem()).unwrap();
    fs::write(&pair[1], leaf.key_pem()).unwrap();
    let server = server(parts, port, &seen, tls.then_some(pair)).await;
    let (upstream, http) = match tls {
        true => (format!("https://localhost:{port}"), "auto"),
        false => (format!("http://127.0.0.1:{port}"), "'2'"),
    };
    let config = lab
        .config()
        .replace(&lab.upstream.url(), &upstream)
        .replace(
            "credential: backend }",
            &format!("credential: backend, http: {http} }}"),
        );
    let sidecar = start(&lab.aks().config(config)).await;
    sidecar.ready().await.unwrap();
    let (script, target) = (parts.script("grpc_echo.py"), sidecar.listen().to_string());
    let args = [script.to_str().unwrap(), "client", &target];
    let output = run(&parts.python(), &args, &[]).await;
    let whole = format!(
        "{}\n{}\n{}",
        said(&output),
        server.output(),
        sidecar.process.output()
    );
    assert!(output.status.success(), "{whole}");
    let expected = "hello b'\\x00\\xff' kept\n0 1 2 3 4\n42\nONE TWO THREE 0 OK\nTrue\n\
                    first FAILED_PRECONDITION not now – später b'\\x01\\x02'\nUNIMPLEMENTED\nheld\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{whole}");
    server
        .stdout()
        .find("the server hears of the cancelled call", |line| {
            line == "cancelled"
        })
        .await
        .unwrap();
    let injected = fs::read_to_string(seen).unwrap();
    let issued = lab.authority.issued().all();
    assert!(issued.iter().any(|i| i.token == injected));
}

#[tokio::test]
async fn grpc_passes() {
    let Some(parts) = parts("gRPC through the sidecar") else {
        return;
    };
    let lab = Lab::new().await;
    assert_grpc_passes(&parts, &lab, false).await;
    assert_grpc_passes(&parts, &lab, true).await;
}
