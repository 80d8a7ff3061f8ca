//! The table of every series, for the README. A test of `app::metrics` holds it against what is really registered.

/// One series: name without the prefix, labels, what it tells.
pub type Row = (&'static str, &'static [&'static str], &'static str);

/// What every series' name begins with.
pub const PREFIX: &str = "token_sidecar_";

/// Every series but `process_*`.
pub const SERIES: &[Row] = &[
    (
        "subject_token_expiry_timestamp_seconds",
        &["subject_token"],
        "When the subject token expires, in seconds since the epoch.",
    ),
    (
        "subject_token_issued_timestamp_seconds",
        &["subject_token"],
        "When the subject token was issued (its iat; without one, when it was first seen), in seconds since the epoch.",
    ),
    (
        "subject_token_rotations_total",
        &["subject_token"],
        "Times the subject token's file was seen with another good token, the first included.",
    ),
    (
        "subject_token_errors_total",
        &["subject_token", "reason"],
        "Times the subject token's file was seen with an unusable content, by reason; each content is counted once.",
    ),
    (
        "issued_token_expiry_timestamp_seconds",
        &["credential"],
        "When the issued token expires, in seconds since the epoch.",
    ),
    (
        "issued_token_renewed_timestamp_seconds",
        &["credential"],
        "When the issued token was got, in seconds since the epoch.",
    ),
    (
        "exchanges_total",
        &["credential", "result", "error"],
        "Exchanges by result (success, failure) and error (an OAuth code, aadsts_NNN, or what went wrong on the way).",
    ),
    (
        "exchange_duration_seconds",
        &["credential"],
        "How long exchanges took, failed ones included.",
    ),
    (
        "exchange_retry_after_seconds",
        &["credential"],
        "What the authority asked for with Retry-After at the last exchange; 0 when it did not.",
    ),
    (
        "renewal_failing_since_timestamp_seconds",
        &["credential", "error"],
        "Since when renewals have failed, in seconds since the epoch, by what the last one failed for (an OAuth code, aadsts_NNN, what went wrong on the way, or what the subject token lacks); absent while they succeed.",
    ),
    (
        "token_unavailable_total",
        &["credential"],
        "Requests answered 503 because there was no valid token.",
    ),
    (
        "caller_cache_entries",
        &["credential"],
        "Callers' tokens for which something is kept.",
    ),
    (
        "caller_cache_bytes",
        &["credential"],
        "Memory that the cache of callers' tokens takes.",
    ),
    (
        "caller_cache_evictions_total",
        &["credential"],
        "Callers' tokens that had to make room for others before their time.",
    ),
    (
        "caller_cache_lookups_total",
        &["credential", "result"],
        "Requests on behalf of a caller, by whether a valid token was there (hit, miss).",
    ),
    (
        "requests_total",
        &["route", "method", "status_class"],
        "Requests answered, by route, method and class of status.",
    ),
    (
        "request_duration_seconds",
        &["route"],
        "From a request's header section to the end of its response's body.",
    ),
    (
        "requests_in_flight",
        &["route"],
        "Requests whose response has not ended.",
    ),
    (
        "rejected_total",
        &["reason"],
        "Requests that the sidecar itself answered with an error, by reason.",
    ),
    (
        "unauthorized_replays_total",
        &["route", "result"],
        "Requests whose token the upstream rejected with 401, by what came of it.",
    ),
    (
        "upstream_connect_duration_seconds",
        &["route"],
        "Resolving, connecting and TLS towards the upstream, together.",
    ),
    (
        "upstream_connections",
        &["route"],
        "Connections to the route's upstream that are open.",
    ),
    (
        "config_reloads_total",
        &["result"],
        "Configurations taken over or refused, the first one included.",
    ),
    (
        "config_reloaded_timestamp_seconds",
        &[],
        "When the configuration in force was taken over, in seconds since the epoch.",
    ),
    (
        "config_waiting_since_timestamp_seconds",
        &[],
        "Since when a changed configuration has waited for the first tokens of its credentials, in seconds since the epoch; 0 when none waits.",
    ),
    (
        "build_info",
        &["version", "revision"],
        "1; the labels say what is running.",
    ),
    (
        "inbound_verifications_total",
        &["issuer", "result"],
        "Tokens of callers by issuer and result: verified, seen (verified before), or why it was refused.",
    ),
    (
        "inbound_handles",
        &[],
        "Handles that stand for callers' tokens, those in their grace included.",
    ),
    (
        "jwks_refreshes_total",
        &["issuer", "result"],
        "Fetches of an issuer's keys by result: success, or what went wrong.",
    ),
    (
        "jwks_refreshed_timestamp_seconds",
        &["issuer"],
        "When the issuer's keys were last fetched, in seconds since the epoch.",
    ),
];

/// Every series of the admission webhook but `process_*`.
pub const WEBHOOK_SERIES: &[Row] = &[
    (
        "injections_total",
        &["namespace", "result"],
        "Reviews of pods by namespace (the 200 last heard of; `(other)`: no name of one) and result (injected, unchanged, not_asked, refused, error). Dry runs are not counted.",
    ),
    (
        "admission_duration_seconds",
        &[],
        "From a review's last byte to its answer.",
    ),
    (
        "admission_connections_closed_total",
        &["reason"],
        "Connections closed before their time: for another's sake (crowded), without a request in time (silent), without TLS (handshake).",
    ),
    (
        "config_reloads_total",
        &["result"],
        "Profiles taken over or refused, the first ones included.",
    ),
    (
        "config_reloaded_timestamp_seconds",
        &[],
        "When the profiles in force were taken over, in seconds since the epoch.",
    ),
    (
        "certificate_reloads_total",
        &["result"],
        "Serving certificates taken over or refused after the first one.",
    ),
    (
        "certificate_not_before_timestamp_seconds",
        &[],
        "Since when the serving certificate is good, in seconds since the epoch.",
    ),
    (
        "certificate_expiry_timestamp_seconds",
        &[],
        "When the serving certificate expires, or the first of its chain, in seconds since the epoch.",
    ),
    (
        "build_info",
        &["version", "revision"],
        "1; the labels say what is running.",
    ),
];

/// The table of the sidecar's series as Markdown.
pub fn markdown() -> String {
    table(SERIES)
}

/// The table of the webhook's series as Markdown.
pub fn webhook_markdown() -> String {
    table(WEBHOOK_SERIES)
}

fn table(series: &[Row]) -> String {
    let mut out = String::from("| series | labels | |\n| --- | --- | --- |\n");
    for (name, labels, help) in series {
        let labels: Vec<String> = labels.iter().map(|l| format!("`{l}`")).collect();
        out.push_str(&format!(
            "| `{PREFIX}{name}` | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    out
}
