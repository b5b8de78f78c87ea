//! Names of images, by Docker's rules (the grammar of `distribution/reference`):
//! `[domain[:port]/]path[:tag][@digest]`.
//!
//! A name is kept as it was written; `docker.io/library/` is never added to it. Only [`Reference::same_as`]
//! knows that `nginx` and `docker.io/library/nginx:latest` are the same image.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// The longest name, without tag and digest, in bytes.
const MAX_NAME: usize = 255;
/// The longest tag in bytes.
const MAX_TAG: usize = 128;
/// The tag meant when neither tag nor digest is given.
const DEFAULT_TAG: &str = "latest";

/// The name of an image. Has a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: Option<String>,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text does not name an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("an image name is empty; write for example \"demo\" or \"localhost:5000/team/app:1.2\"")]
    Empty,
    /// A component of the path breaks the rules.
    #[error(
        "image name \"{reference}\": \"{component}\" must be lower-case letters and digits, with single '.', \
         '_', '__' or '-'s between them"
    )]
    Component {
        /// The whole text.
        reference: String,
        /// The component at fault.
        component: String,
    },
    /// The registry's host name or port breaks the rules.
    #[error("image name \"{reference}\": \"{domain}\" is not a host name with an optional port")]
    Domain {
        /// The whole text.
        reference: String,
        /// The domain at fault.
        domain: String,
    },
    /// The tag breaks the rules.
    #[error(
        "image name \"{reference}\": tag \"{tag}\" must be 1 to 128 letters, digits, '_', '.' and '-', not \
         starting with '.' or '-'"
    )]
    Tag {
        /// The whole text.
        reference: String,
        /// The tag at fault.
        tag: String,
    },
    /// The digest after `@` breaks the rules.
    #[error("image name \"{reference}\": {source}")]
    Digest {
        /// The whole text.
        reference: String,
        /// What is wrong.
        source: DigestError,
    },
    /// Longer than 255 bytes.
    #[error("image name is {0} bytes long; at most {MAX_NAME} are allowed")]
    TooLong(usize),
    /// 64 hexadecimal digits look like an image ID.
    #[error("image name \"{0}\" looks like an image ID; use a name, or NAME@sha256:DIGEST")]
    LooksLikeId(String),
}

impl Reference {
    /// The registry's host name and port, if one was written.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The name below the registry, for example `library/nginx`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; none if only a digest was written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, if one was written.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name without its digest, if it has a tag.
    #[must_use]
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.as_ref().map(|_| Self { digest: None, ..self.clone() })
    }

    /// Whether both have the same repository and tag once Docker's defaults (`docker.io`, `library/`) are
    /// filled in. Digests are not looked at.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.same_repository(other) && self.tag == other.tag
    }

    /// Like [`Self::same_as`], whatever the tags.
    #[must_use]
    pub fn same_repository(&self, other: &Self) -> bool {
        self.canonical_repository() == other.canonical_repository()
    }

    fn canonical_repository(&self) -> (String, String) {
        let domain = match self.domain.as_deref() {
            None | Some("index.docker.io" | "docker.io") => "docker.io",
            Some(domain) => domain,
        };
        let needs_library = domain == "docker.io" && !self.path.contains('/');
        let path = if needs_library { format!("library/{}", self.path) } else { self.path.clone() };
        (domain.to_owned(), path)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_NAME + MAX_TAG + 80 {
            return Err(ReferenceError::TooLong(text.len()));
        }
        let reference = || text.to_owned();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => match digest.parse() {
                Ok(digest) => (rest, Some(digest)),
                Err(source) => return Err(ReferenceError::Digest { reference: reference(), source }),
            },
            None => (text, None),
        };
        // A ':' after the last '/' starts a tag; one before it starts a port.
        let name_end = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(colon) => (&rest[..name_end + colon], Some(&rest[name_end + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { reference: reference(), tag: tag.to_owned() });
        }
        let (domain, path) = split_domain(name);
        if let Some(domain) = domain.filter(|domain| !is_domain(domain)) {
            return Err(ReferenceError::Domain { reference: reference(), domain: domain.to_owned() });
        }
        if let Some(component) = path.split('/').find(|component| !is_path_component(component)) {
            return Err(ReferenceError::Component {
                reference: reference(),
                component: component.to_owned(),
            });
        }
        if name.len() > MAX_NAME {
            return Err(ReferenceError::TooLong(name.len()));
        }
        if domain.is_none() && path.len() == 64 && path.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ReferenceError::LooksLikeId(reference()));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { domain: domain.map(str::to_owned), path: path.to_owned(), tag, digest })
    }
}

/// The first component is a registry if it could not be the start of a path, or is `localhost`.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (domain, None),
    };
    let port_is_fine = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port_is_fine && host.split('.').all(is_label)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_are_words =
        component.bytes().next().is_some_and(is_word) && component.bytes().next_back().is_some_and(is_word);
    ends_are_words
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "{domain}/")?;
        }
        f.write_str(&self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_prints_what_docker_accepts() {
        let digest = format!("name@sha256:{HEX}");
        let both = format!("a/b:c@sha256:{HEX}");
        for (text, shown) in [
            ("demo", "demo:latest"),
            ("demo:latest", "demo:latest"),
            ("demo:1.2-rc_3", "demo:1.2-rc_3"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x/y:tag", "localhost:5000/x/y:tag"),
            ("Example.com/x", "Example.com/x:latest"),
            ("registry.example.com:443/a__b/c-d.e---f", "registry.example.com:443/a__b/c-d.e---f:latest"),
            ("library/nginx", "library/nginx:latest"),
            (digest.as_str(), digest.as_str()),
            (both.as_str(), both.as_str()),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn splits_registry_path_and_tag() {
        let reference: Reference = "localhost:5000/x/y:tag".parse().unwrap();
        assert_eq!(reference.domain(), Some("localhost:5000"));
        assert_eq!((reference.path(), reference.tag()), ("x/y", Some("tag")));
    }

    #[test]
    fn says_what_is_wrong() {
        let long = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        for (text, part) in [
            ("", "empty"),
            ("Demo", "\"Demo\" must be lower-case"),
            ("a//b", "\"\" must be"),
            ("a/", "\"\" must be"),
            ("/a", "\"\" must be"),
            ("a___b", "must be lower-case"),
            ("a..b", "must be lower-case"),
            ("-a", "must be lower-case"),
            ("a b", "must be lower-case"),
            ("../etc", "not a host name"),
            ("a:", "tag \"\""),
            ("a:.x", "tag \".x\""),
            (long_tag.as_str(), "tag"),
            ("host:port/a", "\"host:port\" is not a host name"),
            ("-h.x/a", "not a host name"),
            ("a@sha256:12", "64 lower-case"),
            ("a@md5:12", "only sha256"),
            (long.as_str(), "256 bytes long"),
            (HEX, "looks like an image ID"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn docker_hub_defaults_compare_equal() {
        let parse = |text: &str| text.parse::<Reference>().unwrap();
        assert!(parse("nginx").same_as(&parse("docker.io/library/nginx:latest")));
        assert!(parse("a/b:1").same_as(&parse("docker.io/a/b:1")));
        assert!(!parse("nginx").same_as(&parse("localhost/nginx")));
        assert!(!parse("nginx:1").same_as(&parse("nginx:2")));
        assert!(parse("nginx:1").same_repository(&parse("nginx:2")));
    }
}
