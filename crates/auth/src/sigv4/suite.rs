//! The published Signature Version 4 test suite, and vectors of the EBS direct APIs.
