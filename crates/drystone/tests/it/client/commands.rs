//! The client's commands, as a user runs them.
