//! Time that things take: it decides who goes next, so each seed has an order of its own.

use crate::dice::Dice;
use crate::gate::Gate;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often calls take how long, per mille; the rest answers at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Others get a turn or three first.
    pub yields: u64,
    /// Milliseconds.
    pub slow: u64,
    /// Seconds: as a disk that hangs and comes back.
    pub stuck: u64,
}

/// Pauses by chance.
#[derive(Debug)]
pub struct Pauses {
    pace: Pace,
    dice: Mutex<Dice>,
    gate: Arc<Gate>,
}

enum Pause {
    None,
    Turns(u64),
    For(Duration),
}

impl Pauses {
    /// Pauses at this pace, and where the gate says.
    pub fn new(pace: Pace, dice: Dice, gate: Arc<Gate>) -> Pauses {
        Pauses {
            pace,
            dice: Mutex::new(dice),
            gate,
        }
    }

    /// Takes a while, or not.
    pub async fn pause(&self) {
        self.gate.pass().await;
        match self.next() {
            Pause::None => {}
            Pause::Turns(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            Pause::For(time) => tokio::time::sleep(time).await,
        }
    }

    fn next(&self) -> Pause {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let Pace {
            yields,
            slow,
            stuck,
        } = self.pace;
        let usual = 1_000_u64.saturating_sub(yields + slow + stuck);
        match dice.weighted(&[usual, yields, slow, stuck]) {
            1 => Pause::Turns(dice.between(1, 3)),
            2 => Pause::For(Duration::from_millis(dice.between(1, 20))),
            3 => Pause::For(Duration::from_millis(dice.between(500, 30_000))),
            _ => Pause::None,
        }
    }
}
