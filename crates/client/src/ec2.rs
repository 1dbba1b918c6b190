//! The snapshot operations of EC2, and STS GetCallerIdentity, in their wire form (SPEC 7).
