//! A command's way to its reply: the running server carries the request out, or, when none runs, this process.

use super::ask::{Unreached, ask};
use super::{Part, Reply, Request, Step, here, parts};
use crate::data_dir::Layout;
use crate::logging;
use crate::settings::{Log, Overrides, Settings};
use anyhow::bail;
use clap::Args;
use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use types::{Clock, SystemClock};

/// How often a progress that nobody watches on a terminal gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Which data directory a command is about.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Data directory of the server [default: drystone-data]
    #[arg(long, value_name = "DIR", env = "DRYSTONE_DATA", global = true)]
    pub data: Option<PathBuf>,

    /// Settings file; names the data directory
    #[arg(long, value_name = "FILE", env = "DRYSTONE_CONFIG", global = true)]
    pub config: Option<PathBuf>,
}

/// Has the request carried out. Progress goes to standard error, the other parts to `on_part`; what is refused is an error.
pub async fn carry_out(
    place: DataArgs,
    request: Request,
    mut on_part: impl FnMut(Part) -> anyhow::Result<()>,
) -> anyhow::Result<Reply> {
    let settings = Settings::load(Overrides {
        data: place.data,
        config: place.config,
        ..Overrides::default()
    })?;
    let layout = Layout::new(&settings.data)?;
    let mut progress = ProgressLine::new();
    let mut take = |part| match part {
        Part::Progress(step) => {
            progress.show(&step);
            Ok(())
        }
        other => {
            progress.clear();
            on_part(other)
        }
    };
    let reply = match ask(&layout.admin_socket(), &request, &mut take).await {
        Ok(reply) => reply,
        Err(Unreached::Failed(error)) => return Err(error),
        Err(Unreached::NoServer) => perform_here(layout, &settings, request, &mut take).await?,
    };
    progress.clear();
    match reply {
        Reply::Refused(reason) => bail!(reason),
        reply => Ok(reply),
    }
}

async fn perform_here(
    layout: Layout,
    settings: &Settings,
    request: Request,
    mut on_part: impl FnMut(Part) -> anyhow::Result<()>,
) -> anyhow::Result<Reply> {
    // What a server would say in its log.
    logging::start(&Log {
        format: settings.log.format,
        filter: "warn".to_owned(),
    })?;
    let (parts, mut coming) = parts::channel();
    let mut work = pin!(here::perform(layout, settings, request, parts));
    let reply = loop {
        tokio::select! {
            Some(part) = coming.recv() => on_part(part)?,
            reply = &mut work => break reply?,
        }
    };
    while let Ok(part) = coming.try_recv() {
        on_part(part)?;
    }
    Ok(reply)
}

/// How far the work is: one line that is written over on a terminal, else a line now and then.
struct ProgressLine {
    terminal: bool,
    clock: SystemClock,
    /// What was shown last, and when.
    last: Option<(Step, Duration)>,
}

impl ProgressLine {
    fn new() -> ProgressLine {
        ProgressLine {
            terminal: stderr().is_terminal(),
            clock: SystemClock::new(),
            last: None,
        }
    }

    fn show(&mut self, step: &Step) {
        let now = self.clock.monotonic();
        let due = self.last.as_ref().is_none_or(|(last, at)| {
            last.step != step.step
                || (last.done != step.done && now.saturating_sub(*at) >= LINE_EVERY)
        });
        if !self.terminal && !due {
            return;
        }
        let text = match step.done {
            0 => format!("{} …", step.step),
            done => format!("{} … {done}", step.step),
        };
        let written = match self.terminal {
            true => write!(stderr(), "\r\x1b[K{text}").and_then(|()| stderr().flush()),
            false => writeln!(stderr(), "{text}"),
        };
        // Nobody watches then.
        let _ = written;
        self.last = Some((step.clone(), now));
    }

    /// Makes room for other lines.
    fn clear(&mut self) {
        if self.terminal && self.last.take().is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
