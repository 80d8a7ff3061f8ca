//! The authorities that a configuration asks: which, how each is reached and trusted, and which of them are one and the same. Nothing is asked here.

use crate::{
    net::token_proxy::TokenProxyParams,
    token::{
        params::{
            AuthorityParams, ClientAuthentication, CredentialParams, EndpointParams, GrantParams,
            TenantParams, TlsClientParams,
        },
        verify::params::{IssuerParams, KeysAt},
    },
};
use std::time::Duration;
use url::Url;

/// One authority, as it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What the report calls it.
    pub(super) name: String,
    /// Scheme, host and port.
    pub(super) url: Url,
    /// A document that it has, or any path: only that it answers matters. None is asked of a token proxy, which has none.
    pub(super) document: Option<String>,
    /// Entra's, whose documents are known.
    pub(super) entra: bool,
    /// How it is reached and trusted.
    pub(super) authority: AuthorityParams,
    /// The cluster's token proxy, which is asked in the authority's place.
    pub(super) token_proxy: Option<TokenProxyParams>,
    /// The certificate that it is shown.
    pub(super) certificate: Option<TlsClientParams>,
    /// How long each layer may take.
    pub(super) within: Duration,
}

impl Place {
    /// Whether reaching one is reaching the other.
    fn is_same(&self, other: &Self) -> bool {
        self.url.origin() == other.url.origin()
            && self.authority == other.authority
            && self.token_proxy == other.token_proxy
            && self.certificate == other.certificate
    }

    /// Of an issuer of callers' tokens.
    pub(super) fn of_issuer(issuer: &IssuerParams, within: Duration) -> Self {
        let (KeysAt::Uri(url) | KeysAt::Metadata(url)) = &issuer.keys;
        Self {
            document: Some(url.path().to_owned()),
            ..Self::plain(url, &issuer.authority, within)
        }
    }

    /// Those of a credential, in the order in which they are asked; none when it asks nobody.
    pub(super) fn of_credential(credential: &CredentialParams) -> Vec<Self> {
        let within = credential.exchange_timeout;
        let grant = &credential.grant;
        if let Some((tenant, ..)) = grant.tenant() {
            return vec![Self::entra(tenant, within)];
        }
        if let GrantParams::GoogleSts(p) = grant {
            let sts = Self {
                document: Some(p.token_endpoint.path().to_owned()),
                ..Self::plain(&p.token_endpoint, &p.authority, within)
            };
            let iam = p
                .impersonation
                .as_ref()
                .map(|i| Self::plain(&i.endpoint, &i.authority, within));
            return std::iter::once(sts).chain(iam).collect();
        }
        let endpoints = grant.endpoints().into_iter();
        endpoints.map(|e| Self::endpoint(e, within)).collect()
    }

    fn endpoint(endpoint: &EndpointParams, within: Duration) -> Self {
        Self {
            document: Some(endpoint.url.path().to_owned()),
            certificate: match &endpoint.client_authentication {
                ClientAuthentication::Tls(tls) => Some(tls.clone()),
                _ => None,
            },
            ..Self::plain(&endpoint.url, &endpoint.authority, within)
        }
    }

    fn plain(url: &Url, authority: &AuthorityParams, within: Duration) -> Self {
        Self {
            name: format!("authority {}", url.origin().ascii_serialization()),
            url: url.clone(),
            document: Some("/".to_owned()),
            entra: false,
            authority: authority.clone(),
            token_proxy: None,
            certificate: None,
            within,
        }
    }

    fn entra(tenant: &TenantParams, within: Duration) -> Self {
        match &tenant.identity_binding {
            None => Self {
                document: Some(format!(
                    "/{}/v2.0/.well-known/openid-configuration",
                    tenant.tenant_id
                )),
                entra: true,
                ..Self::plain(&tenant.authority_host, &tenant.authority, within)
            },
            Some(proxy) => Self {
                name: format!("token proxy {}", proxy.url.origin().ascii_serialization()),
                document: None,
                token_proxy: Some(proxy.clone()),
                ..Self::plain(&proxy.url, &AuthorityParams::default(), within)
            },
        }
    }
}

/// The places that differ, each once, with names that differ.
pub(super) fn distinct(places: impl IntoIterator<Item = Place>) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for mut place in places {
        if all.iter().any(|p| p.is_same(&place)) {
            continue;
        }
        if let Some(certificate) = &place.certificate {
            place.name = format!("{} (as client {})", place.name, certificate.client_id);
        }
        if all.iter().any(|p| p.name == place.name) {
            let file = place.authority.ca_file.as_deref();
            let how = file.map_or_else(
                || "without caFile".to_owned(),
                |file| format!("caFile {}", file.display()),
            );
            place.name = format!("{} ({how})", place.name);
        }
        all.push(place);
    }
    all
}

/// Which of `all` a place is.
pub(super) fn find(all: &[Place], place: &Place) -> Option<usize> {
    all.iter().position(|p| p.is_same(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(ca_file: Option<&str>) -> Place {
        let url = Url::parse("https://a.example/token").unwrap();
        let authority = AuthorityParams {
            ca_file: ca_file.map(Into::into),
            ..AuthorityParams::default()
        };
        Place::plain(&url, &authority, Duration::from_secs(1))
    }

    #[test]
    fn one_that_is_trusted_otherwise_is_another_and_is_called_so() {
        let all = distinct([place(None), place(Some("/ca.pem")), place(None)]);
        let names: Vec<&str> = all.iter().map(|p| &*p.name).collect();
        let plain = "authority https://a.example";
        assert_eq!(
            names,
            [plain, "authority https://a.example (caFile /ca.pem)"]
        );
        assert_eq!(find(&all, &place(Some("/ca.pem"))), Some(1));
        assert_eq!(find(&all, &place(Some("/other.pem"))), None);
    }

    #[test]
    fn one_that_is_shown_another_certificate_is_another_and_is_called_so() {
        let shown = |client: &str, file: &str| Place {
            certificate: Some(TlsClientParams {
                client_id: client.to_owned(),
                certificate_file: file.into(),
                key_file: "/key.pem".into(),
            }),
            ..place(None)
        };
        let (a, b, new) = (shown("a", "/c"), shown("b", "/c"), shown("a", "/new"));
        let all = distinct([place(None), a.clone(), b.clone(), a.clone()]);
        let names: Vec<&str> = all.iter().map(|p| &*p.name).collect();
        let plain = "authority https://a.example";
        assert_eq!(
            names,
            [
                plain,
                &format!("{plain} (as client a)"),
                &format!("{plain} (as client b)")
            ]
        );
        assert_eq!(
            [&a, &b, &new].map(|p| find(&all, p)),
            [Some(1), Some(2), None]
        );
    }
}
