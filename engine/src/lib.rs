//! Instances of either kind: lifecycle, state, monitor process, networks.
