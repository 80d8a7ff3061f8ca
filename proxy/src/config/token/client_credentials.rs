//! `clientCredentials` -> its parameters.

use super::{
    super::fields::Fields,
    endpoint::{Endpoint, target},
    subjects::Subjects,
};
use crate::token::params::{ClientAuthentication, ClientCredentialsParams};

pub(super) fn client_credentials(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<ClientCredentialsParams> {
    let fields = credential.map("clientCredentials", "credentials.*.clientCredentials")?;
    let endpoint = Endpoint::of(&fields, subjects);
    if let Some(ClientAuthentication::None { .. }) = endpoint.client_authentication {
        // RFC 6749 section 4.4: for confidential clients alone.
        fields.error(
            "clientAuthentication",
            "missing or none; the client's credentials are all that this grant goes by: give a method with a secret, a key or an assertion",
        );
    }
    let target = target(&fields);
    Some(ClientCredentialsParams {
        endpoint: endpoint.params()?,
        target: target?,
    })
}
