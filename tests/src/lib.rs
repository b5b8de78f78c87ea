//! End-to-end tests through the carve binary only.
