//! The real engine on a simulated machine: a disk, a catalog and a clock that fail as a seed says. Never shipped.

pub mod checks;
pub mod clients;
pub mod clock;
pub mod contents;
pub mod dice;
pub mod faulty_db;
pub mod history;
pub mod machine;
pub mod model;
pub mod pauses;
pub mod plan;
pub mod register;
pub mod scene;
pub mod slow_chunks;
pub mod space;
pub mod story;

pub use story::{Failure, Told, run};
