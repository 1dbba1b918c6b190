//! Moves disks in and out of snapshots, over the EBS direct APIs.
