//! What a test asks of a scrape.

/// A scrape in Prometheus' text format.
#[derive(Debug, Clone)]
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a series, its labels given as they are written: `exchanges_total{credential="a",result="ok"}`. Labels may be left
    /// out; the values of all series that match are summed. `None` when none does.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut sum = None;
        for line in self.0.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (found, inside) = series.split_once('{').unwrap_or((series, ""));
            let has = |(key, value): &(&str, &str)| inside.contains(&format!("{key}=\"{value}\""));
            if found == name && labels.iter().all(has) {
                sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>().unwrap_or(f64::NAN));
            }
        }
        sum
    }
}
