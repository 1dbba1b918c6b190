//! The calls one by one, against a real server and a bad line.
