//! `subjectTokens`: the files, and which of them credentials name. Not what is done with them: that is each grant's file beside this one.

use super::{
    super::{
        env,
        error::Place,
        fields::{Context, Fields, shown},
        parse,
    },
    checked_name,
};
use crate::token::{
    caller,
    params::{ChainedTokenParams, SubjectTokenParams, TokenParams},
};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
};

/// The subject token that needs no declaration: AKS says where it is.
const POD: &str = "pod";

/// The subject tokens that credentials may name, and which of them some credential names.
pub(super) struct Subjects<'a> {
    context: &'a Context<'a>,
    declared: Vec<(&'a str, Place)>,
    params: Vec<SubjectTokenParams>,
    chained: Vec<ChainedTokenParams>,
    used: RefCell<HashSet<String>>,
    implicit_pod: Option<String>,
    pod_reported: Cell<bool>,
}

impl<'a> Subjects<'a> {
    pub(super) fn declared(top: &Fields<'a>) -> Self {
        let context = top.context;
        let mut this = Self {
            context,
            declared: Vec::new(),
            params: Vec::new(),
            chained: Vec::new(),
            used: RefCell::default(),
            implicit_pod: context.variable(env::FEDERATED_TOKEN_FILE),
            pod_reported: Cell::new(false),
        };
        for entry in top.named("subjectTokens").unwrap_or_default() {
            let path = format!("subjectTokens.{}", shown(&entry.key));
            this.declared.push((&entry.key, entry.key_at));
            if entry.key == caller::NAME {
                context.problems.error(
                    entry.key_at,
                    &path,
                    "the name of the token of an inbound request's caller, which no file holds; use another name, or name `caller` without declaring it",
                );
            }
            let name = checked_name(context, entry, &path);
            let fields = Fields::open(context, &entry.node, path, "subjectTokens.*");
            let Some(fields) = fields else {
                continue;
            };
            if fields.node("credential").is_some() {
                let credential = credential(top, &fields);
                if let (Some(name), Some(credential)) = (name, credential) {
                    this.chained.push(ChainedTokenParams { name, credential });
                }
            } else if let Some(file) = this.file(&fields, &entry.key)
                && let Some(name) = name
            {
                this.params.push(SubjectTokenParams { name, file });
            }
        }
        this
    }

    fn file(&self, fields: &Fields<'_>, name: &str) -> Option<PathBuf> {
        if fields.node("file").is_some() {
            return fields.value("file", parse::path);
        }
        match (name, &self.implicit_pod) {
            (POD, Some(file)) => Some(file.into()),
            (POD, None) => {
                self.report_pod(fields.at, fields.join("file"));
                None
            }
            _ => {
                fields.error(
                    "file",
                    "missing; give the path of the projected token (only `pod` has a default), or `credential`",
                );
                None
            }
        }
    }

    fn report_pod(&self, at: Place, path: String) {
        if !self.pod_reported.replace(true) {
            let (variable, mend) = (
                env::FEDERATED_TOKEN_FILE,
                env::aks_mend(env::FEDERATED_TOKEN_FILE),
            );
            let message = format!(
                "the subject token `pod` has no file, and {variable} is not set; set `subjectTokens.pod.file`, or {variable}: {mend}"
            );
            self.context.problems.error(at, path, message);
        }
    }

    /// Reads a key that names a subject token.
    pub(super) fn named(&self, fields: &Fields<'_>, key: &'static str) -> Option<Arc<str>> {
        let name = fields.value(key, |t| Ok(t.to_owned()))?;
        self.used.borrow_mut().insert(name.clone());
        if self.declared.iter().any(|(n, _)| *n == name) {
            return Some(name.into());
        }
        if name == caller::NAME {
            return Some(name.into());
        }
        if name == POD {
            if self.implicit_pod.is_none() {
                self.report_pod(fields.at(key), fields.join(key));
            }
            return Some(name.into());
        }
        let known = self
            .declared
            .iter()
            .map(|(n, _)| *n)
            .chain([POD, caller::NAME]);
        let hint = self.context.hint(&name, known);
        fields.error(
            key,
            format!("no subject token is named `{}`{hint}", shown(&name)),
        );
        None
    }

    /// The declared ones, and `pod` when it is used without a declaration. Warns of those that nobody uses.
    pub(super) fn finish(mut self, params: &mut TokenParams) {
        let used = self.used.into_inner();
        for (name, at) in &self.declared {
            if !used.contains(*name) {
                let path = format!("subjectTokens.{}", shown(name));
                self.context.problems.warning(
                    *at,
                    path,
                    "no credential uses this subject token; remove it, or use it",
                );
            }
        }
        if let Some(file) = self.implicit_pod
            && used.contains(POD)
            && !self.declared.iter().any(|(n, _)| *n == POD)
        {
            self.params.push(SubjectTokenParams {
                name: POD.into(),
                file: file.into(),
            });
        }
        params.subject_tokens = self.params;
        params.chained_tokens.extend(self.chained);
    }
}

/// The credential whose token a subject token is.
fn credential(top: &Fields<'_>, fields: &Fields<'_>) -> Option<Arc<str>> {
    fields.exactly_one(&["file", "credential"])?;
    let name = fields.value("credential", |t| Ok(t.to_owned()))?;
    let credentials = top.named("credentials").unwrap_or_default();
    if credentials.iter().any(|entry| entry.key == name) {
        return Some(name.into());
    }
    let known = credentials.iter().map(|entry| entry.key.as_str());
    let hint = fields.context.hint(&name, known);
    fields.error(
        "credential",
        format!("no credential is named `{}`{hint}", shown(&name)),
    );
    None
}
