//! What the doctor found, step by step, and how it is shown: as text for a person, as JSON for a program. No finding is made here.

use super::reference;
use serde::Serialize;
use std::fmt;

/// Of the JSON's shape: a field that changes its meaning, or goes, makes it another one; one that is added does not.
const VERSION: u32 = 1;

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
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Of what: `subject token pod`, `authority https://login.microsoftonline.com`, `credential arm`, `route orders`, …
    pub of: String,
    /// Which: `file`, `issuer`, `exchange`, …
    pub step: &'static str,
    /// How it went.
    pub status: Status,
    /// A bounded code, as in metrics, when there is one: `aadsts_700213`, `dns_error`, …
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'static str,
    /// What was seen; the cause, when it did not pass.
    pub detail: String,
    /// What mends it, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// What to run, with the values at hand filled in; `<…>` where only the reader knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The step that failed and is in the way of this one: `OF: STEP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// It is part of what was asked for, and was skipped all the same.
    #[serde(skip)]
    pub(super) unasked: bool,
}

impl Step {
    /// It passed.
    pub fn pass(of: impl Into<String>, step: &'static str, detail: impl Into<String>) -> Self {
        Self::new(of, step, Status::Pass, "", detail)
    }

    /// It is worth a look.
    pub fn warn(
        of: impl Into<String>,
        step: &'static str,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(of, step, Status::Warn, code, detail)
    }

    /// It failed.
    pub fn fail(
        of: impl Into<String>,
        step: &'static str,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(of, step, Status::Fail, code, detail)
    }

    /// It was not looked at, by design.
    pub fn skip(of: impl Into<String>, step: &'static str, why: impl Into<String>) -> Self {
        Self::new(of, step, Status::Skip, "", why)
    }

    /// It was not looked at, though it is part of what was asked for: the last line says so.
    pub fn unasked(of: impl Into<String>, step: &'static str, why: impl Into<String>) -> Self {
        Self {
            unasked: true,
            ..Self::skip(of, step, why)
        }
    }

    /// It was not reached, because another one failed.
    pub fn blocked(of: impl Into<String>, step: &'static str, by: &str) -> Self {
        Self {
            blocked_by: Some(by.to_owned()),
            ..Self::new(
                of,
                step,
                Status::Skip,
                "",
                format!("not reached; first: {by}"),
            )
        }
    }

    fn new(
        of: impl Into<String>,
        step: &'static str,
        status: Status,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        debug_assert!(
            code.is_empty() || reference::codes().contains(&code),
            "{code} is not among the codes of the reference"
        );
        Self {
            of: of.into(),
            step,
            status,
            code,
            detail: detail.into(),
            mend: String::new(),
            commands: vec![],
            blocked_by: None,
            unasked: false,
        }
    }

    /// The same, with what mends it in words.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self {
            mend: mend.into(),
            ..self
        }
    }

    /// The same, with what to run.
    #[must_use]
    pub fn run(self, commands: Vec<String>) -> Self {
        Self { commands, ..self }
    }

    /// `OF: STEP`, as others that wait for it name it.
    pub fn name(&self) -> String {
        format!("{}: {}", self.of, self.step)
    }
}

/// All steps, in the order of the chain.
#[derive(Debug, Default)]
pub struct Report(Vec<Step>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    version: u32,
    ok: bool,
    passed: usize,
    warnings: usize,
    failed: usize,
    skipped: usize,
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

    /// One JSON object. Its shape is documented in proxy/README.md, and does not change without its `version`.
    pub fn json(&self) -> String {
        let shown = Shown {
            version: VERSION,
            ok: self.ok(),
            passed: self.count(Status::Pass),
            warnings: self.count(Status::Warn),
            failed: self.count(Status::Fail),
            skipped: self.count(Status::Skip),
            steps: &self.0,
        };
        // Strings and enums without maps: this cannot fail.
        serde_json::to_string_pretty(&shown).unwrap_or_default()
    }

    fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|s| s.status == status).count()
    }

    /// The names of the steps that went so.
    fn names(&self, status: Status) -> String {
        let names: Vec<_> = self
            .0
            .iter()
            .filter(|s| s.status == status)
            .map(Step::name)
            .collect();
        names.join("; ")
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
            if !step.mend.is_empty() {
                writeln!(f, "         mend: {}", step.mend)?;
            }
            for command in &step.commands {
                writeln!(f, "         $ {command}")?;
            }
        }
        let warned = match self.count(Status::Warn) {
            0 => String::new(),
            n => format!("; {n} to look at: {}", self.names(Status::Warn)),
        };
        let unasked: Vec<&str> = (self.0.iter().filter(|s| s.unasked))
            .map(|s| s.of.as_str())
            .collect();
        let warned = match unasked.len() {
            0 => warned,
            n => format!("{warned}; {n} not asked: {}", unasked.join(", ")),
        };
        match self.count(Status::Fail) {
            0 if warned.is_empty() => writeln!(f, "everything passes"),
            0 => writeln!(f, "nothing fails{warned}"),
            n => writeln!(f, "{n} failed: {}{warned}", self.names(Status::Fail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn report() -> Report {
        let mut report = Report::default();
        report.push(Step::pass("subject token pod", "file", "/a: 51 min left"));
        let failed = Step::fail(
            "credential arm",
            "exchange",
            "aadsts_700213",
            "no such subject",
        )
        .mend("create one")
        .run(vec!["az x".into()]);
        let name = failed.name();
        report.push(failed);
        report.push(Step::blocked("route arm", "request", &name));
        report.push(Step::skip("sidecar", "readyz", "none is running here"));
        report
    }

    #[test]
    fn text_names_cause_mend_and_command_and_what_failed_in_the_end() {
        assert_eq!(
            report().to_string(),
            "[ok]   subject token pod: file: /a: 51 min left\n\
             [FAIL] credential arm: exchange: aadsts_700213: no such subject\n         mend: create one\n         $ az x\n\
             [skip] route arm: request: not reached; first: credential arm: exchange\n\
             [skip] sidecar: readyz: none is running here\n\
             1 failed: credential arm: exchange\n"
        );
    }

    /// The shape that proxy/README.md documents.
    #[test]
    fn json_says_the_same_in_its_documented_shape() {
        let shown: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(
            shown,
            json!({
                "version": 1, "ok": false, "passed": 1, "warnings": 0, "failed": 1, "skipped": 2,
                "steps": [
                    { "of": "subject token pod", "step": "file", "status": "pass", "detail": "/a: 51 min left" },
                    { "of": "credential arm", "step": "exchange", "status": "fail", "code": "aadsts_700213", "detail": "no such subject",
                      "mend": "create one", "commands": ["az x"] },
                    { "of": "route arm", "step": "request", "status": "skip", "detail": "not reached; first: credential arm: exchange",
                      "blockedBy": "credential arm: exchange" },
                    { "of": "sidecar", "step": "readyz", "status": "skip", "detail": "none is running here" },
                ]
            })
        );
    }

    #[test]
    fn the_last_line_tells_what_was_not_asked() {
        let mut report = Report::default();
        report.push(Step::pass("a", "b", "c"));
        report.push(Step::unasked("profile x", "review", "not asked: why"));
        assert!(report.ok());
        assert!(
            report
                .to_string()
                .ends_with("nothing fails; 1 not asked: profile x\n")
        );
    }

    #[test]
    fn the_last_line_tells_failures_from_what_is_worth_a_look() {
        let mut fine = Report::default();
        fine.push(Step::pass("a", "b", "c"));
        assert!(fine.ok() && fine.to_string().ends_with("everything passes\n"));
        fine.push(Step::warn("a", "d", "audience", "f"));
        assert!(
            fine.ok()
                && fine
                    .to_string()
                    .ends_with("nothing fails; 1 to look at: a: d\n")
        );
        fine.push(Step::fail("g", "h", "missing", "j"));
        assert!(
            !fine.ok()
                && fine
                    .to_string()
                    .ends_with("1 failed: g: h; 1 to look at: a: d\n")
        );
    }
}
