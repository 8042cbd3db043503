//! Pieces of JSON that several lines repeat.

use std::io;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::sink::json;

/// A piece of a line.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Piece<'a, T> {
    /// Its fields.
    New(T),
    /// The JSON of its fields, from an earlier line.
    Same(&'a RawValue),
}

/// Makes the JSON of these values, in their order. Values with JSON in `known` keep it; values that are gone lose it.
///
/// # Errors
/// A value cannot be serialised.
pub(super) fn renew<'v, T: Clone + PartialEq + 'v, V: Serialize>(
    known: &mut Vec<(T, Box<RawValue>)>,
    values: impl IntoIterator<Item = &'v T>,
    view: impl Fn(&T) -> V,
) -> io::Result<()> {
    let mut old = std::mem::take(known);
    for value in values {
        // Most lists grow at their end: the value is the first of those that are left.
        let piece = match old.iter().position(|(known, _)| known == value) {
            Some(at) => old.remove(at),
            None => (value.clone(), json::part(&view(value))?),
        };
        known.push(piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn value_is_serialised_once_for_several_lines() {
        let made = Cell::new(0);
        let mut known = Vec::new();
        let mut texts = |values: &[u32]| {
            let view = |value: &u32| {
                made.set(made.get() + 1);
                format!("{value}")
            };
            renew(&mut known, values, view).unwrap();
            let texts = known.iter().map(|(_, json)| json.get().to_owned()).collect::<Vec<_>>();
            (texts.join(" "), made.replace(0))
        };
        assert_eq!(texts(&[1, 2]), ("\"1\" \"2\"".to_owned(), 2));
        assert_eq!(texts(&[1, 3, 2]), ("\"1\" \"3\" \"2\"".to_owned(), 1));
        assert_eq!(texts(&[2, 1]), ("\"2\" \"1\"".to_owned(), 0));
        assert_eq!(texts(&[3]), ("\"3\"".to_owned(), 1), "a value that was gone is made anew");
    }
}
