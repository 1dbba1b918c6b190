//! Targets against a model.
