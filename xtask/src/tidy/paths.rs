//! Every path that ARCHITECTURE.md names exists.

/// Endings that make a word without a slash a file's name.
const FILE_ENDINGS: [&str; 6] = [".lock", ".md", ".rs", ".sh", ".toml", ".yml"];

/// Finds the paths that do not exist.
pub(crate) fn check(map: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = named_in(map).into_iter().filter(|path| !exists(path));
    missing.map(|path| format!("ARCHITECTURE.md names {path}, which is not there")).collect()
}

/// The paths in the text: what is in backticks outside of code blocks and looks like one of the checkout's.
pub(crate) fn named_in(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut paths = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            paths.extend(line.split('`').skip(1).step_by(2).filter(|word| is_path(word)));
        }
    }
    paths
}

/// Relative, without anything a path of ours does not have, and not of what a build makes.
fn is_path(word: &str) -> bool {
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    let file = FILE_ENDINGS.iter().any(|ending| word.ends_with(ending));
    let ours = !word.starts_with(['/', '-']) && !word.starts_with("target/");
    plain && ours && (word.contains('/') || file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_checkout_are_taken() {
        let text = "`cli/src` and `vmm/src/kvm/`, `clippy.toml`; not `VmConfig`, `/dev/kvm`, `engine::launch`,\n\
                    `cargo xtask tidy`, `--vm`, `target/release/carve` or `~/.cache/carve`\n\
                    ```text\n`in/a/block`\n```\n| `docs/x.md` | `a b/c` |\n";
        assert_eq!(named_in(text), ["cli/src", "vmm/src/kvm/", "clippy.toml", "docs/x.md"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let findings = check("`a/b` and `c/d`", |path| path == "a/b");
        assert_eq!(findings, ["ARCHITECTURE.md names c/d, which is not there"]);
    }
}
