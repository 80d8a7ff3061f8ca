//! Which route a request belongs to: listener, then host, then the longest path prefix on segment borders. The cost depends on the
//! request's own path, never on how many routes there are. It decides nothing else: `guard` refuses, `handle` acts.

use http::Method;
use std::{collections::HashMap, rc::Rc};

/// What one route matches.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Lower-case host without port; `None`: any allowed host.
    pub host: Option<String>,
    /// Starts with `/`; a trailing slash makes no difference.
    pub path_prefix: String,
    /// `None`: all methods.
    pub methods: Option<Vec<Method>>,
}

/// The routes of one listener, holding a `T` each.
pub struct RouteTable<T> {
    hosts: HashMap<Box<str>, HostTable<T>>,
    any_host: HostTable<T>,
}

struct HostTable<T> {
    /// By prefix without its trailing slash; `""` is `/`.
    prefixes: HashMap<Box<str>, Vec<Entry<T>>>,
    /// The longest prefix in segments: no request's path is looked at further than that.
    depth: usize,
    /// Whether more than the origin decides: then a path that two parsers may read differently is refused.
    path_scoped: bool,
    /// Whether some prefix is not the root: then what reaches which route depends on how the path reads.
    by_prefix: bool,
}

struct Entry<T> {
    methods: Option<Vec<Method>>,
    value: Rc<T>,
}

/// What matching came to.
#[derive(Debug)]
pub enum Matched<'a, T> {
    /// A route, and whether its host's routes depend on the path.
    Route {
        /// The route.
        value: &'a Rc<T>,
        /// Whether an ambiguous path must be refused.
        path_scoped: bool,
        /// Whether the path decided which route it is.
        by_prefix: bool,
    },
    /// The longest matching prefix has routes, none of them for this method.
    MethodNotAllowed,
    /// Nothing.
    None,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self {
            prefixes: HashMap::new(),
            depth: 0,
            path_scoped: false,
            by_prefix: false,
        }
    }
}

impl<T> RouteTable<T> {
    /// A table of these routes. `path_scoped` of a route: its upstream has a base path, which a request must not climb out of.
    pub fn new(routes: impl IntoIterator<Item = (Matcher, bool, Rc<T>)>) -> Self {
        let mut table = Self {
            hosts: HashMap::new(),
            any_host: HostTable::default(),
        };
        for (matcher, path_scoped, value) in routes {
            let host = match matcher.host {
                Some(host) => table.hosts.entry(host.into()).or_default(),
                None => &mut table.any_host,
            };
            let prefix = matcher.path_prefix.trim_end_matches('/');
            host.depth = host.depth.max(prefix.matches('/').count());
            host.by_prefix |= !prefix.is_empty();
            host.path_scoped |= path_scoped || !prefix.is_empty();
            host.prefixes.entry(prefix.into()).or_default().push(Entry {
                methods: matcher.methods,
                value,
            });
        }
        table
    }

    /// Whether some route names this (lower-case) host.
    pub fn names_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Finds the route for a lower-case host, a path (which starts with `/`) and a method. Routes that name the host come before those that name none.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Matched<'_, T> {
        if !self.hosts.is_empty()
            && let Some(named) = self.hosts.get(host)
        {
            match named.find(path, method) {
                Matched::None => {}
                found => return found,
            }
        }
        self.any_host.find(path, method)
    }

    /// Every route.
    pub fn values(&self) -> impl Iterator<Item = &Rc<T>> {
        self.hosts
            .values()
            .chain([&self.any_host])
            .flat_map(|h| h.prefixes.values().flatten().map(|e| &e.value))
    }
}

impl<T> HostTable<T> {
    fn find(&self, path: &str, method: &Method) -> Matched<'_, T> {
        // From the deepest prefix that any route has down to "/".
        let mut end = nth_border(path, self.depth);
        loop {
            if let Some(entries) = self.prefixes.get(&path[..end]) {
                let hit = entries
                    .iter()
                    .find(|e| e.methods.as_ref().is_none_or(|m| m.contains(method)));
                return match hit {
                    Some(entry) => Matched::Route {
                        value: &entry.value,
                        path_scoped: self.path_scoped,
                        by_prefix: self.by_prefix,
                    },
                    None => Matched::MethodNotAllowed,
                };
            }
            match path[..end].rfind('/') {
                Some(border) => end = border,
                None => return Matched::None,
            }
        }
    }
}

/// Where the path's first `segments` segments end: the byte index of the slash after them, or the path's end.
fn nth_border(path: &str, segments: usize) -> usize {
    path.bytes()
        .enumerate()
        .filter(|(_, b)| *b == b'/')
        .nth(segments)
        .map_or(path.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spec<'a> = (Option<&'a str>, &'a str, Option<&'a [Method]>);

    fn table(routes: &[Spec<'_>]) -> RouteTable<usize> {
        RouteTable::new(
            routes
                .iter()
                .enumerate()
                .map(|(i, (host, prefix, methods))| {
                    (
                        Matcher {
                            host: host.map(Into::into),
                            path_prefix: (*prefix).into(),
                            methods: methods.map(<[_]>::to_vec),
                        },
                        false,
                        Rc::new(i),
                    )
                }),
        )
    }

    fn found(
        t: &RouteTable<usize>,
        host: &str,
        path: &str,
        method: Method,
    ) -> Result<usize, &'static str> {
        match t.find(host, path, &method) {
            Matched::Route { value, .. } => Ok(**value),
            Matched::MethodNotAllowed => Err("method"),
            Matched::None => Err("none"),
        }
    }

    #[test]
    fn the_longest_prefix_on_segment_borders_wins() {
        let t = table(&[
            (None, "/", None),
            (None, "/v1", None),
            (None, "/v1/users/", None),
        ]);
        for (path, want) in [
            ("/", 0),
            ("/v2", 0),
            ("/v1", 1),
            ("/v1/", 1),
            ("/v10", 0),
            ("/v1/user", 1),
            ("/v1/users", 2),
            ("/v1/users/7/x", 2),
            ("/v1/usersx", 1),
        ] {
            assert_eq!(found(&t, "h", path, Method::GET), Ok(want), "{path}");
        }
    }

    #[test]
    fn no_route_for_the_root_means_no_route() {
        let t = table(&[(None, "/v1", None)]);
        assert_eq!(found(&t, "h", "/", Method::GET), Err("none"));
        assert_eq!(found(&t, "h", "/v", Method::GET), Err("none"));
        assert_eq!(
            found(&t, "h", "/v1?x", Method::GET),
            Err("none"),
            "a query is never part of the path that is given"
        );
    }

    #[test]
    fn a_named_host_comes_first_and_falls_back() {
        let t = table(&[(Some("a.example"), "/v1", None), (None, "/", None)]);
        assert!(t.names_host("a.example") && !t.names_host("b.example"));
        assert_eq!(found(&t, "a.example", "/v1/x", Method::GET), Ok(0));
        assert_eq!(found(&t, "a.example", "/v2", Method::GET), Ok(1));
        assert_eq!(found(&t, "b.example", "/v1/x", Method::GET), Ok(1));
        let t = table(&[(Some("a.example"), "/", None)]);
        assert_eq!(found(&t, "b.example", "/", Method::GET), Err("none"));
    }

    #[test]
    fn methods_tell_routes_of_one_prefix_apart_and_never_fall_through() {
        let t = table(&[
            (None, "/v1", Some(&[Method::GET])),
            (None, "/v1", Some(&[Method::POST])),
            (None, "/", None),
        ]);
        assert_eq!(found(&t, "h", "/v1/x", Method::GET), Ok(0));
        assert_eq!(found(&t, "h", "/v1/x", Method::POST), Ok(1));
        assert_eq!(found(&t, "h", "/v1/x", Method::DELETE), Err("method"));
        assert_eq!(found(&t, "h", "/x", Method::DELETE), Ok(2));
    }

    #[test]
    fn a_path_matters_when_a_prefix_or_a_base_path_does() {
        let scoped = |t: &RouteTable<usize>| {
            matches!(
                t.find("h", "/v1", &Method::GET),
                Matched::Route {
                    path_scoped: true,
                    ..
                }
            )
        };
        assert!(!scoped(&table(&[(None, "/", None)])));
        assert!(scoped(&table(&[(None, "/", None), (None, "/v2", None)])));
        let based = RouteTable::new([(
            Matcher {
                host: None,
                path_prefix: "/".into(),
                methods: None,
            },
            true,
            Rc::new(0usize),
        )]);
        assert!(scoped(&based));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_plain_search(prefixes in proptest::collection::vec("(/[ab]{1,2}){0,3}", 1..8), path in "(/[ab]{0,2}){1,4}") {
            let mut prefixes = prefixes;
            prefixes.sort();
            prefixes.dedup();
            let t = table(&prefixes.iter().map(|p| (None, p.as_str(), None)).collect::<Vec<_>>());
            let plain = prefixes.iter().enumerate()
                .filter(|(_, p)| path.strip_prefix(p.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
                .max_by_key(|(_, p)| p.len()).map(|(i, _)| i).ok_or("none");
            proptest::prop_assert_eq!(found(&t, "h", &path, Method::GET), plain);
        }
    }
}
