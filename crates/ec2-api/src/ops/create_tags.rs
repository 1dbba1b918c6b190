//! `CreateTags` (SPEC 3.14, 7.5): adds tags to snapshots, or overwrites their values; all or nothing.

use super::{Call, admit};
use crate::error::{ApiError, Code, echo, too_many_tags};
use crate::query::Parameters;
use crate::snapshot_ids::resource_ids;
use crate::xml::is_xml_character;
use bytes::Bytes;
use engine::Tag;
use std::collections::HashSet;
use types::limits::TAGS_MAX;

/// Characters of a tag's key (SPEC 3.14).
const KEY_CHARS_MAX: usize = 127;

/// Characters of a tag's value (SPEC 3.14).
const VALUE_CHARS_MAX: usize = 255;

pub(super) async fn create_tags(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let ids = resource_ids(&parameters.take_list("ResourceId"))?;
    let tags = take_tags(&mut parameters)?;
    admit(parameters)?;
    call.engine.create_tags(call.account, &ids, &tags).await?;
    Ok(call.done("CreateTagsResponse"))
}

/// Takes `Tag.N`; a tag without a value has an empty one.
fn take_tags(parameters: &mut Parameters) -> Result<Vec<Tag>, ApiError> {
    let structures = parameters.take_structures("Tag");
    if structures.is_empty() {
        return Err(parameters.missing("Tag"));
    }
    if structures.len() > TAGS_MAX {
        return Err(too_many_tags());
    }
    let mut keys = HashSet::with_capacity(structures.len());
    let mut tags = Vec::with_capacity(structures.len());
    for mut structure in structures {
        let tag = Tag {
            key: structure.required("Key")?,
            value: structure.take("Value").unwrap_or_default(),
        };
        structure.finish()?;
        check(&tag)?;
        if !keys.insert(tag.key.clone()) {
            return Err(invalid(format!(
                "Duplicate tag key '{}' specified.",
                echo(&tag.key)
            )));
        }
        tags.push(tag);
    }
    Ok(tags)
}

fn check(tag: &Tag) -> Result<(), ApiError> {
    if tag.key.is_empty() {
        return Err(invalid("Tag key cannot be empty.".to_owned()));
    }
    if tag.key.chars().count() > KEY_CHARS_MAX {
        let limit = format!("Tag key exceeds the maximum length of {KEY_CHARS_MAX} characters");
        return Err(invalid(limit));
    }
    if tag.value.chars().count() > VALUE_CHARS_MAX {
        let limit = format!("Tag value exceeds the maximum length of {VALUE_CHARS_MAX} characters");
        return Err(invalid(limit));
    }
    if is_reserved(&tag.key) {
        let reserved = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(invalid(reserved.to_owned()));
    }
    // No answer in XML could tell such a tag again.
    if !tag
        .key
        .chars()
        .chain(tag.value.chars())
        .all(is_xml_character)
    {
        return Err(invalid("Tags cannot have control characters.".to_owned()));
    }
    Ok(())
}

/// The prefix is reserved in every mixture of cases.
fn is_reserved(key: &str) -> bool {
    key.get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(Code::InvalidParameterValue, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Source;

    fn tags(form: &str) -> Result<Vec<Tag>, Code> {
        let mut parameters = Parameters::default();
        parameters.read(form.as_bytes(), Source::Form).unwrap();
        take_tags(&mut parameters).map_err(|error| error.code)
    }

    #[test]
    fn the_captured_form_is_read() {
        let tag = |key: &str, value: &str| Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let form = "Tag.1.Key=a&Tag.1.Value=&Tag.2.Key=k+b&Tag.2.Value=v%26&Tag.3.Key=c";
        assert_eq!(
            tags(form),
            Ok(vec![tag("a", ""), tag("k b", "v&"), tag("c", "")])
        );
    }

    #[test]
    fn tags_are_bounded_and_checked() {
        let longest = format!(
            "Tag.1.Key={}&Tag.1.Value={}",
            "é".repeat(127),
            "é".repeat(255)
        );
        assert!(tags(&longest).is_ok());
        let invalid = [
            "Tag.1.Key=".to_owned(),
            format!("Tag.1.Key={}", "a".repeat(128)),
            format!("Tag.1.Key=a&Tag.1.Value={}", "a".repeat(256)),
            "Tag.1.Key=aws:x".to_owned(),
            "Tag.1.Key=AwS:".to_owned(),
            "Tag.1.Key=a&Tag.2.Key=a".to_owned(),
            "Tag.1.Key=a%00".to_owned(),
            "Tag.1.Key=a&Tag.1.Value=%0B".to_owned(),
        ];
        for form in invalid {
            assert_eq!(tags(&form), Err(Code::InvalidParameterValue), "{form}");
        }
        assert!(tags("Tag.1.Key=aws").is_ok());
        assert!(tags("Tag.1.Key=awé:").is_ok());
        assert_eq!(tags(""), Err(Code::MissingParameter));
        assert_eq!(tags("Tag.1.Value=a"), Err(Code::MissingParameter));
        assert_eq!(
            tags("Tag.1.Key=a&Tag.1.Vallue=a"),
            Err(Code::UnknownParameter)
        );
        let many = |count| {
            (1..=count)
                .map(|tag| format!("Tag.{tag}.Key={tag}&"))
                .collect::<String>()
        };
        assert!(tags(&many(TAGS_MAX)).is_ok());
        assert_eq!(tags(&many(TAGS_MAX + 1)), Err(Code::TagLimitExceeded));
    }
}
