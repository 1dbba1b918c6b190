//! What the client warns of, as lines for people: `drystone: note: the clock of this machine is wrong (skew_ms: 90000)`.
//!
//! A line stands above the bar of a transfer, not in it.

use crate::commands::advice::printable;
use crate::commands::progress::aside;
use std::fmt::{self, Debug, Write as _};
use std::io::{self, Write, stderr};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Ours alone: libraries warn in words that nobody who moves a disk can use.
const FILTER: &str = "client=warn,drystone=warn";

/// Has warnings said from now on, in the whole process.
pub fn start_notes() -> anyhow::Result<()> {
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(FILTER))
        .event_format(Notes)
        .with_writer(|| Aside)
        .try_init();
    started.map_err(|error| anyhow::anyhow!("notes cannot be started: {error}"))
}

/// Standard error, beside whatever moves there.
struct Aside;

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        aside(|| stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

struct Notes;

impl<S, N> FormatEvent<S, N> for Notes
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut words = Words::default();
        event.record(&mut words);
        writeln!(writer, "drystone: note: {}", words.line())
    }
}

/// The words of an event.
#[derive(Default)]
struct Words {
    message: String,
    others: String,
}

impl Words {
    fn line(&self) -> String {
        match self.others.is_empty() {
            true => printable(&self.message),
            false => printable(&format!("{} ({})", self.message, self.others)),
        }
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let written = match field.name() {
            "message" => self.message.write_fmt(value),
            name => {
                let comma = if self.others.is_empty() { "" } else { ", " };
                write!(self.others, "{comma}{name}: {value}")
            }
        };
        written.expect("strings can be written to");
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_is_a_line_for_people() {
        let kept = Kept::default();
        let to = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Notes)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(skew_ms = 90_000, "the clock is wrong");
            tracing::warn!(why = "no\n\x1b[2J", id = %7, "not deleted");
            tracing::warn!("alone");
        });
        let text = String::from_utf8(kept.0.lock().expect("nobody panics").clone());
        assert_eq!(
            text.expect("text"),
            "drystone: note: the clock is wrong (skew_ms: 90000)\n\
             drystone: note: not deleted (why: no  [2J, id: 7)\n\
             drystone: note: alone\n"
        );
    }
}
