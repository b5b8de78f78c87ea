//! OCI images: reference, store, layers.
