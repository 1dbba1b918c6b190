//! Copies between two servers.
