//! Turns an image's `User` string into numbers, by the `passwd` and `group` of the root file system.
