//! The demonstration, as a new user runs it.
