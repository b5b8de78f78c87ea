//! Names for addresses in a guest kernel, from its `System.map`.

use std::io;
use std::path::{Path, PathBuf};

/// A map that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file cannot be read.
    #[error("cannot read the symbols in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// It is not a System.map.
    #[error("{path}, line {line}: not `address type name`; take the System.map of the kernel's build")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
}

/// Symbols of code, by address.
#[derive(Debug, Default)]
pub struct Symbols {
    code: Vec<(u64, String)>,
    /// The last symbol of any kind: what is behind it is not of this kernel's image.
    last: u64,
}

impl Symbols {
    /// Reads a `System.map`.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, SymbolsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SymbolsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|line| SymbolsError::Line { path: path.to_owned(), line })
    }

    /// Where the symbols of `kernel` usually are, if they are there: `vmlinux` has `System.map` beside it, `vmlinuz-6.1`
    /// has `System.map-6.1`.
    pub fn beside(kernel: &Path) -> Option<PathBuf> {
        Some(usual_path(kernel)).filter(|path| path.is_file())
    }

    /// Parses lines of address, type and name; the error is the number of the first line that is none.
    fn parse(text: &str) -> Result<Self, usize> {
        let mut symbols = Self::default();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
                return Err(number + 1);
            };
            let address = u64::from_str_radix(address, 16).map_err(|_| number + 1)?;
            symbols.last = symbols.last.max(address);
            if matches!(kind, "t" | "T" | "w" | "W") {
                symbols.code.push((address, name.to_owned()));
            }
        }
        symbols.code.sort();
        Ok(symbols)
    }

    /// The symbol that `address` is in, and how far behind its start.
    pub fn find(&self, address: u64) -> Option<(&str, u64)> {
        if address > self.last {
            return None;
        }
        let behind = self.code.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.code.get(behind.checked_sub(1)?)?;
        Some((name, address - start))
    }
}

fn usual_path(kernel: &Path) -> PathBuf {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let suffix = name.find('-').map_or("", |dash| &name[dash..]);
    kernel.with_file_name(format!("System.map{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_looked_for_beside_the_kernel_under_its_version() {
        for (kernel, symbols) in [
            ("target/guest/vmlinux", "target/guest/System.map"),
            ("/boot/vmlinuz-6.1.0-9-amd64", "/boot/System.map-6.1.0-9-amd64"),
            ("bzImage", "System.map"),
        ] {
            assert_eq!(usual_path(Path::new(kernel)), Path::new(symbols));
        }
    }

    const MAP: &str = "\
ffffffff81000000 T _stext
ffffffff81000040 t helper
ffffffff81001000 D data
ffffffff81000100 T later
";

    #[test]
    fn an_address_belongs_to_the_code_before_it() {
        let symbols = Symbols::parse(MAP).unwrap();
        assert_eq!(symbols.find(0xffff_ffff_8100_0000), Some(("_stext", 0)));
        assert_eq!(symbols.find(0xffff_ffff_8100_0048), Some(("helper", 8)));
        assert_eq!(symbols.find(0xffff_ffff_8100_0f00), Some(("later", 0xe00)));
        assert_eq!(symbols.find(0x1000), None);
        assert_eq!(symbols.find(0xffff_ffff_c000_0000), None, "of a module");
    }

    #[test]
    fn another_file_is_refused_with_its_line() {
        assert_eq!(Symbols::parse("ffffffff81000000 T a\n\x7fELF\n").unwrap_err(), 2);
        assert_eq!(Symbols::parse("main T a\n").unwrap_err(), 1);
    }
}
