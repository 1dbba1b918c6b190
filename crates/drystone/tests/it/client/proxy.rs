//! A proxy that breaks what goes through it, as told.
