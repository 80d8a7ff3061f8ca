//! AKS identity bindings: the cluster's token proxy is asked in Entra's place, by the variables that AKS injects.

use crate::lab::{Lab, assert_passes, start};
use harness::{
    authority::{TokenProxy, token_proxy::BINDING_AUDIENCE},
    certs::Ca,
    issuer::ProjectedToken,
    process::SidecarSetup,
};
use std::fs;

const NAME: &str = "0123abcd.ests.aks";

struct Bound {
    lab: Lab,
    /// The cluster's own root, which nothing else trusts.
    ca: Ca,
    proxy: TokenProxy,
}

impl Bound {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let ca = Ca::new().unwrap();
        let proxy = TokenProxy::start(&lab.authority, &ca, NAME).await.unwrap();
        let this = Self { lab, ca, proxy };
        this.rotate();
        this
    }

    /// A token for the proxy, which Entra itself does not take.
    fn rotate(&self) {
        let token = ProjectedToken {
            audiences: vec![BINDING_AUDIENCE.into()],
            ..ProjectedToken::default()
        };
        let token = self.lab.authority.issuer().mint(&token).unwrap();
        self.lab.volume.write(token).unwrap();
    }

    fn setup(&self) -> SidecarSetup {
        self.lab
            .quick()
            .env(
                "AZURE_KUBERNETES_TOKEN_PROXY",
                format!("https://{}", self.proxy.address()),
            )
            .env("AZURE_KUBERNETES_SNI_NAME", NAME)
            .env("AZURE_KUBERNETES_CA_FILE", self.ca.file())
    }
}

#[tokio::test]
async fn the_token_proxy_is_asked_under_its_own_name_as_aks_sets_it_up() {
    let bound = Bound::new().await;
    let sidecar = start(&bound.setup()).await;
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
    let requests = bound.lab.authority.requests().all();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert!(request.through_token_proxy, "Entra itself is never asked");
    assert_eq!(
        request.path,
        format!("/{}/oauth2/v2.0/token", harness::authority::options::TENANT)
    );
    assert_eq!(bound.proxy.asked().all(), [Some(NAME.to_owned())]);
    // Over HTTP/2 the authority pseudo-header is the host; over HTTP/1.1 there is a `Host`.
    if let Some(host) = request.headers.get("host") {
        assert_eq!(host.to_str().unwrap(), bound.proxy.address().to_string());
    }
    assert_eq!(bound.lab.authority.accepted_connections(), 0);
}

#[tokio::test]
async fn entra_itself_does_not_take_the_bindings_token() {
    let bound = Bound::new().await;
    let config = bound.lab.config().replace(
        "entraClientAssertion: { ",
        "entraClientAssertion: { identityBinding: never, ",
    );
    let setup = bound.setup();
    let env = setup
        .env
        .into_iter()
        .filter(|(name, _)| !name.starts_with("TOKEN_SIDECAR"));
    let setup = SidecarSetup {
        env: env.collect(),
        ..SidecarSetup::default()
    };
    let sidecar = start(&setup.config(config)).await;
    sidecar.pending("aadsts_700212").await.unwrap();
    assert_eq!(bound.proxy.asked().len(), 0);
}

#[tokio::test]
async fn only_the_bindings_roots_are_trusted_and_rotated_ones_are_taken_up() {
    let bound = Bound::new().await;
    let other = Ca::new().unwrap();
    let file = bound.ca.dir().join("ca.crt");
    // The system's roots (SSL_CERT_FILE) have the lab's; they do not count here.
    fs::write(&file, other.pem()).unwrap();
    let sidecar = start(&bound.setup().env("AZURE_KUBERNETES_CA_FILE", &file)).await;
    let answer = sidecar.pending("tls_certificate_error").await.unwrap();
    assert!(!answer.text().contains("eyJ"));
    assert!(bound.lab.authority.requests().is_empty());
    fs::write(&file, bound.ca.pem()).unwrap();
    sidecar.ready().await.unwrap();
    assert_passes(&sidecar).await;
}

#[tokio::test]
async fn variables_beside_a_missing_proxy_end_the_start_with_their_names() {
    let bound = Bound::new().await;
    let mut setup = bound.setup();
    setup.env.remove("AZURE_KUBERNETES_TOKEN_PROXY");
    let error = harness::process::Sidecar::start(crate::lab::program(), &setup)
        .await
        .err()
        .expect("it does not start")
        .to_string();
    assert!(
        error.contains("AZURE_KUBERNETES_SNI_NAME: set without AZURE_KUBERNETES_TOKEN_PROXY"),
        "{error}"
    );
}
