//! Requests with a token that is bound by DPoP (RFC 9449 section 7): each gets a proof of its own; what the upstream says about nonces is heard.

use super::{respond::Problem, upstream::UpstreamSetup};
use crate::token::{
    dpop::{self, DPOP, DPOP_NONCE, Prover},
    slot::Injectable,
};
use http::{Request, Response, StatusCode};
use url::Url;

/// A request that carries a proof.
pub struct Bound<'p> {
    prover: &'p Prover,
    url: Url,
}

impl<'p> Bound<'p> {
    /// Puts the proof on a request that is ready but for it.
    ///
    /// # Errors
    /// When none can be made: then nothing may be sent.
    pub fn prove<B>(
        prover: &'p Prover,
        request: &mut Request<B>,
        token: &Injectable,
        upstream: &UpstreamSetup,
    ) -> Result<Self, Problem> {
        let path = request.uri().path();
        let url = format!("{}://{}{path}", upstream.scheme(), upstream.authority());
        let url = Url::parse(&url).map_err(|_| Problem::no_proof())?;
        let text = token.header.to_str().ok();
        let text = text.and_then(|value| value.strip_prefix(dpop::SCHEME));
        let proof = text
            .and_then(|text| prover.proof(request.method(), &url, Some(text)))
            .ok_or_else(Problem::no_proof)?;
        request.headers_mut().insert(DPOP, proof);
        Ok(Self { prover, url })
    }

    /// Takes over a nonce, which is ours and no business of the workload's. True when the upstream answers that the proof lacks it.
    pub fn heard<B>(&self, response: &mut Response<B>) -> bool {
        let headers = response.headers();
        let wants = response.status() == StatusCode::UNAUTHORIZED && dpop::asks_for_nonce(headers);
        if headers.contains_key(DPOP_NONCE) {
            self.prover.note(&self.url, headers);
            response.headers_mut().remove(DPOP_NONCE);
        }
        wants
    }
}
