//! Which answers are worth another attempt, and when (SPEC 5.5).
