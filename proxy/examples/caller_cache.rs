//! What the cache of callers' tokens takes: memory for each caller, and the time of a look-up by how many callers there are. Prints both; decides nothing.
//! `cargo run --release -p token-sidecar --example caller_cache`

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prometheus::Registry;
use sidecar_runtime::{clock::Clock, readiness::Readiness};
use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};
use token_sidecar::{
    metrics::token::TokenMetrics,
    token::{
        caller::{
            NAME, cache::CacheLimits, flight::SharedBreaker, running::RunningCaller,
            token::CallerToken,
        },
        exchange::{Exchanger, IssuedToken, SubjectTokens, TokenType, error::ExchangeError},
        params::{CredentialParams, EntraOnBehalfOfParams, GrantParams, TenantParams},
        subject::SubjectToken,
    },
};
use tokio::time::Instant;

/// Bytes of an issued token; Entra's have 1200 to 2000.
const TOKEN_BYTES: usize = 1500;
const LOOKUPS: usize = 200_000;

/// An authority that answers at once.
struct Issues;

#[async_trait]
impl Exchanger for Issues {
    fn takes_claims(&self) -> bool {
        true
    }

    async fn exchange(
        &self,
        _tokens: &SubjectTokens,
        _claims: Option<&str>,
    ) -> Result<IssuedToken, ExchangeError> {
        Ok(IssuedToken {
            token: "t".repeat(TOKEN_BYTES).into(),
            token_type: TokenType::Bearer,
            lifetime: Duration::from_secs(3600),
            refresh_in: None,
        })
    }
}

fn caller(number: usize, exp: u64, clock: &Clock) -> Result<Arc<CallerToken>, Box<dyn Error>> {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let payload = format!(r#"{{"exp":{exp},"sub":"user-{number}"}}"#);
    let text = format!(
        "{}.{}.{}",
        part(r#"{"alg":"RS256"}"#),
        part(&payload),
        part("s")
    );
    let subject = SubjectToken::parse(text.as_bytes(), clock.unix_now())?;
    let issuer = Arc::from("https://issuer.example");
    Ok(Arc::new(CallerToken::new(Arc::new(subject), issuer, clock)))
}

/// Resident memory in bytes (proc(5), `VmRSS`).
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib: usize = line
        .and_then(|l| l.split_whitespace().next())
        .ok_or("no VmRSS")?
        .parse()?;
    Ok(kib * 1024)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = Clock::system();
    let registry = Registry::new();
    let params = CredentialParams {
        name: "orders".into(),
        grant: GrantParams::EntraOnBehalfOf(EntraOnBehalfOfParams {
            tenant: TenantParams {
                authority_host: "https://login.example/".parse()?,
                tenant_id: "tenant".into(),
                authority: Default::default(),
                identity_binding: None,
            },
            client_id: "client".into(),
            client_assertion: "pod".into(),
            assertion: NAME.into(),
            scope: "api://a/.default".into(),
        }),
        injection: Arc::default(),
        exchange_timeout: Duration::from_secs(10),
        caller_cache: CacheLimits {
            max_entries: 1_000_000,
            max_bytes: 1 << 40,
            max_exchanges: 1000,
        },
    };
    let running = RunningCaller::start(
        &params,
        Arc::new(Issues),
        Vec::new(),
        SharedBreaker::default(),
        clock.clone(),
        Readiness::new().register("credential orders"),
        &TokenMetrics::register(&registry)?,
        1,
    );
    let cache = running.cache();
    // One for all, so that a caller made anew is the same.
    let exp = clock.unix_now().as_secs() + 3600;
    let mut out = io::stdout().lock();
    let before = resident()?;
    let mut known = 0;
    for callers in [100, 1_000, 10_000, 100_000] {
        while known < callers {
            let place = cache.place(caller(known, exp, &clock)?)?;
            place
                .slot()
                .wait(Instant::now() + Duration::from_secs(10))
                .await
                .map_err(|u| u.reason.to_string())?;
            known += 1;
        }
        let grown = resident()?.saturating_sub(before);
        let few: Vec<_> = (0..callers)
            .step_by(callers / 100)
            .map(|n| caller(n, exp, &clock))
            .collect::<Result<_, _>>()?;
        let began = Instant::now();
        for n in 0..LOOKUPS {
            let place = cache.place(Arc::clone(&few[n % few.len()]))?;
            place.slot().load(began).ok_or("no token")?;
        }
        let each = began.elapsed().as_nanos() / LOOKUPS as u128;
        writeln!(
            out,
            "{callers:>7} callers: {:>5} bytes each (tokens of {TOKEN_BYTES}), {each} ns a look-up",
            grown / callers
        )?;
    }
    Ok(())
}
