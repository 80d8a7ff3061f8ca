//! What the doctor found, step by step, and how it is shown: as text for a person, as JSON for a program. No finding is made here.

use serde::Serialize;
use std::fmt;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Pass,
    /// Works, or may work, but is worth a look.
    Warn,
    /// Broken: requests fail, or will.
    Fail,
    /// Not looked at, and why.
    Skip,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of what: `subject token pod`, `credential arm`, `route orders`, …
    pub of: String,
    /// Which: `file`, `issuer`, `exchange`, …
    pub step: &'static str,
    /// How it went.
    pub status: Status,
    /// A bounded code, as in metrics, when there is one: `aadsts_700213`, `dns_error`, …
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'static str,
    /// What was seen; the cause, and in words the mend, when it did not pass.
    pub detail: String,
    /// What to run, with the values at hand filled in; `<…>` where only the reader knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

impl Step {
    /// It passed.
    pub fn pass(of: impl Into<String>, step: &'static str, detail: impl Into<String>) -> Self {
        Self::new(of, step, Status::Pass, "", detail, vec![])
    }

    /// It is worth a look.
    pub fn warn(
        of: impl Into<String>,
        step: &'static str,
        code: &'static str,
        detail: impl Into<String>,
        commands: Vec<String>,
    ) -> Self {
        Self::new(of, step, Status::Warn, code, detail, commands)
    }

    /// It failed.
    pub fn fail(
        of: impl Into<String>,
        step: &'static str,
        code: &'static str,
        detail: impl Into<String>,
        commands: Vec<String>,
    ) -> Self {
        Self::new(of, step, Status::Fail, code, detail, commands)
    }

    /// It was not looked at.
    pub fn skip(of: impl Into<String>, step: &'static str, why: impl Into<String>) -> Self {
        Self::new(of, step, Status::Skip, "", why, vec![])
    }

    fn new(
        of: impl Into<String>,
        step: &'static str,
        status: Status,
        code: &'static str,
        detail: impl Into<String>,
        commands: Vec<String>,
    ) -> Self {
        Self {
            of: of.into(),
            step,
            status,
            code,
            detail: detail.into(),
            commands,
        }
    }
}

/// All steps, in the order of the chain.
#[derive(Debug, Default)]
pub struct Report(Vec<Step>);

#[derive(Serialize)]
struct Shown<'a> {
    ok: bool,
    failed: usize,
    warnings: usize,
    steps: &'a [Step],
}

impl Report {
    pub(super) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(super) fn extend(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.0.extend(steps);
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether none failed.
    pub fn ok(&self) -> bool {
        self.count(Status::Fail) == 0
    }

    /// One JSON object: `ok`, `failed`, `warnings`, `steps`.
    pub fn json(&self) -> String {
        let shown = Shown {
            ok: self.ok(),
            failed: self.count(Status::Fail),
            warnings: self.count(Status::Warn),
            steps: &self.0,
        };
        // Strings and enums without maps: this cannot fail.
        serde_json::to_string_pretty(&shown).unwrap_or_default()
    }

    fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|s| s.status == status).count()
    }
}

impl fmt::Display for Report {
    /// A line for each step, what to do below those that did not pass, and a last line that sums up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            let mark = match step.status {
                Status::Pass => "[ok]  ",
                Status::Warn => "[warn]",
                Status::Fail => "[FAIL]",
                Status::Skip => "[skip]",
            };
            write!(f, "{mark} {}: {}: ", step.of, step.step)?;
            if !step.code.is_empty() {
                write!(f, "{}: ", step.code)?;
            }
            writeln!(f, "{}", step.detail)?;
            for command in &step.commands {
                writeln!(f, "         $ {command}")?;
            }
        }
        match (self.count(Status::Fail), self.count(Status::Warn)) {
            (0, 0) => writeln!(f, "everything passes"),
            (0, warnings) => writeln!(f, "nothing fails; {warnings} to look at"),
            (failed, _) => {
                let first = self.0.iter().find(|s| s.status == Status::Fail);
                let of = first.map(|s| s.of.as_str()).unwrap_or_default();
                let step = first.map(|s| s.step).unwrap_or_default();
                writeln!(
                    f,
                    "{failed} failed; begin with the first: {of}: {step} (later ones often follow from it)"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.push(Step::pass("subject token pod", "file", "/a: 51 min left"));
        report.push(Step::fail(
            "credential arm",
            "exchange",
            "aadsts_700213",
            "no such subject",
            vec!["az x".into()],
        ));
        report.push(Step::skip("sidecar", "readyz", "none is running here"));
        report
    }

    #[test]
    fn text_names_cause_and_command_and_where_to_begin() {
        assert_eq!(
            report().to_string(),
            "[ok]   subject token pod: file: /a: 51 min left\n\
             [FAIL] credential arm: exchange: aadsts_700213: no such subject\n         $ az x\n\
             [skip] sidecar: readyz: none is running here\n\
             1 failed; begin with the first: credential arm: exchange (later ones often follow from it)\n"
        );
    }

    #[test]
    fn json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["failed"], 1);
        assert_eq!(json["steps"][1]["code"], "aadsts_700213");
        assert_eq!(json["steps"][1]["commands"][0], "az x");
        assert_eq!(json["steps"][0].get("commands"), None);
        let mut fine = Report::default();
        fine.push(Step::pass("a", "b", "c"));
        assert!(fine.ok());
        fine.push(Step::warn("a", "b", "c", "d", vec![]));
        assert!(fine.ok() && fine.to_string().ends_with("nothing fails; 1 to look at\n"));
    }
}
