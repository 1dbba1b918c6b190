//! Tests of patterns and filters.

use super::*;
use crate::query::Source;
use proptest::prelude::proptest;

fn matches(pattern: &str, value: &str) -> bool {
    Pattern::parse(pattern).matches(value, &mut Work::new())
}

fn filters(form: &str) -> Result<Vec<Filter<String>>, ApiError> {
    let mut parameters = Parameters::default();
    parameters.read(form.as_bytes(), Source::Form).unwrap();
    take_filters(&mut parameters, |name| {
        (name != "bad").then(|| name.to_owned())
    })
}

#[test]
fn wildcards_stand_for_text_and_characters() {
    for (pattern, value) in [
        ("", ""),
        ("*", ""),
        ("*", "any"),
        ("a*", "a"),
        ("a*c", "abbc"),
        ("a**c", "ac"),
        ("?", "é"),
        ("*b?", "abbc"),
        ("*ab*ab", "xabyabab"),
        (r"\*\?\\", r"*?\"),
        (r"\a", r"\a"),
        (r"a\", r"a\"),
        (r"\**", "*x"),
    ] {
        assert!(matches(pattern, value), "{pattern} {value}");
    }
    for (pattern, value) in [
        ("", "a"),
        ("?", ""),
        ("?", "ab"),
        ("a*c", "ab"),
        ("A", "a"),
        (r"\*", "x"),
        (r"\?", "x"),
        ("*a", "ab"),
    ] {
        assert!(!matches(pattern, value), "{pattern} {value}");
    }
}

#[test]
fn filters_are_taken_with_their_values() {
    let filters = filters(
        "Filter.2.Name=b&Filter.2.Value.1=x&Filter.1.Name=a&Filter.1.Value.1=p*&Filter.1.Value.2=q",
    )
    .unwrap();
    assert_eq!(
        filters
            .iter()
            .map(|filter| filter.field.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(filters[0].exact(), None);
    assert_eq!(filters[1].exact(), Some(vec!["x"]));
    let mut work = Work::new();
    assert!(filters[0].accepts(["no", "q"], &mut work));
    assert!(filters[0].accepts(["pp"], &mut work));
    assert!(!filters[0].accepts(["no"], &mut work));
    assert!(!filters[0].accepts([], &mut work));
}

#[test]
fn filters_are_bounded_and_checked() {
    let many = |filters: usize, values: usize| {
        let mut form = String::new();
        for filter in 1..=filters {
            form.push_str(&format!("Filter.{filter}.Name=a&"));
            for value in 1..=values {
                form.push_str(&format!("Filter.{filter}.Value.{value}=x&"));
            }
        }
        form
    };
    let long = format!("Filter.1.Name=a&Filter.1.Value.1={}", "x".repeat(256));
    for (form, code) in [
        (
            "Filter.1.Name=bad&Filter.1.Value.1=x",
            Code::InvalidParameterValue,
        ),
        ("Filter.1.Name=a", Code::MissingParameter),
        ("Filter.1.Value.1=a", Code::MissingParameter),
        (
            "Filter.1.Name=a&Filter.1.Value.1=x&Filter.1.Values.1=y",
            Code::UnknownParameter,
        ),
        (&long, Code::InvalidParameterValue),
        (&many(51, 1), Code::FilterLimitExceeded),
        (&many(2, 101), Code::FilterLimitExceeded),
    ] {
        assert_eq!(filters(form).unwrap_err().code, code, "{}", echo(form));
    }
    assert_eq!(filters(&many(50, 4)).unwrap().len(), 50);
}

#[test]
fn the_worst_pattern_is_bounded_and_counted() {
    let mut work = Work::new();
    let pattern = Pattern::parse(&format!("*{}b", "a".repeat(127)));
    assert!(!pattern.matches(&"a".repeat(255), &mut work));
    let spent = STEPS_MAX - work.left;
    assert!((10_000..100_000).contains(&spent), "{spent}");
    let mut little = Work { left: 1_000 };
    assert!(!pattern.matches(&"a".repeat(255), &mut little));
    assert!(little.is_spent());
}

/// What the wildcards mean, said as plainly as possible and taking exponential time.
fn model(tokens: &[Token], value: &[char]) -> bool {
    match (tokens.split_first(), value.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((Token::AnyText, rest)), _) => {
            (0..=value.len()).any(|taken| model(rest, &value[taken..]))
        }
        (Some(_), None) => false,
        (Some((Token::AnyCharacter, rest)), Some((_, tail))) => model(rest, tail),
        (Some((Token::Character(wanted), rest)), Some((found, tail))) => {
            wanted == found && model(rest, tail)
        }
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_model(pattern in "[ab*?]{0,8}", value in "[ab]{0,10}") {
        let tokens: Vec<Token> = pattern
            .chars()
            .map(|character| match character {
                '*' => Token::AnyText,
                '?' => Token::AnyCharacter,
                character => Token::Character(character),
            })
            .collect();
        let characters: Vec<char> = value.chars().collect();
        assert_eq!(matches(&pattern, &value), model(&tokens, &characters));
    }

    #[test]
    fn escaped_text_matches_itself(value in ".{0,20}") {
        let escaped: String = value
            .chars()
            .flat_map(|character| matches!(character, '*' | '?' | '\\').then_some('\\').into_iter().chain([character]))
            .collect();
        assert!(matches(&escaped, &value));
        assert_eq!(Pattern::parse(&escaped), Pattern::Exact(value));
    }
}
