//! Ctrl-C and SIGTERM for commands that have something to clean up: the first one asks the work to stop, the second one ends
//! the process at once.

use super::Interrupted;
use anyhow::Context;
use std::process;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Listens from its making on, to the end of the process.
#[derive(Debug)]
pub struct Interrupt {
    first: watch::Receiver<bool>,
}

impl Interrupt {
    /// Begins to listen. The first signal is answered, through `say`, with `doing`, such as `the pending snapshot is deleted`.
    pub fn listen(
        doing: impl Into<String>,
        say: impl Fn(&str) + Send + 'static,
    ) -> anyhow::Result<Interrupt> {
        let refused = "signals cannot be listened to";
        let mut interrupt = signal(SignalKind::interrupt()).context(refused)?;
        let mut terminate = signal(SignalKind::terminate()).context(refused)?;
        let (sender, first) = watch::channel(false);
        let doing = doing.into();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            say(&format!(
                "drystone: interrupted: {doing} (once more ends at once)"
            ));
            sender.send_replace(true);
            next().await;
            process::exit(i32::from(Interrupted::CODE));
        });
        Ok(Interrupt { first })
    }

    /// Ends with the first signal. Any number of callers.
    pub fn came(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut first = self.first.clone();
        async move {
            if first.wait_for(|came| *came).await.is_err() {
                // The listener lives as long as the process.
                std::future::pending::<()>().await;
            }
        }
    }
}
