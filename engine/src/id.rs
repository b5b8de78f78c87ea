//! Ids and names of instances.

use rustix::rand::{GetRandomFlags, getrandom};

const ADJECTIVES: [&str; 24] = [
    "amber", "bold", "brisk", "calm", "clear", "crisp", "eager", "fair", "fleet", "gentle", "keen", "light",
    "lucid", "mellow", "neat", "nimble", "plain", "quick", "quiet", "sharp", "solid", "steady", "swift",
    "warm",
];
const NOUNS: [&str; 24] = [
    "adze", "awl", "bevel", "burin", "chisel", "gouge", "grain", "inlay", "joint", "kerf", "knife", "lathe",
    "maple", "miter", "notch", "oak", "plane", "rasp", "relief", "spoke", "tenon", "veiner", "walnut",
    "whorl",
];

/// Length of an instance's id, in hexadecimal digits.
const LENGTH: usize = 12;

/// A new random id of twelve hexadecimal digits.
pub(crate) fn random_id() -> String {
    random::<{ LENGTH / 2 }>().iter().map(|b| format!("{b:02x}")).collect()
}

/// A name for an instance whose user gave none.
pub(crate) fn random_name() -> String {
    let [adjective, noun] = random().map(usize::from);
    format!("{}_{}", ADJECTIVES[adjective % ADJECTIVES.len()], NOUNS[noun % NOUNS.len()])
}

/// Random bytes from the kernel, without a file: there may be no /dev.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(filled, Ok(N), "the kernel fills up to 256 bytes at once (man 2 getrandom)");
    bytes
}

/// Whether a name may be given to an instance, by Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, 63 characters at
/// most because it is also the host name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (2..=63).contains(&name.len())
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_twelve_hexadecimal_digits() {
        let id = random_id();
        assert_eq!(id.len(), LENGTH);
        assert!(id.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(id, random_id());
    }

    #[test]
    fn made_up_names_are_valid() {
        for _ in 0..100 {
            assert!(is_valid_name(&random_name()));
        }
    }

    #[test]
    fn refuses_names_that_docker_refuses() {
        for name in ["", "a", "-web", "../web", "we/b", "wéb", &"x".repeat(64)] {
            assert!(!is_valid_name(name), "{name}");
        }
        for name in ["web", "web-1", "a.b_c"] {
            assert!(is_valid_name(name), "{name}");
        }
    }
}
