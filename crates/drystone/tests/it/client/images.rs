//! Disks to upload: their content is a function of a seed.
