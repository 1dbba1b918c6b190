//! Logs: structured events on standard error, as text for people or JSON for machines; and for the commands of the client, whose
//! events are few, notes.

mod notes;

pub use notes::start_notes;

use crate::settings::{Log, LogFormat};
use anyhow::Context;
use std::io::{IsTerminal, stderr};
use std::panic;
use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process, panics included.
pub fn start(settings: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(&settings.filter)
        .with_context(|| {
            format!(
                "log.filter `{}` is not right; write a level as `info` or `debug`",
                settings.filter
            )
        })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    let started = match settings.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))?;
    panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, "panic: {message}");
    }));
    Ok(())
}
