//! Downloads and verification against a real server, and through faults.
