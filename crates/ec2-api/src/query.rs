//! Parameters of the Query protocols: `Action=DescribeTags&Filter.1.Name=key&Filter.1.Value.1=a+b`.
//!
//! A form body writes a space as `+`; in a request's query a `+` is a plus, because that is how its signature reads it, and
//! what we act on must be what was signed (SPEC 4.3). Lists are flattened (SPEC 7.1): `Filter.2.Value.1`. Their numbers count
//! from 1, may have gaps and give the order.
//!
//! An operation *takes* the parameters that it knows; [`Parameters::finish`] then refuses the request if any is left, so
//! that a misspelt filter never silently selects everything.
//!
//! Limits: [`PARAMETERS_MAX`] parameters, names of [`NAME_BYTES_MAX`] bytes; values are bounded by the body that they came
//! in. No name may come twice.

use crate::error::{ApiError, Code, echo};
use std::collections::BTreeMap;

/// Parameters of one request: room for 1,000 resources and 1,000 tags with values (SPEC 7.5).
pub(crate) const PARAMETERS_MAX: usize = 4_096;

/// Bytes of a parameter's name: the longest that we know has 20.
const NAME_BYTES_MAX: usize = 256;

/// Where parameters stand, and so what a plus sign means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// The query of the URI.
    Query,
    /// A body of type `application/x-www-form-urlencoded`.
    Form,
}

/// Parameters by name, as far as they have not been taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parameters {
    /// What stood before these names, such as `Filter.1.`; for messages.
    prefix: String,
    values: BTreeMap<String, String>,
}

impl Parameters {
    /// Adds the parameters of one source. The signature's own parameters (`X-Amz-…`) are left out.
    pub(crate) fn read(&mut self, raw: &[u8], source: Source) -> Result<(), ApiError> {
        for pair in raw
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
        {
            let equals = pair
                .iter()
                .position(|&byte| byte == b'=')
                .unwrap_or(pair.len());
            let name = decoded(&pair[..equals], source)?;
            let value = decoded(pair.get(equals + 1..).unwrap_or_default(), source)?;
            if source == Source::Query && name.starts_with("X-Amz-") {
                continue;
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(malformed("The name of a parameter is too long."));
            }
            if self.values.len() == PARAMETERS_MAX {
                return Err(malformed(&format!(
                    "The request has more than {PARAMETERS_MAX} parameters."
                )));
            }
            let message = format!("The parameter {} is given more than once.", echo(&name));
            if self.values.insert(name, value).is_some() {
                return Err(malformed(&message));
            }
        }
        Ok(())
    }

    /// All parameters, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes a parameter that may be missing.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// Takes a parameter that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    /// Takes `true` or `false`; a missing one is `false`.
    pub(crate) fn take_flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(ApiError::invalid(
                &self.full(name),
                value,
                "Expected: 'true' or 'false'.",
            )),
        }
    }

    /// Takes a flattened list of values: `Name.1`, `Name.2`.
    pub(crate) fn take_list(&mut self, name: &str) -> Vec<String> {
        let mut numbered = BTreeMap::new();
        for (full, rest) in self.under(name) {
            if let Some(number) = number(&rest)
                && let Some(value) = self.values.remove(&full)
            {
                numbered.insert(number, value);
            }
        }
        numbered.into_values().collect()
    }

    /// Takes a flattened list of structures: `Name.1.Member`, `Name.2.Member.1`.
    pub(crate) fn take_structures(&mut self, name: &str) -> Vec<Parameters> {
        let mut numbered: BTreeMap<u32, Parameters> = BTreeMap::new();
        for (full, rest) in self.under(name) {
            if let Some((digits, member)) = rest.split_once('.')
                && let Some(number) = number(digits)
                && let Some(value) = self.values.remove(&full)
            {
                let structure = numbered.entry(number).or_insert_with(|| Parameters {
                    prefix: format!("{}{name}.{number}.", self.prefix),
                    values: BTreeMap::new(),
                });
                structure.values.insert(member.to_owned(), value);
            }
        }
        numbered.into_values().collect()
    }

    /// Refuses parameters that nobody has taken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.values.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(ApiError::new(
                Code::UnknownParameter,
                format!("The parameter {} is not recognized", echo(&self.full(name))),
            )),
        }
    }

    /// The error for a member that is not there.
    pub(crate) fn missing(&self, name: &str) -> ApiError {
        ApiError::missing(&self.full(name))
    }

    /// A member's name as the client wrote it.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The names that start with `name.`, each with its rest.
    fn under(&self, name: &str) -> Vec<(String, String)> {
        let prefix = format!("{name}.");
        self.values
            .range(prefix.clone()..)
            .map_while(|(full, _)| {
                full.strip_prefix(&prefix)
                    .map(|rest| (full.clone(), rest.to_owned()))
            })
            .collect()
    }
}

/// A position in a list: a decimal number from 1 up, without leading zeros, so that no two spellings meet in one place.
fn number(digits: &str) -> Option<u32> {
    let valid = !digits.is_empty()
        && digits.len() <= 9
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().ok()).flatten()
}

/// Decodes percent-encoded text.
fn decoded(raw: &[u8], source: Source) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' if source == Source::Form => bytes.push(b' '),
            b'%' => {
                let (digits, tail) = rest.split_first_chunk::<2>().ok_or_else(bad_escape)?;
                bytes.push(hex(digits[0])? << 4 | hex(digits[1])?);
                rest = tail;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| malformed("The parameters are not UTF-8 text."))
}

fn hex(digit: u8) -> Result<u8, ApiError> {
    let value = char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok());
    value.ok_or_else(bad_escape)
}

fn bad_escape() -> ApiError {
    malformed("A percent sign is not followed by two hexadecimal digits.")
}

fn malformed(message: &str) -> ApiError {
    ApiError::new(Code::MalformedQueryString, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn form(body: &str) -> Parameters {
        let mut parameters = Parameters::default();
        parameters.read(body.as_bytes(), Source::Form).unwrap();
        parameters
    }

    fn refused(body: &[u8], source: Source) -> Code {
        Parameters::default().read(body, source).unwrap_err().code
    }

    #[test]
    fn names_and_values_are_decoded() {
        let parameters = form("a=1+2&b%2Ec=%C3%A9%2b&&d&e=&f=x=y");
        let read: Vec<_> = parameters.iter().collect();
        assert_eq!(
            read,
            [
                ("a", "1 2"),
                ("b.c", "é+"),
                ("d", ""),
                ("e", ""),
                ("f", "x=y")
            ]
        );
    }

    #[test]
    fn a_plus_in_the_query_is_a_plus_and_its_signature_is_left_out() {
        let mut parameters = Parameters::default();
        let query = b"Action=a+b%20c&X-Amz-Signature=00&X-Amz-Date=now";
        parameters.read(query, Source::Query).unwrap();
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [("Action", "a+b c")]);
    }

    #[test]
    fn lists_keep_the_order_of_their_numbers_across_gaps() {
        let mut parameters = form("L.10=c&L.2=b&L.1=a&L.01=x&L.0=y&L.=z&L.1.1=w&LL.1=v");
        assert_eq!(parameters.take_list("L"), ["a", "b", "c"]);
        let left: Vec<_> = parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["L.", "L.0", "L.01", "L.1.1", "LL.1"]);
    }

    #[test]
    fn structures_are_parameters_of_their_own() {
        let mut parameters = form("F.2.Name=b&F.1.Name=a&F.1.Value.2=y&F.1.Value.1=x&F.1.Odd=z");
        let mut structures = parameters.take_structures("F");
        assert_eq!(structures.len(), 2);
        assert_eq!(structures[0].required("Name").unwrap(), "a");
        assert_eq!(structures[0].take_list("Value"), ["x", "y"]);
        let error = structures.remove(0).finish().unwrap_err();
        assert_eq!(error.message, "The parameter F.1.Odd is not recognized");
        let error = structures.remove(0).required("Value.1").unwrap_err();
        assert_eq!(
            error.message,
            "The request must contain the parameter F.2.Value.1"
        );
        assert_eq!(parameters.finish(), Ok(()));
    }

    #[test]
    fn flags_are_words() {
        let mut parameters = form("a=true&b=false&c=1");
        assert_eq!(parameters.take_flag("a"), Ok(true));
        assert_eq!(parameters.take_flag("b"), Ok(false));
        assert_eq!(parameters.take_flag("missing"), Ok(false));
        assert_eq!(
            parameters.take_flag("c").unwrap_err().code,
            Code::InvalidParameterValue
        );
    }

    #[test]
    fn malformed_and_oversized_sets_are_refused() {
        let many: String = (0..=PARAMETERS_MAX)
            .map(|number| format!("p{number}=&"))
            .collect();
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let all: [&[u8]; 8] = [
            b"a=1&a=2",
            b"a=%",
            b"a=%4",
            b"a=%zz",
            b"%=1",
            b"a=%ff",
            many.as_bytes(),
            long.as_bytes(),
        ];
        for body in all {
            assert_eq!(refused(body, Source::Form), Code::MalformedQueryString);
        }
        assert_eq!(
            refused(b"a=1&a=2", Source::Query),
            Code::MalformedQueryString
        );
    }

    #[test]
    fn a_name_in_query_and_body_is_given_twice() {
        let mut parameters = form("Action=a");
        assert!(parameters.read(b"Action=b", Source::Query).is_err());
    }

    proptest! {
        #[test]
        fn encoded_parameters_come_back(pairs in proptest::collection::btree_map(".{1,20}", any::<String>(), 0..20)) {
            let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let body: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
            assert_eq!(form(&body.join("&")).values, pairs);
        }

        #[test]
        fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
            let mut parameters = Parameters::default();
            if parameters.read(&body, Source::Form).is_ok() {
                parameters.take_list("a");
                parameters.take_structures("a");
            }
        }
    }
}
