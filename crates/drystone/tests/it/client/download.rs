//! Downloads and verification against a real server, and through faults.

mod base;
mod damaged;
mod faults;
mod harmless;
mod images;
mod plain;
mod resume;
mod verify;

use super::proxy::Proxy;
use crate::server::{Place, Server};
use crate::signed::Key;
use client::api::{Api, ApiParts};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::download::{DownloadOptions, DownloadReport, download};
use client::target::TargetPath;
use client::{Error, Meter, SnapshotId};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::{Random, SystemClock};

/// A client of what listens at a URL, with a meter of its own.
pub fn api_at(place: &Place, url: &str) -> Api {
    let key = Key::of(place);
    let variables = [
        ("AWS_ACCESS_KEY_ID", key.id),
        ("AWS_SECRET_ACCESS_KEY", key.secret),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", url.to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(&Environment::new(variables), &ConfigOptions::default());
    let parts = ApiParts {
        config: config.expect("a configuration"),
        options: ApiOptions {
            attempts_max: 4,
            stall_timeout: Duration::from_secs(2),
            ..ApiOptions::default()
        },
        clock: Arc::new(SystemClock::new()),
        random: Random::system(),
        meter: Arc::new(Meter::new()),
    };
    Api::new(parts).expect("an API")
}

/// A client of a server.
pub fn api(place: &Place, server: &Server) -> Api {
    api_at(place, &format!("http://{}", server.address))
}

/// A client behind a proxy.
pub fn through(place: &Place, proxy: &Proxy) -> Api {
    api_at(place, &proxy.url())
}

/// A download to a file, without anything special.
pub fn options(snapshot: &SnapshotId, target: &Path) -> DownloadOptions {
    DownloadOptions {
        snapshot: snapshot.clone(),
        target: TargetPath::Path(target.to_owned()),
        bytes: None,
        base: None,
        state: None,
        keep_going: false,
    }
}

/// Downloads without being interrupted.
pub async fn run(api: &Api, options: &DownloadOptions) -> Result<DownloadReport, Error> {
    download(api, options, std::future::pending()).await
}
