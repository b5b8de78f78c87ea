//! The config fragments: reading them, putting them together, and checking what Kconfig made of them.
//!
//! The syntax is `.config`'s: `CONFIG_X=value`, or `# CONFIG_X is not set` for what must be off.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What the fragments ask for: symbol → value and the fragment that asks.
#[derive(Debug)]
pub(super) struct Wanted {
    symbols: BTreeMap<String, Ask>,
}

#[derive(Debug)]
struct Ask {
    /// The text after `=`; `None` for off.
    value: Option<String>,
    fragment: String,
}

impl Wanted {
    /// Reads every `*.config` file of `dir`.
    ///
    /// # Errors
    ///
    /// No fragment there, one that cannot be read, a line that is neither comment nor setting, or a symbol that
    /// is asked for twice: two places that could disagree.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut wanted = Self { symbols: BTreeMap::new() };
        let mut names: Vec<_> = fs::read_dir(dir)
            .with_context(|| format!("list {}", dir.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        names.retain(|path| path.extension().is_some_and(|extension| extension == "config"));
        names.sort();
        for path in names {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let fragment = path.file_name().unwrap_or_default().to_string_lossy();
            wanted.add(&fragment, &text)?;
        }
        if wanted.symbols.is_empty() {
            bail!("{} holds no config fragment", dir.display());
        }
        Ok(wanted)
    }

    fn add(&mut self, fragment: &str, text: &str) -> Result<()> {
        for (index, line) in text.lines().enumerate() {
            let Some((symbol, value)) = parse_line(line)
                .with_context(|| format!("{fragment}:{}: not a setting nor a comment: {line}", index + 1))?
            else {
                continue;
            };
            let ask = Ask { value: value.map(str::to_owned), fragment: fragment.to_owned() };
            if let Some(before) = self.symbols.insert(symbol.to_owned(), ask) {
                bail!("{symbol} is asked for in {} and again in {fragment}", before.fragment);
            }
        }
        Ok(())
    }

    /// All settings in one text, in the order of their names: what the kernel is configured with, and what its
    /// cache key covers (so that a changed comment rebuilds nothing).
    pub(super) fn merged(&self) -> String {
        let mut text = String::new();
        for (symbol, ask) in &self.symbols {
            match &ask.value {
                Some(value) => writeln!(text, "{symbol}={value}"),
                None => writeln!(text, "# {symbol} is not set"),
            }
            .expect("writing to a String cannot fail");
        }
        text
    }

    /// What `config`, a finished `.config`, has otherwise than asked: one line for each symbol.
    pub(super) fn refused_by(&self, config: &str) -> Vec<String> {
        let got: BTreeMap<&str, &str> =
            config.lines().filter_map(|line| line.split_once('=')).filter(|(s, _)| is_symbol(s)).collect();
        let mut refused = Vec::new();
        for (symbol, ask) in &self.symbols {
            let have = got.get(symbol.as_str()).copied();
            if have != ask.value.as_deref() {
                let (want, have) = (ask.value.as_deref().unwrap_or("off"), have.unwrap_or("off"));
                refused.push(format!("{symbol}: {want} wanted by {}, {have} in .config", ask.fragment));
            }
        }
        refused
    }
}

/// One line of a fragment: a symbol with its value (`None` for off), or nothing for a comment or an empty line.
fn parse_line(line: &str) -> Result<Option<(&str, Option<&str>)>> {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix('#') {
        let off = comment.trim().strip_suffix(" is not set").filter(|symbol| is_symbol(symbol));
        return Ok(off.map(|symbol| (symbol, None)));
    }
    if line.is_empty() {
        return Ok(None);
    }
    match line.split_once('=') {
        Some((symbol, value)) if is_symbol(symbol) && !value.is_empty() && value != "n" => {
            Ok(Some((symbol, Some(value))))
        }
        _ => bail!("a setting is CONFIG_X=value, and what is off is written `# CONFIG_X is not set`"),
    }
}

fn is_symbol(text: &str) -> bool {
    text.strip_prefix("CONFIG_")
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fragments: &[(&str, &str)]) -> Result<Wanted> {
        let mut wanted = Wanted { symbols: BTreeMap::new() };
        for (name, text) in fragments {
            wanted.add(name, text)?;
        }
        Ok(wanted)
    }

    #[test]
    fn settings_are_merged_in_the_order_of_their_names_without_comments() {
        let merged = wanted(&[
            ("b.config", "# Why.\nCONFIG_SMP=y\n\nCONFIG_NR_CPUS=64\n"),
            ("a.config", "# CONFIG_MODULES is not set\n"),
        ])
        .unwrap()
        .merged();
        assert_eq!(merged, "# CONFIG_MODULES is not set\nCONFIG_NR_CPUS=64\nCONFIG_SMP=y\n");
    }

    #[test]
    fn lists_what_kconfig_dropped_changed_or_brought_back() {
        let wanted = wanted(&[(
            "a.config",
            "CONFIG_KEPT=y\nCONFIG_DROPPED=y\nCONFIG_CHANGED=8\n# CONFIG_OFF is not set\n# CONFIG_BACK is not set\n",
        )])
        .unwrap();
        let config = "CONFIG_KEPT=y\n# CONFIG_DROPPED is not set\nCONFIG_CHANGED=16\nCONFIG_BACK=y\n";
        assert_eq!(
            wanted.refused_by(config),
            [
                "CONFIG_BACK: off wanted by a.config, y in .config",
                "CONFIG_CHANGED: 8 wanted by a.config, 16 in .config",
                "CONFIG_DROPPED: y wanted by a.config, off in .config",
            ]
        );
    }

    #[test]
    fn refuses_a_symbol_asked_for_twice() {
        let error =
            wanted(&[("a.config", "CONFIG_X=y\n"), ("b.config", "# CONFIG_X is not set\n")]).unwrap_err();
        assert_eq!(error.to_string(), "CONFIG_X is asked for in a.config and again in b.config");
    }

    #[test]
    fn refuses_lines_that_say_nothing_clear() {
        for line in ["CONFIG_X", "CONFIG_X=", "CONFIG_X=n", "SMP=y", "CONFIG_=y", "CONFIG_A B=y"] {
            assert!(wanted(&[("a.config", line)]).is_err(), "{line}");
        }
    }

    #[test]
    fn the_fragments_of_the_product_are_well_formed() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(super::super::RECIPE_DIR);
        let merged = Wanted::read(&dir).unwrap().merged();
        assert!(
            merged.contains("CONFIG_VIRTIO_MMIO=y\n") && merged.contains("# CONFIG_MODULES is not set\n")
        );
    }
}
