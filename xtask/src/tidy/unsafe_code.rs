//! Unsafe code is only where ARCHITECTURE.md says.
//!
//! The compiler denies it everywhere, so a file that holds some says so in an attribute; this finds the attributes
//! outside the modules that are listed.

use super::paths;
use super::sources::Source;

/// The heading under which the modules are listed.
const HEADING: &str = "## Where unsafe is";

/// Finds the exceptions that are not listed, and listed modules that need none.
pub(crate) fn check(map: &str, sources: &[Source]) -> Vec<String> {
    let listed = listed_in(map);
    if listed.is_empty() {
        return vec![format!("ARCHITECTURE.md lists no modules under {HEADING:?}")];
    }
    let with_unsafe: Vec<&Source> =
        sources.iter().filter(|source| makes_an_exception(&source.text)).collect();
    let unlisted =
        with_unsafe.iter().filter(|source| !listed.iter().any(|module| is_in(&source.path, module)));
    let unlisted = unlisted
        .map(|source| format!("{} allows unsafe code and is not listed in ARCHITECTURE.md", source.path));
    let needless =
        listed.iter().filter(|module| !with_unsafe.iter().any(|source| is_in(&source.path, module)));
    let needless =
        needless.map(|module| format!("ARCHITECTURE.md lists {module} for unsafe code, and it has none"));
    unlisted.chain(needless).collect()
}

fn listed_in(map: &str) -> Vec<&str> {
    let section = map.split_once(HEADING).map_or("", |(_, rest)| rest);
    paths::named_in(section.split("\n## ").next().unwrap_or(""))
}

/// Whether a file is the module or below it.
fn is_in(file: &str, module: &str) -> bool {
    let module = module.trim_end_matches('/');
    file.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
}

/// Whether an attribute lifts the denial.
fn makes_an_exception(text: &str) -> bool {
    let lint = concat!("unsafe", "_code");
    // Long attributes are broken into lines.
    let text: String = text.split_whitespace().collect();
    ["allow", "expect", "warn"].iter().any(|level| text.contains(&format!("{level}({lint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, exception: bool) -> Source {
        let text =
            if exception { format!("#![expect({}_code, reason = \"r\")]", "unsafe") } else { String::new() };
        Source { path: path.to_owned(), text }
    }

    const MAP: &str =
        "# Map\n`cli/src`\n## Where unsafe is\n- `vmm/src/kvm`: ioctls\n- `a/src/sys.rs`\n## Next\n`b/src`\n";

    #[test]
    fn exceptions_in_listed_modules_pass() {
        let sources =
            [source("vmm/src/kvm/vcpu.rs", true), source("a/src/sys.rs", true), source("b/src/x.rs", false)];
        assert_eq!(check(MAP, &sources), Vec::<String>::new());
    }

    #[test]
    fn exceptions_elsewhere_and_needless_rows_are_found() {
        let sources =
            [source("vmm/src/kvm.rs", true), source("vmm/src/kvmx/a.rs", true), source("b/src/x.rs", true)];
        assert_eq!(
            check(MAP, &sources),
            [
                "vmm/src/kvmx/a.rs allows unsafe code and is not listed in ARCHITECTURE.md",
                "b/src/x.rs allows unsafe code and is not listed in ARCHITECTURE.md",
                "ARCHITECTURE.md lists a/src/sys.rs for unsafe code, and it has none",
            ]
        );
    }

    #[test]
    fn attributes_may_be_broken_into_lines() {
        assert!(makes_an_exception(&format!("#![expect(\n    unsafe_{},\n    reason = \"r\"\n)]", "code")));
        assert!(!makes_an_exception("// unsafe_code is denied"));
    }

    #[test]
    fn a_map_without_the_list_is_a_finding() {
        assert_eq!(check("# Map\n", &[]).len(), 1);
    }
}
