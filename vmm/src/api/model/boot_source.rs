//! `/boot-source`: what the machine boots.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Kernel, initial RAM disk and command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSource {
    /// The kernel's file.
    pub kernel_image_path: PathBuf,
    /// Initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd_path: Option<PathBuf>,
    /// Added to our defaults on the kernel's command line, where it has the last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_args: Option<String>,
}
