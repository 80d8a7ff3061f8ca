//! `jwtBearer` -> its parameters.

use super::{
    super::fields::Fields,
    endpoint::{Endpoint, target},
    subjects::Subjects,
};
use crate::token::params::JwtBearerParams;

pub(super) fn jwt_bearer(
    credential: &Fields<'_>,
    subjects: &Subjects<'_>,
) -> Option<JwtBearerParams> {
    let fields = credential.map("jwtBearer", "credentials.*.jwtBearer")?;
    let endpoint = Endpoint::of(&fields, subjects);
    let assertion = subjects.named(&fields, "assertion");
    let target = target(&fields);
    Some(JwtBearerParams {
        endpoint: endpoint.params()?,
        assertion: assertion?,
        target: target?,
    })
}
