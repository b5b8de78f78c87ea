//! OCI images: references, the store, and layers in the one form that both models use.
//!
//! [`Store`] keeps images as a standard OCI image layout plus, for each distinct layer, one EROFS image that a
//! container mounts and a virtual machine gets as a read-only disk. [`Reference`] names an image, [`Image`] is
//! one that was found. This crate knows neither containers nor virtual machines.
//!
//! Everything read here — archives, manifests, configurations, layer tars — is untrusted: sizes are bounded,
//! digests are checked, and no path leaves its root.

mod change;
mod compression;
mod digest;
mod erofs;
mod progress;
mod reference;
mod store;
mod tar_stream;
mod unpack;

pub use change::{Change, ChangeError};
pub use digest::{Digest, DigestError};
pub use erofs::{LayerError, LayerSummary, Limits, write_layer};
pub use oci_spec::image::ImageConfiguration;
pub use progress::{Progress, ProgressFn, Stage};
pub use reference::{Reference, ReferenceError};
pub use store::{Image, Layer, Listed, Store, StoreError};
