//! Puts a caller's token on the requests of programs that cannot be told to send one (the MCP conformance suite has no option for headers). Nothing
//! else is changed: method, target, `Host`, `Origin`, bodies and streams pass as they are. It is no part of what is tested.

use crate::{
    Result,
    body::{self, Body},
    client::Client,
    serve::{self, Server},
};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{io, net::SocketAddr};
use tokio::net::TcpListener;

/// A running forwarder. Ends with its connections on drop.
pub struct BearerForwarder {
    server: Server,
}

impl BearerForwarder {
    /// Forwards each request that comes to `listener` on to `target`, with `token` as its bearer token unless it has an `Authorization` already. The
    /// listener is given, since `target` may have to know its address before (as an allowed origin).
    ///
    /// # Errors
    /// When the token is no header value.
    pub fn serve(listener: TcpListener, target: SocketAddr, token: &str) -> Result<Self> {
        let authorization = HeaderValue::from_str(&format!("Bearer {token}"))?;
        let handler = serve::handler(move |request, _| {
            let authorization = authorization.clone();
            async move {
                forward(target, request, authorization)
                    .await
                    .unwrap_or_else(|error| refused(&error.to_string()))
            }
        });
        Ok(Self {
            server: Server::serve(listener, None, handler)?,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

async fn forward(
    target: SocketAddr,
    mut request: Request<Incoming>,
    authorization: HeaderValue,
) -> Result<Response<Body>> {
    request
        .headers_mut()
        .entry(header::AUTHORIZATION)
        .or_insert(authorization);
    let request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
    let mut connection = Client::new(target).connect().await?;
    let response = connection.start(request).await?;
    Ok(response.map(|body| {
        // The body keeps the connection that it comes over: whoever hangs up on us hangs up there.
        body.map_err(move |error| {
            let _kept = &connection;
            io::Error::other(error)
        })
        .boxed_unsync()
    }))
}

fn refused(why: &str) -> Response<Body> {
    let mut response = Response::new(body::full(format!("the forwarder of the test: {why}\n")));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
