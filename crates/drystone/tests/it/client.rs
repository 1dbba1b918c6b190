//! The client, library and commands, against the built binary: alone, and with faults on the way.

mod commands;
mod copy;
mod demo;
mod download;
mod images;
mod proxy;
mod upload;
mod wire;
