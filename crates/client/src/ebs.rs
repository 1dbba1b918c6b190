//! The six operations of the EBS direct APIs: requests and answers in their wire form (SPEC 2).
