//! Keys that AWS gives, in builds without the crate `aws-config`: says what to do.
//!
//! `aws_chain.rs` takes the place of this file in builds with `--cfg aws_config`.

use super::credentials::Fetched;
use super::endpoints::Settings;
use crate::Error;

/// Where this build cannot go.
#[derive(Debug)]
pub(super) struct Elsewhere {
    message: String,
}

impl Elsewhere {
    /// `why`: what was found, or was not.
    pub(super) fn new(why: String, settings: &Settings<'_>) -> Result<Elsewhere, Error> {
        let name = settings.profile.name();
        Ok(Elsewhere {
            message: format!(
                "{why}; for roles, single sign-on and instance metadata build with aws-config (RUSTFLAGS='--cfg aws_config'), or \
                 use a profile with 'credential_process = aws configure export-credentials --profile {name}'"
            ),
        })
    }

    /// Never succeeds.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        Err(self.message.clone())
    }
}
