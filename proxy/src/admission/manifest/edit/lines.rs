//! Changes to a text, put together and made at once: pieces replaced, whole lines added and taken out, items of flow collections. Knows places, not
//! meanings.

use super::super::super::yaml::Node;
use std::ops::Range;

struct Edit {
    at: Range<usize>,
    new: String,
}

/// A text, and what is to be changed in it.
pub(super) struct Edits<'t> {
    pub(super) text: &'t str,
    edits: Vec<Edit>,
}

impl<'t> Edits<'t> {
    pub(super) const fn of(text: &'t str) -> Self {
        Self {
            text,
            edits: Vec::new(),
        }
    }

    /// Puts `new` in the place of what is there. Line ends become those of the text.
    pub(super) fn replace(&mut self, at: Range<usize>, new: String) {
        let new = self.ended(new);
        self.edits.push(Edit { at, new });
    }

    /// Takes out the lines from the one with `start` to the one with `end`.
    pub(super) fn cut_lines(&mut self, start: usize, end: usize) {
        let (mut start, end) = (self.line_start(start), self.line_end(end));
        // At the end of a text without a last line end, the one before goes instead.
        if end == self.text.len() && !self.text.ends_with('\n') && start > 0 {
            start -= 1;
        }
        self.replace(start..end, String::new());
    }

    /// Puts lines at the beginning of a line, or behind the text's last one.
    pub(super) fn insert_lines(&mut self, at: usize, mut lines: String) {
        if at == self.text.len() && !self.text.ends_with('\n') {
            lines = format!("\n{}", lines.trim_end_matches('\n'));
        }
        self.replace(at..at, lines);
    }

    /// Puts text behind the last item that stays in a flow collection, of which `last` is the end; into the brackets when there is none.
    pub(super) fn add_flow(&mut self, node: &Node, last: Option<usize>, new: &str) {
        match last {
            // After edits at the same place: those of earlier items come first.
            Some(at) => self.replace(at..at, format!(", {new}")),
            None => {
                let at = node.at.start + 1;
                self.replace(at..at, new.to_owned());
            }
        }
    }

    /// Takes the items that are not kept out of a flow collection, with the commas behind them, or, for the last ones, before them.
    pub(super) fn cut_flow(&mut self, items: &[(bool, Range<usize>)]) {
        let mut from = 0;
        while let Some(first) = items
            .iter()
            .skip(from)
            .position(|(kept, _)| !kept)
            .map(|i| i + from)
        {
            let next = items
                .iter()
                .skip(first)
                .position(|(kept, _)| *kept)
                .map(|i| i + first);
            let before = first.checked_sub(1).and_then(|i| items.get(i));
            let (start, end) = match (next.and_then(|i| items.get(i)), before) {
                (Some((_, next)), _) => {
                    (items.get(first).map(|(_, at)| at.start), Some(next.start))
                }
                (None, Some((_, before))) => (Some(before.end), items.last().map(|(_, at)| at.end)),
                (None, None) => (
                    items.first().map(|(_, at)| at.start),
                    items.last().map(|(_, at)| at.end),
                ),
            };
            if let (Some(start), Some(end)) = (start, end) {
                self.replace(start..end, String::new());
            }
            from = next.unwrap_or(items.len());
        }
    }

    /// Where an entry ends, its value included: an empty value stands before its colon.
    pub(super) fn value_end(&self, key: &Range<usize>, node: &Node) -> usize {
        let colon = self.text[key.end..]
            .find(':')
            .map_or(key.end, |i| key.end + i + 1);
        node.end(self.text).max(colon)
    }

    pub(super) fn column(&self, at: usize) -> usize {
        at - self.line_start(at)
    }

    /// Behind the line's end.
    pub(super) fn line_end(&self, at: usize) -> usize {
        self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |i| at + i + 1)
    }

    /// Whether nothing but spaces is before it on its line.
    pub(super) fn alone(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at]
            .bytes()
            .all(|b| b == b' ')
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |i| i + 1)
    }

    fn ended(&self, new: String) -> String {
        if self.text.contains("\r\n") {
            new.replace('\n', "\r\n")
        } else {
            new
        }
    }

    /// The new text; `None` when edits are in one another's way.
    pub(super) fn apply(mut self) -> Option<String> {
        self.edits.sort_by_key(|e| (e.at.start, e.at.end));
        let mut out = String::with_capacity(self.text.len() + 4096);
        let mut done = 0;
        for edit in &self.edits {
            if edit.at.start < done {
                return None;
            }
            out.push_str(self.text.get(done..edit.at.start)?);
            out.push_str(&edit.new);
            done = edit.at.end;
        }
        out.push_str(self.text.get(done..)?);
        Some(out)
    }
}
