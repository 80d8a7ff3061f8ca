//! One flat JSON object a log line.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
};

use crate::clock::{Clock, rfc3339};

/// Formats events; the clock dates them.
#[derive(Debug)]
pub(super) struct FlatJson(pub(super) Clock);

const OWN_KEYS: [&str; 4] = ["timestamp", "level", "target", "message"];

impl<S> FormatEvent<S, JsonFields> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result
    where
        JsonFields: for<'a> FormatFields<'a>,
    {
        let mut fields = Fields::default();
        for span in ctx
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(formatted) = span.extensions().get::<FormattedFields<JsonFields>>()
                && let Ok(of_span) = serde_json::from_str::<Map<String, Value>>(formatted)
            {
                of_span
                    .into_iter()
                    .for_each(|(key, value)| fields.insert(&key, value));
            }
        }
        event.record(&mut fields);
        let metadata = event.metadata();
        let message = fields.message.unwrap_or_default();
        let own = [
            rfc3339(self.0.unix_now()),
            metadata.level().to_string(),
            metadata.target().to_owned(),
            message,
        ];
        for (position, (key, value)) in OWN_KEYS.iter().zip(own).enumerate() {
            let separator = if position == 0 { '{' } else { ',' };
            write!(writer, "{separator}\"{key}\":{}", Value::String(value))?;
        }
        for (key, value) in fields.map {
            write!(writer, ",{}:{value}", Value::String(key))?;
        }
        writeln!(writer, "}}")
    }
}

/// The fields of an event and of the spans around it; the innermost of a name wins.
#[derive(Default)]
struct Fields {
    message: Option<String>,
    map: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, key: &str, value: Value) {
        let key = if OWN_KEYS.contains(&key) {
            format!("field_{key}")
        } else {
            key.to_owned()
        };
        self.map.insert(key, value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = Some(value.to_owned());
        } else {
            self.insert(field.name(), value.into());
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
