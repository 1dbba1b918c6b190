//! Progress of a transfer on standard error: a bar on a terminal, a line every few seconds elsewhere, nothing with `--quiet`.
//! The words are in `progress/words.rs`.

mod words;

pub use words::Wording;

use super::interrupt::Interrupt;
use super::remote::OutputArgs;
use client::Meter;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use std::io::{IsTerminal, stderr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use types::{Clock, SystemClock};
use words::{Pace, summary};

/// Time between two looks at the meter.
const TICK: Duration = Duration::from_millis(200);

/// Time between two lines where there is no bar, in ticks.
const TICKS_BETWEEN_LINES: u32 = 25;

/// The first of these comes sooner: it shows that something goes on.
const TICKS_TO_FIRST_LINE: u32 = 5;

/// The bar that stands on the terminal, if any: lines come from anywhere.
static STANDING: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// What ends when the user wants a transfer to end.
pub type Cancel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Writes to standard error above the bar, if there is one.
pub fn aside<T>(write: impl FnOnce() -> T) -> T {
    let standing = STANDING.lock().unwrap_or_else(PoisonError::into_inner);
    let bar = standing.as_ref().and_then(WeakProgressBar::upgrade);
    drop(standing);
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Runs a transfer: shows its progress, tells it when the user interrupts it, and sums up at its end, however it ends.
/// Answers what came of it and how long it took. `cleaning_up` says what an interrupted transfer does, such as `the pending snapshot is deleted`.
pub async fn with_progress<T>(
    wording: Wording,
    meter: &Arc<Meter>,
    output: &OutputArgs,
    cleaning_up: &str,
    work: impl AsyncFnOnce(Cancel) -> Result<T, client::Error>,
) -> anyhow::Result<(T, Duration)> {
    let progress = Progress::begin(wording, meter, output);
    let interrupt = Interrupt::listen(format!("stopping, {cleaning_up}"), |text| {
        aside(|| eprintln!("{text}"));
    })?;
    let done = work(Box::pin(interrupt.came())).await;
    let took = progress.end(done.is_ok());
    Ok((done?, took))
}

/// A view of a meter that redraws itself.
#[derive(Debug)]
struct Progress {
    wording: Wording,
    meter: Arc<Meter>,
    clock: Arc<SystemClock>,
    bar: Option<ProgressBar>,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    fn begin(wording: Wording, meter: &Arc<Meter>, output: &OutputArgs) -> Progress {
        let clock = Arc::new(SystemClock::new());
        let bar = (!output.quiet && stderr().is_terminal()).then(|| bar(wording));
        *STANDING.lock().unwrap_or_else(PoisonError::into_inner) =
            bar.as_ref().map(ProgressBar::downgrade);
        let view = View {
            wording,
            meter: Arc::clone(meter),
            clock: Arc::clone(&clock),
            bar: bar.clone(),
        };
        Progress {
            wording,
            meter: Arc::clone(meter),
            clock,
            bar,
            ticker: (!output.quiet).then(|| tokio::spawn(view.run())),
        }
    }

    /// Takes the bar away and leaves the sum, unless nothing was begun.
    fn end(self, succeeded: bool) -> Duration {
        let took = self.clock.monotonic();
        let Some(ticker) = &self.ticker else {
            return took;
        };
        ticker.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let reading = self.meter.read();
        if succeeded || reading.total > 0 || reading.done > 0 {
            let sum = summary(self.wording, &reading, took);
            eprintln!("drystone: {sum}");
        }
        took
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

struct View {
    wording: Wording,
    meter: Arc<Meter>,
    clock: Arc<SystemClock>,
    bar: Option<ProgressBar>,
}

impl View {
    async fn run(self) {
        let mut pace = Pace::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for tick in 0_u32.. {
            ticks.tick().await;
            let reading = self.meter.read();
            pace.note(self.clock.monotonic(), reading);
            match &self.bar {
                Some(bar) => {
                    if reading.total > 0 && bar.length() != Some(reading.total) {
                        bar.set_length(reading.total);
                        bar.set_style(style(BAR));
                    }
                    bar.set_position(reading.done);
                    bar.set_prefix(format!("{}: {}", self.wording.doing, pace.headline()));
                    bar.set_message(pace.details());
                    bar.tick();
                }
                None if tick % TICKS_BETWEEN_LINES == TICKS_TO_FIRST_LINE => {
                    eprintln!("drystone: {}", pace.line(self.wording));
                }
                None => {}
            }
        }
    }
}

/// Two lines of text above a bar of the terminal's width; a spinner until the total is known. The text comes first because the
/// first line stays when Ctrl-C is pressed: the terminal's `^C` begins a line of its own, and clearing misses one.
const BAR: &str = "{prefix}\n{wide_msg}\n{wide_bar} {percent:>3}%";
const SPINNER: &str = "{spinner} {prefix}\n{wide_msg}";

fn bar(wording: Wording) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style(SPINNER));
    bar.set_prefix(wording.doing);
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants, and a test parses them")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        for template in [BAR, SPINNER] {
            style(template);
        }
    }
}
