//! What a guest kernel's file says about it: its version and its hash, for the environment stamp.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::environment::Fact;

/// The largest file that is read, in bytes; an uncompressed kernel with debug information is below it.
const LARGEST: u64 = 1 << 30;
/// What precedes a kernel's version in its image (`linux_banner` in the kernel's init/version.c).
const BANNER: &[u8] = b"Linux version ";

/// The facts about the kernel at `path`; none when it cannot be read.
pub(crate) fn facts(path: &Path) -> Vec<Fact> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let version = version(&bytes).map(|value| Fact { name: "guest kernel".to_owned(), value });
    let hash = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    version.into_iter().chain([Fact { name: "guest kernel file".to_owned(), value: hash }]).collect()
}

fn version(image: &[u8]) -> Option<String> {
    let start = image.windows(BANNER.len()).position(|window| window == BANNER)? + BANNER.len();
    let word: Vec<u8> = image[start..].iter().copied().take(64).take_while(u8::is_ascii_graphic).collect();
    String::from_utf8(word).ok().filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version_in_an_image() {
        assert_eq!(version(b"\x7fELF..Linux version 6.1.158 (root@x)\0").as_deref(), Some("6.1.158"));
        assert_eq!(version(b"\x7fELF.. Linux version %s"), None);
        assert_eq!(version(b"nothing"), None);
    }

    #[test]
    fn a_file_that_is_not_there_has_no_facts() {
        assert!(facts(Path::new("/no/such/vmlinux")).is_empty());
    }
}
