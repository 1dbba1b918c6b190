//! Connections: kept open, bounded in number, with a limit on how long nothing may move.
