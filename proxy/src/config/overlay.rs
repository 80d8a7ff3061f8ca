//! Lays command-line options and the environment's `TOKEN_SIDECAR_*` over the file's tree, or makes the tree of a sidecar without a file.
//! Values put here carry the option's name as their place, so that they are checked and reported like any other.

use super::{
    Overrides, env,
    error::Place,
    fields::Context,
    tree::{Entry, Node, Value},
};

/// The tree with the options laid over. `None` when there is no usable tree; the reason was reported.
pub(super) fn apply(
    tree: Option<Node>,
    overrides: &Overrides,
    context: &Context<'_>,
) -> Option<Node> {
    let upstream = either(&overrides.upstream, "--upstream", env::UPSTREAM, context);
    let scope = either(&overrides.scope, "--scope", env::SCOPE, context);
    let mut tree = match (tree, upstream, scope) {
        (Some(tree), None, None) => tree,
        (Some(_), upstream, scope) => {
            for Node { at, .. } in upstream.into_iter().chain(scope) {
                context.problems.error(
                    at,
                    "",
                    "stands beside a configuration file; put it into the file, or drop the file",
                );
            }
            return None;
        }
        (None, None, None) => {
            let message = "nothing to do; give a configuration file (`--config FILE` or TOKEN_SIDECAR_CONFIG), or `--upstream URL` and \
                           `--scope SCOPE` (TOKEN_SIDECAR_UPSTREAM, TOKEN_SIDECAR_SCOPE)";
            context.problems.error(Place::Whole, "", message);
            return None;
        }
        (None, upstream, scope) => {
            if upstream.is_none() {
                context.problems.error(
                    Place::Given("--upstream"),
                    "",
                    "missing; `--scope` needs it: where do requests go?",
                );
            }
            if scope.is_none() {
                context.problems.error(
                    Place::Given("--scope"),
                    "",
                    "missing; `--upstream` needs it: which scope is asked for, such as https://management.azure.com/.default?",
                );
            }
            without_file(upstream?, scope?)
        }
    };
    set(&mut tree, &["listen"], given(&overrides.listen, "--listen"));
    set(&mut tree, &["admin"], given(&overrides.admin, "--admin"));
    set(
        &mut tree,
        &["workers"],
        given(&overrides.workers, "--workers"),
    );
    set(
        &mut tree,
        &["log", "level"],
        either(&overrides.log_level, "--log-level", env::LOG_LEVEL, context),
    );
    set(
        &mut tree,
        &["log", "format"],
        either(
            &overrides.log_format,
            "--log-format",
            env::LOG_FORMAT,
            context,
        ),
    );
    Some(tree)
}

/// One listener, one route, one credential: what `--upstream` and `--scope` mean.
fn without_file(upstream: Node, scope: Node) -> Node {
    let at = Place::Whole;
    let text = |t: &str| Node {
        at,
        value: Value::Scalar(t.into()),
    };
    let credential = map(at, [("entraClientAssertion", map(at, [("scope", scope)]))]);
    let route = map(
        at,
        [
            ("name", text("default")),
            ("upstream", upstream),
            ("credential", text("default")),
        ],
    );
    map(
        at,
        [
            ("credentials", map(at, [("default", credential)])),
            (
                "routes",
                Node {
                    at,
                    value: Value::List(vec![route]),
                },
            ),
        ],
    )
}

fn map<const N: usize>(at: Place, entries: [(&str, Node); N]) -> Node {
    let entries = entries
        .into_iter()
        .map(|(key, node)| Entry {
            key: key.into(),
            key_at: at,
            node,
        })
        .collect();
    Node {
        at,
        value: Value::Map(entries),
    }
}

fn given(option: &Option<String>, name: &'static str) -> Option<Node> {
    let text = option.clone()?;
    Some(Node {
        at: Place::Given(name),
        value: Value::Scalar(text),
    })
}

/// The option, else the variable. White space around a variable's value does not count: a Secret's often ends in a line feed.
fn either(
    option: &Option<String>,
    name: &'static str,
    variable: &'static str,
    context: &Context<'_>,
) -> Option<Node> {
    given(option, name).or_else(|| {
        let text = (context.env)(variable)?.trim().to_owned();
        (!text.is_empty()).then_some(Node {
            at: Place::Given(variable),
            value: Value::Scalar(text),
        })
    })
}

/// Puts `node` at a path of the tree. What is in the way and not a map stays, to be reported when it is read.
fn set(tree: &mut Node, path: &[&str], node: Option<Node>) {
    let (Some(node), Some((first, rest))) = (node, path.split_first()) else {
        return;
    };
    if tree.value == Value::Null {
        tree.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut tree.value else {
        return;
    };
    let found = entries.iter().position(|e| e.key == *first);
    match (found.and_then(|i| entries.get_mut(i)), rest) {
        (Some(entry), []) => entry.node = node,
        (Some(entry), rest) => set(&mut entry.node, rest, Some(node)),
        (None, rest) => {
            let at = node.at;
            let mut value = node;
            for key in rest.iter().rev() {
                value = map(at, [(key, value)]);
            }
            entries.push(Entry {
                key: (*first).into(),
                key_at: at,
                node: value,
            });
        }
    }
}
