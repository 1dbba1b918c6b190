//! Keys that AWS gives: for a role, a web identity or a sign-on that a profile names, or to the container or machine that this
//! runs on. The crate `aws-config` fetches them.
//!
//! In builds with `--cfg aws_config` this takes the place of `elsewhere.rs`.
//!
//! The environment has been looked at when this is asked, and must not be looked at again: an option that names a profile comes
//! before keys of the environment, which is not so in the default chain of that crate. So the chain here is its own, with the
//! same links after the first.

use super::credentials::{Fetched, SigningKeys};
use super::endpoints::Settings;
use super::profiles::Paths;
use crate::Error;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::Provider as TlsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use sigv4::{AccessKeyId, SecretKey};
use std::error::Error as StdError;
use std::fmt;
use std::time::UNIX_EPOCH;
use tokio::sync::OnceCell;
use types::UnixMillis;
use zeroize::Zeroizing;

/// Who may give keys for a profile.
pub(super) struct Elsewhere {
    why: String,
    profile: String,
    region: String,
    fips: bool,
    dual_stack: bool,
    paths: Paths,
    /// Kept, for its connections and what it has learnt.
    chain: OnceCell<CredentialsProviderChain>,
}

impl Elsewhere {
    /// `why`: what was found, or was not.
    pub(super) fn new(why: String, settings: &Settings<'_>) -> Result<Elsewhere, Error> {
        Ok(Elsewhere {
            why,
            profile: settings.profile.name().to_owned(),
            region: settings.region.as_str().to_owned(),
            fips: settings.fips()?,
            dual_stack: settings.dual_stack()?,
            paths: Paths::find(settings.environment),
            chain: OnceCell::new(),
        })
    }

    /// Asks one after the other.
    ///
    /// # Errors
    /// What was found here, and what the chain says.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let chain = self.chain.get_or_init(async || self.chain()).await;
        let found = chain
            .provide_credentials()
            .await
            .map_err(|error| format!("{}, and AWS gives none: {}", self.why, causes(&error)))?;
        let access_key_id = AccessKeyId::parse(found.access_key_id())
            .ok_or_else(|| "AWS gave an access key id that can be none".to_owned())?;
        let token = |token: &str| Zeroizing::new(token.to_owned());
        Ok(Fetched {
            keys: SigningKeys {
                access_key_id,
                secret: SecretKey::new(found.secret_access_key().to_owned()),
                session_token: found.session_token().map(token),
            },
            expires: found.expiry().map(|time| {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMillis::try_from(since.as_millis()).unwrap_or(UnixMillis::MAX)
            }),
        })
    }

    fn chain(&self) -> CredentialsProviderChain {
        let http = HttpClientBuilder::new()
            .tls_provider(TlsProvider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = ProviderConfig::without_region()
            .with_region(Some(aws_config::Region::new(self.region.clone())))
            .with_use_fips(Some(self.fips))
            .with_use_dual_stack(Some(self.dual_stack))
            .with_http_client(http);
        let mut files = EnvConfigFiles::builder();
        for (kind, path) in [
            (EnvConfigFileKind::Config, &self.paths.config),
            (EnvConfigFileKind::Credentials, &self.paths.credentials),
        ] {
            // A file that is not there says nothing, but that crate refuses one that is named.
            if let Some(path) = path.as_ref().filter(|path| path.exists()) {
                files = files.with_file(kind, path);
            }
        }
        let profile = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .profile_files(files.build())
            .profile_name(&self.profile)
            .build();
        let web_identity = WebIdentityTokenCredentialsProvider::builder()
            .configure(&config)
            .build();
        let container = EcsCredentialsProvider::builder().configure(&config).build();
        let machine = ImdsCredentialsProvider::builder()
            .configure(&config)
            .build();
        CredentialsProviderChain::first_try("profile", profile)
            .or_else("web identity", web_identity)
            .or_else("container", container)
            .or_else("instance metadata", machine)
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// An error with all that caused it, on one line.
fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigOptions, Environment};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use tempfile::TempDir;
    use types::TestClock;

    const ASSUMED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <AssumedRoleUser><AssumedRoleId>R:s</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn></AssumedRoleUser>\
        <Credentials><AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>hush</SecretAccessKey>\
        <SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
        </AssumeRoleResult></AssumeRoleResponse>";

    /// Answers one request to assume a role; gives what was asked.
    fn security_token_service() -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = Vec::new();
            let mut buffer = [0; 4096];
            while !String::from_utf8_lossy(&head).contains("Action=") {
                let count = stream.read(&mut buffer).expect("a request");
                head.extend_from_slice(&buffer[..count]);
            }
            let length = ASSUMED.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: {length}\r\n\r\n{ASSUMED}"
            )
            .expect("an answer");
            String::from_utf8_lossy(&head).into_owned()
        });
        (format!("http://{address}"), asked)
    }

    #[tokio::test]
    async fn a_role_of_a_profile_is_assumed_with_the_keys_of_another() {
        let (sts, asked) = security_token_service();
        let folder = TempDir::new().expect("a folder");
        let text = format!(
            "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\nregion = eu-west-1\nendpoint_url = {sts}\n\
             [profile base]\naws_access_key_id = BASE\naws_secret_access_key = hush\n"
        );
        let path = folder.path().join("config");
        std::fs::write(&path, text).expect("a file");
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = Environment::new([
            variable("AWS_CONFIG_FILE", &path.display().to_string()),
            // An option names the profile, so these do not count.
            variable("AWS_ACCESS_KEY_ID", "ENVIRONMENT"),
            variable("AWS_SECRET_ACCESS_KEY", "hush"),
        ]);
        let options = ConfigOptions {
            profile: Some("role".to_owned()),
            ..ConfigOptions::default()
        };
        let config = Config::load(&environment, &options).expect("a configuration");
        let keys = config.credentials.get(&TestClock::at(0)).await;
        let keys = keys.expect("keys");
        assert_eq!(keys.access_key_id.as_str(), "ASSUMED");
        let token = keys.session_token.as_deref().map(String::as_str);
        assert_eq!(token, Some("token"));
        let asked = asked.join().expect("a request");
        assert!(asked.contains("Credential=BASE/"), "{asked}");
        assert!(asked.contains("AssumeRole"), "{asked}");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
