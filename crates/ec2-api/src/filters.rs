//! Filters of the Describe calls: patterns with wildcards, OR-ed within a filter, AND-ed between filters (SPEC 7.3).
//!
//! `*` stands for any text, `?` for one character, and a backslash takes the meaning from `*`, `?` and `\`. Matching is case
//! sensitive and covers the whole value.
//!
//! A pattern can be written so that matching it takes time in the product of both lengths. Both are bounded, and each call
//! has a budget of [`Work`] for all its comparisons; a listing that has used it up ends early with a page token.

use crate::error::{ApiError, Code, echo};
use crate::query::Parameters;

/// Filters of one request, as on AWS.
const FILTERS_MAX: usize = 50;

/// Values of all filters of one request together.
const VALUES_MAX: usize = 200;

/// Characters of one value, as on AWS.
const VALUE_CHARS_MAX: usize = 255;

/// Comparisons of characters that one call may spend: about 100 ms.
const STEPS_MAX: u64 = 100_000_000;

/// The budget of comparisons of one call.
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
}

impl Work {
    /// The budget of a fresh call.
    pub(crate) fn new() -> Work {
        Work { left: STEPS_MAX }
    }

    /// Whether the budget is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps as u64);
    }
}

/// A filter on a field `F`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filter<F> {
    /// What the filter looks at.
    pub(crate) field: F,
    patterns: Vec<Pattern>,
}

impl<F> Filter<F> {
    /// Whether one of the values matches one of the patterns.
    pub(crate) fn accepts<'a>(
        &self,
        values: impl IntoIterator<Item = &'a str>,
        work: &mut Work,
    ) -> bool {
        values.into_iter().any(|value| {
            self.patterns
                .iter()
                .any(|pattern| pattern.matches(value, work))
        })
    }

    /// The values themselves, when no pattern has a wildcard.
    pub(crate) fn exact(&self) -> Option<Vec<&str>> {
        self.patterns.iter().map(Pattern::exact).collect()
    }
}

/// Takes `Filter.N` from the parameters; `field` knows the names of filters.
pub(crate) fn take_filters<F>(
    parameters: &mut Parameters,
    field: impl Fn(&str) -> Option<F>,
) -> Result<Vec<Filter<F>>, ApiError> {
    let mut filters = Vec::new();
    let mut values_left = VALUES_MAX;
    for mut structure in parameters.take_structures("Filter") {
        let name = structure.required("Name")?;
        let values = structure.take_list("Value");
        if values.is_empty() {
            return Err(structure.missing("Value.1"));
        }
        structure.finish()?;
        if filters.len() == FILTERS_MAX || values.len() > values_left {
            let message = format!(
                "A request can have at most {FILTERS_MAX} filters and {VALUES_MAX} filter values."
            );
            return Err(ApiError::new(Code::FilterLimitExceeded, message));
        }
        values_left -= values.len();
        let field = field(&name).ok_or_else(|| {
            let message = format!("The filter '{}' is invalid", echo(&name));
            ApiError::new(Code::InvalidParameterValue, message)
        })?;
        if let Some(long) = values
            .iter()
            .find(|value| value.chars().count() > VALUE_CHARS_MAX)
        {
            let expected = format!("A filter value has at most {VALUE_CHARS_MAX} characters.");
            return Err(ApiError::invalid("filter", long, &expected));
        }
        let patterns = values.iter().map(|value| Pattern::parse(value)).collect();
        filters.push(Filter { field, patterns });
    }
    Ok(filters)
}

/// What a value is held against.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    /// This text and no other.
    Exact(String),
    /// Text with wildcards.
    Wild(Vec<Token>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Character(char),
    AnyCharacter,
    AnyText,
}

impl Pattern {
    fn parse(text: &str) -> Pattern {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' => Token::AnyText,
                '?' => Token::AnyCharacter,
                '\\' => match rest.clone().next() {
                    Some(escaped @ ('*' | '?' | '\\')) => {
                        rest.next();
                        Token::Character(escaped)
                    }
                    _ => Token::Character('\\'),
                },
                character => Token::Character(character),
            });
        }
        let literal = |token: &Token| match token {
            Token::Character(character) => Some(*character),
            Token::AnyCharacter | Token::AnyText => None,
        };
        match tokens.iter().map(literal).collect() {
            Some(exact) => Pattern::Exact(exact),
            None => {
                tokens.dedup_by(|next, token| (*next, *token) == (Token::AnyText, Token::AnyText));
                Pattern::Wild(tokens)
            }
        }
    }

    fn exact(&self) -> Option<&str> {
        match self {
            Pattern::Exact(text) => Some(text),
            Pattern::Wild(_) => None,
        }
    }

    fn matches(&self, value: &str, work: &mut Work) -> bool {
        match self {
            Pattern::Exact(text) => {
                work.spend(1);
                text == value
            }
            Pattern::Wild(tokens) => matches_wild(tokens, value, work),
        }
    }
}

/// Greedy matching that on a mismatch goes back to the last `*` alone: what an earlier one took can stay, since the last
/// one can take any text after it.
fn matches_wild(tokens: &[Token], value: &str, work: &mut Work) -> bool {
    let value: Vec<char> = value.chars().collect();
    let (mut token, mut position) = (0, 0);
    // The token after the last `*`, and the position up to which that one has taken the text.
    let mut retry: Option<(usize, usize)> = None;
    let mut steps = 0;
    let matched = loop {
        steps += 1;
        match (tokens.get(token), value.get(position)) {
            (Some(Token::AnyText), _) => {
                token += 1;
                retry = Some((token, position));
            }
            (None, None) => break true,
            (Some(Token::AnyCharacter), Some(_)) => {
                token += 1;
                position += 1;
            }
            (Some(Token::Character(wanted)), Some(found)) if wanted == found => {
                token += 1;
                position += 1;
            }
            (Some(_), None) => break false,
            (Some(_) | None, Some(_)) => match retry {
                Some((after, taken)) => {
                    token = after;
                    position = taken + 1;
                    retry = Some((after, position));
                }
                None => break false,
            },
        }
    };
    work.spend(steps);
    matched
}

#[cfg(test)]
mod tests;
