//! Plans, runs and analyses experiments by running the carve binary and its peers from outside.
