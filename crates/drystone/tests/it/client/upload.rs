//! Uploads against a real server, and through faults.
