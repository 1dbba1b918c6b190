//! Who is asking: access keys, where they come from, and fetching them again before they expire.
//!
//! [`Credentials::get`] is called for every request. Keys that do not expire are simply there; others are fetched by whoever
//! asks first, five minutes before they expire.
//!
//! Invariants
//! - Keys are fetched by one caller at a time. The others go on with the keys at hand as long as these are valid, and get what
//!   that one got, keys or error, where none are.
//! - No `Debug`, message or log line shows a secret key or a session token; both are wiped here when dropped. What the environment and
//!   the files said stays in memory as text, as it does in the process's own environment.

use super::elsewhere::Elsewhere;
use super::endpoints::Settings;
use super::process::CredentialProcess;
use crate::Error;
use sigv4::{AccessKeyId, SecretKey};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use types::{Clock, UnixMillis};
use zeroize::Zeroizing;

/// Keys are fetched again this long before they expire, in milliseconds: a request signed now must still be valid on arrival,
/// and fetching may take a while.
const REFRESH_BEFORE_MS: i64 = 5 * 60 * 1000;

/// Shortest time between two attempts to fetch while the keys at hand are valid, in milliseconds: a source that gives keys of
/// a few minutes, or that is down, is not asked for every block.
const REFRESH_PAUSE_MS: i64 = 30 * 1000;

/// Longest time for keys to be fetched from AWS; programs have a limit of their own.
const ELSEWHERE_MAX: Duration = Duration::from_secs(60);

/// What signs requests. Equal `Arc`s of these hold the same keys, so that a signer can be kept until the keys change.
#[derive(Clone)]
pub struct SigningKeys {
    /// The public half of the access key.
    pub access_key_id: AccessKeyId,
    /// The secret half.
    pub secret: SecretKey,
    /// The session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for SigningKeys {
    /// Neither secret nor session token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys")
            .field("access_key_id", &self.access_key_id)
            .field("temporary", &self.session_token.is_some())
            .finish_non_exhaustive()
    }
}

/// Keys as they were fetched.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// The keys.
    pub(super) keys: SigningKeys,
    /// When they stop being valid, if ever.
    pub(super) expires: Option<UnixMillis>,
}

/// Where keys come from.
pub(super) enum Source {
    /// They were found in the environment or in a file.
    Fixed(Arc<SigningKeys>),
    /// A program prints them.
    Process(CredentialProcess),
    /// AWS gives them, if anyone does: for a role or a sign-on, or to the machine.
    Elsewhere(Elsewhere),
}

impl Source {
    /// Where the keys of this environment and profile come from, in the order of the AWS CLI: the environment, unless an
    /// option names the profile; then within the profile a role, single sign-on, the credentials file, a program, and the
    /// configuration file.
    pub(super) fn find(settings: &Settings<'_>) -> Result<Source, Error> {
        let Settings {
            environment,
            options,
            profile,
            ..
        } = settings;
        if options.profile.is_none()
            && let Some(source) =
                pair(&|name| environment.get(name), &VARIABLES, "the environment")?
        {
            return Ok(source);
        }
        let elsewhere = |why| Ok(Source::Elsewhere(Elsewhere::new(why, settings)?));
        if let Some(property) = ELSEWHERE.iter().find(|name| profile.get(name).is_some()) {
            return elsewhere(format!("{profile} has '{property}'"));
        }
        let in_file = |name: &str| profile.in_credentials_file(name);
        if let Some(source) = pair(
            &in_file,
            &PROPERTIES,
            &format!("{profile} of the credentials file"),
        )? {
            return Ok(source);
        }
        if let Some(setting) = profile.get("credential_process") {
            let process = CredentialProcess::parse(setting)
                .map_err(|what| Error::Config(format!("credential_process of {profile} {what}")))?;
            return Ok(Source::Process(process));
        }
        let in_file = |name: &str| profile.in_config_file(name);
        if let Some(source) = pair(
            &in_file,
            &PROPERTIES,
            &format!("{profile} of the configuration file"),
        )? {
            return Ok(source);
        }
        elsewhere(format!(
            "no credentials are in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or in {profile}"
        ))
    }
}

/// Names of key id, secret and session token.
const VARIABLES: [&str; 3] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];
const PROPERTIES: [&str; 3] = [
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
];

/// Properties of profiles whose keys are asked from a service.
const ELSEWHERE: [&str; 7] = [
    "role_arn",
    "web_identity_token_file",
    "credential_source",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "login_session",
];

/// The keys of one place, where it names a key id.
fn pair<'a>(
    get: &dyn Fn(&str) -> Option<&'a str>,
    [id, secret, token]: &[&str; 3],
    place: &str,
) -> Result<Option<Source>, Error> {
    let Some(found) = get(id) else {
        return Ok(None);
    };
    let access_key_id = AccessKeyId::parse(found)
        .ok_or_else(|| Error::Config(format!("{id} in {place} is no access key id")))?;
    let found =
        get(secret).ok_or_else(|| Error::Config(format!("{place} has {id} but no {secret}")))?;
    Ok(Some(Source::Fixed(Arc::new(SigningKeys {
        access_key_id,
        secret: SecretKey::new(found.to_owned()),
        session_token: get(token).map(|token| Zeroizing::new(token.to_owned())),
    }))))
}

/// Credentials and where they come from; they are fetched again before they expire. Clones share what was fetched.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
    /// The profile of keys that change.
    profile: Option<Arc<str>>,
}

struct Inner {
    source: Source,
    held: Mutex<Option<Held>>,
    /// How many fetches have ended; with [`Inner::fetching`], tells those who waited for one from those who come later.
    ended: AtomicU64,
    /// Held while fetching; the message of the last fetch if it failed.
    fetching: tokio::sync::Mutex<Option<String>>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<SigningKeys>,
    expires: Option<UnixMillis>,
    refresh_at: UnixMillis,
}

impl Held {
    fn new(fetched: Fetched, now: UnixMillis) -> Held {
        let early = |expires: UnixMillis| {
            (expires - REFRESH_BEFORE_MS).max(now.saturating_add(REFRESH_PAUSE_MS))
        };
        Held {
            keys: Arc::new(fetched.keys),
            expires: fetched.expires,
            refresh_at: fetched.expires.map_or(UnixMillis::MAX, early),
        }
    }

    fn is_valid(&self, now: UnixMillis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn is_fresh(&self, now: UnixMillis) -> bool {
        self.is_valid(now) && now < self.refresh_at
    }
}

impl Credentials {
    /// Keys that never change.
    pub fn fixed(keys: SigningKeys) -> Credentials {
        Credentials::from_source(Source::Fixed(Arc::new(keys)))
    }

    pub(super) fn from_source(source: Source) -> Credentials {
        Credentials {
            inner: Arc::new(Inner {
                source,
                held: Mutex::new(None),
                ended: AtomicU64::new(0),
                fetching: tokio::sync::Mutex::new(None),
            }),
            profile: None,
        }
    }

    /// The same, of this profile.
    pub(super) fn of_profile(self, profile: &str) -> Credentials {
        Credentials {
            profile: Some(profile.into()),
            ..self
        }
    }

    /// Who has them, as far as that can be told without asking: the access key, or, where keys come and go, the profile.
    pub(crate) fn holder(&self) -> String {
        match (&self.inner.source, &self.profile) {
            (Source::Fixed(keys), _) if keys.session_token.is_none() => {
                format!("access key {}", keys.access_key_id)
            }
            (_, Some(profile)) => format!("profile {profile}"),
            (_, None) => "temporary credentials".to_owned(),
        }
    }

    /// The keys to sign with now. Cheap where nothing has to be fetched: call it for each request.
    ///
    /// # Errors
    /// [`Error::Config`]: there are no credentials, or they could not be fetched and those at hand have expired.
    pub async fn get(&self, clock: &dyn Clock) -> Result<Arc<SigningKeys>, Error> {
        match &self.inner.source {
            Source::Fixed(keys) => return Ok(Arc::clone(keys)),
            Source::Process(_) | Source::Elsewhere(_) => {}
        }
        let now = clock.now();
        let ended = self.inner.ended.load(Ordering::Acquire);
        let held = self.held().filter(|held| held.is_valid(now));
        let mut last_failure = match held {
            Some(held) if held.is_fresh(now) => return Ok(held.keys),
            // The keys at hand do while another caller fetches.
            Some(held) => match self.inner.fetching.try_lock() {
                Ok(guard) => guard,
                Err(_) => return Ok(held.keys),
            },
            None => self.inner.fetching.lock().await,
        };
        if self.inner.ended.load(Ordering::Acquire) != ended {
            if let Some(held) = self.held().filter(|held| held.is_valid(now)) {
                return Ok(held.keys);
            }
            if let Some(message) = &*last_failure {
                return Err(Error::Config(message.clone()));
            }
        }
        let outcome = self.fetch().await;
        // What was fetched is judged by the time it is there, not by the time it was asked for.
        let now = clock.now();
        let outcome = outcome.and_then(|fetched| match fetched.expires {
            Some(expires) if expires <= now => {
                Err("the credentials that were fetched have expired already".to_owned())
            }
            _ => Ok(Held::new(fetched, now)),
        });
        let answer = match outcome {
            Ok(held) => {
                *last_failure = None;
                let keys = Arc::clone(&held.keys);
                self.hold(held);
                Ok(keys)
            }
            Err(message) => match self.held().filter(|held| held.is_valid(now)) {
                Some(mut held) => {
                    tracing::warn!(%message, "credentials could not be refreshed; those at hand are still valid");
                    held.refresh_at = now.saturating_add(REFRESH_PAUSE_MS);
                    let keys = Arc::clone(&held.keys);
                    self.hold(held);
                    Ok(keys)
                }
                None => {
                    *last_failure = Some(message.clone());
                    Err(Error::Config(message))
                }
            },
        };
        self.inner.ended.fetch_add(1, Ordering::Release);
        answer
    }

    async fn fetch(&self) -> Result<Fetched, String> {
        match &self.inner.source {
            Source::Process(process) => process.run().await,
            // What may be asked there has no limit of its own in all of its parts.
            Source::Elsewhere(elsewhere) => tokio::time::timeout(ELSEWHERE_MAX, elsewhere.fetch())
                .await
                .unwrap_or_else(|_| {
                    let secs = ELSEWHERE_MAX.as_secs();
                    Err(format!("AWS gave no credentials within {secs} seconds"))
                }),
            // Answered before; these never expire.
            Source::Fixed(keys) => Ok(Fetched {
                keys: SigningKeys::clone(keys),
                expires: None,
            }),
        }
    }

    fn held(&self) -> Option<Held> {
        self.inner
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn hold(&self, held: Held) {
        *self
            .inner
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

impl fmt::Debug for Credentials {
    /// Where they come from; the public half of keys that are known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.source {
            Source::Fixed(keys) => f.debug_tuple("Fixed").field(keys).finish(),
            Source::Process(process) => f.debug_tuple("Process").field(process).finish(),
            Source::Elsewhere(elsewhere) => f.debug_tuple("Elsewhere").field(elsewhere).finish(),
        }
    }
}

#[cfg(test)]
mod tests;
