//! No file grows past what one can take in.

use super::sources::Source;

/// Lines of code, without blank lines, comments and the tests at the end.
const LIMIT: usize = 500;
/// The same for files that hold nothing but tests, which are read one test at a time.
const TEST_LIMIT: usize = 1000;

/// Finds the files that are too long.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let measured =
        sources.iter().map(|source| (&source.path, lines_of_code(&source.text), limit(&source.path)));
    let too_long = measured.filter(|(_, lines, limit)| lines > limit);
    too_long
        .map(|(path, lines, limit)| {
            format!("{path} has {lines} lines of code; cut it where a seam is (limit {limit})")
        })
        .collect()
}

fn limit(path: &str) -> usize {
    let tests = path.ends_with("/tests.rs") || path.contains("/tests/");
    if tests { TEST_LIMIT } else { LIMIT }
}

fn lines_of_code(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(text);
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_are_free() {
        let text =
            "//! Header.\n\nfn a() {\n    // why\n    b();\n}\n\n#[cfg(test)]\nmod tests {\n    x();\n}\n";
        assert_eq!(lines_of_code(text), 3);
    }

    #[test]
    fn only_files_past_the_limit_are_found() {
        let source = |path: &str, lines| Source { path: path.to_owned(), text: "x();\n".repeat(lines) };
        let findings = check(&[source("a.rs", LIMIT), source("b.rs", LIMIT + 1)]);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with("b.rs has 501"), "{findings:?}");
        assert!(check(&[source("a/tests.rs", TEST_LIMIT), source("a/tests/b.rs", LIMIT + 1)]).is_empty());
    }
}
