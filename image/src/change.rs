//! Instructions that set an image's configuration without building anything: the subset of Dockerfile
//! instructions that `docker import --change` takes.

use std::collections::HashMap;
use std::str::FromStr;

use oci_spec::image::Config;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `CMD ["a","b"]` or `CMD words for a shell`.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`, in the same two forms.
    Entrypoint(Vec<String>),
    /// `ENV A=b C="d e"` or `ENV A b`.
    Env(Vec<(String, String)>),
    /// `EXPOSE 80 53/udp`, each as `port/protocol`.
    Expose(Vec<String>),
    /// `LABEL a=b`.
    Label(Vec<(String, String)>),
    /// `STOPSIGNAL SIGQUIT` or a number.
    StopSignal(String),
    /// `USER name[:group]`.
    User(String),
    /// `VOLUME /data` or `VOLUME ["/data"]`.
    Volume(Vec<String>),
    /// `WORKDIR /path`, absolute.
    WorkingDir(String),
}

/// Why a text is not an instruction.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChangeError {
    /// Another instruction, or none.
    #[error(
        "\"{0}\" cannot be used to change an image; use CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, \
         VOLUME or WORKDIR"
    )]
    Instruction(String),
    /// The instruction without what it needs, or with something else.
    #[error("{instruction} {arguments}: {reason}")]
    Arguments {
        /// Which instruction.
        instruction: &'static str,
        /// What followed it.
        arguments: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl FromStr for Change {
    type Err = ChangeError;

    fn from_str(text: &str) -> Result<Self, ChangeError> {
        let text = text.trim();
        let (instruction, arguments) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let arguments = arguments.trim();
        let name = INSTRUCTIONS.iter().find(|name| instruction.eq_ignore_ascii_case(name));
        let name = name.ok_or_else(|| ChangeError::Instruction(instruction.chars().take(40).collect()))?;
        let parsed = parse(name, arguments);
        parsed.map_err(|reason| ChangeError::Arguments {
            instruction: name,
            arguments: arguments.chars().take(80).collect(),
            reason,
        })
    }
}

const INSTRUCTIONS: [&str; 9] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

fn parse(name: &str, arguments: &str) -> Result<Change, &'static str> {
    if arguments.is_empty() {
        return Err("says nothing");
    }
    Ok(match name {
        "CMD" => Change::Cmd(command(arguments)?),
        "ENTRYPOINT" => Change::Entrypoint(command(arguments)?),
        "ENV" => Change::Env(pairs(arguments)?),
        "LABEL" => Change::Label(pairs(arguments)?),
        "EXPOSE" => Change::Expose(arguments.split_whitespace().map(port).collect::<Result<_, _>>()?),
        "VOLUME" if arguments.starts_with('[') => Change::Volume(json_words(arguments)?),
        "VOLUME" => Change::Volume(words(arguments)?),
        "WORKDIR" if !arguments.starts_with('/') => return Err("must be an absolute path"),
        "WORKDIR" => Change::WorkingDir(arguments.to_owned()),
        _ if arguments.contains(char::is_whitespace) => return Err("must be one word"),
        "STOPSIGNAL" => Change::StopSignal(arguments.to_owned()),
        _ => Change::User(arguments.to_owned()),
    })
}

/// A command as a JSON list, or as text for a shell.
fn command(arguments: &str) -> Result<Vec<String>, &'static str> {
    if arguments.starts_with('[') {
        return json_words(arguments);
    }
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), arguments.to_owned()])
}

fn json_words(arguments: &str) -> Result<Vec<String>, &'static str> {
    serde_json::from_str(arguments).map_err(|_| "must be a JSON list of strings, like [\"a\",\"b\"]")
}

/// `A=b C="d e"`, or the old form `A b`.
fn pairs(arguments: &str) -> Result<Vec<(String, String)>, &'static str> {
    let first = arguments.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) =
            arguments.split_once(char::is_whitespace).ok_or("must be of the form NAME=VALUE")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be of the form NAME=VALUE"),
    };
    words(arguments)?.into_iter().map(pair).collect()
}

/// `80` or `53/udp`, as `port/protocol`.
fn port(text: &str) -> Result<String, &'static str> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("the protocol must be tcp, udp or sctp");
    }
    match number.parse::<u16>() {
        Ok(number) if number > 0 => Ok(format!("{number}/{protocol}")),
        _ => Err("a port must be a number from 1 to 65535"),
    }
}

/// Splits at white space; quotes and backslashes keep it, as in a Dockerfile.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (' ' | '\t' | '\n' | '\r', None) => words.extend(word.take()),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, Some(q)) if q == c => quote = None,
            ('\\', None | Some('"')) => {
                word.get_or_insert_default().push(rest.next().ok_or("ends with a backslash")?);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// The configuration that `changes` give, applied in order.
pub(crate) fn config(changes: &[Change]) -> Config {
    let mut config = Config::default();
    for change in changes {
        match change {
            Change::Cmd(words) => _ = config.set_cmd(Some(words.clone())),
            Change::Entrypoint(words) => _ = config.set_entrypoint(Some(words.clone())),
            Change::Env(pairs) => set_env(&mut config, pairs),
            Change::Expose(ports) => {
                let ports = add_missing(config.exposed_ports(), ports);
                config.set_exposed_ports(Some(ports));
            }
            Change::Label(pairs) => {
                config.labels_mut().get_or_insert_with(HashMap::new).extend(pairs.iter().cloned());
            }
            Change::StopSignal(signal) => _ = config.set_stop_signal(Some(signal.clone())),
            Change::User(user) => _ = config.set_user(Some(user.clone())),
            Change::Volume(paths) => {
                let volumes = add_missing(config.volumes(), paths);
                config.set_volumes(Some(volumes));
            }
            Change::WorkingDir(path) => _ = config.set_working_dir(Some(path.clone())),
        }
    }
    config
}

fn set_env(config: &mut Config, pairs: &[(String, String)]) {
    let mut env = config.env().clone().unwrap_or_default();
    for (name, value) in pairs {
        env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        env.push(format!("{name}={value}"));
    }
    config.set_env(Some(env));
}

fn add_missing(old: &Option<Vec<String>>, new: &[String]) -> Vec<String> {
    let mut all = old.clone().unwrap_or_default();
    all.extend(new.iter().filter(|item| !old.iter().flatten().any(|o| o == *item)).cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn parses_each_instruction() {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect::<Vec<_>>()
        };
        for (text, change) in [
            (r#"CMD ["lighttpd","-D"]"#, Change::Cmd(strings(&["lighttpd", "-D"]))),
            ("cmd echo $A", Change::Cmd(strings(&["/bin/sh", "-c", "echo $A"]))),
            (r#"ENTRYPOINT ["/x"]"#, Change::Entrypoint(strings(&["/x"]))),
            (r#"ENV A=b C="d e" F=g\ h"#, Change::Env(pairs(&[("A", "b"), ("C", "d e"), ("F", "g h")]))),
            ("ENV A some text", Change::Env(pairs(&[("A", "some text")]))),
            ("EXPOSE 80 53/UDP", Change::Expose(strings(&["80/tcp", "53/udp"]))),
            ("LABEL a='b c'", Change::Label(pairs(&[("a", "b c")]))),
            ("STOPSIGNAL SIGQUIT", Change::StopSignal("SIGQUIT".to_owned())),
            ("USER www:www", Change::User("www:www".to_owned())),
            ("VOLUME /a /b", Change::Volume(strings(&["/a", "/b"]))),
            (r#"VOLUME ["/a b"]"#, Change::Volume(strings(&["/a b"]))),
            ("  WORKDIR   / ", Change::WorkingDir("/".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(change), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("", "cannot be used"),
            ("RUN x", "\"RUN\" cannot be used"),
            ("CMD", "says nothing"),
            ("CMD [\"a\"", "JSON list"),
            ("ENV A", "NAME=VALUE"),
            ("ENV A=b =c", "NAME=VALUE"),
            ("ENV A=\"b", "not closed"),
            ("ENV A=b\\", "backslash"),
            ("EXPOSE 0", "1 to 65535"),
            ("EXPOSE 80/http", "tcp, udp or sctp"),
            ("USER a b", "one word"),
            ("WORKDIR x", "absolute"),
        ] {
            let error = text.parse::<Change>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn later_changes_win() {
        let changes: Vec<Change> = ["ENV A=1 B=2", "ENV A=3", "EXPOSE 80", "EXPOSE 80 81", "CMD a", "CMD b"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let config = config(&changes);
        assert_eq!(config.env(), &Some(strings(&["B=2", "A=3"])));
        assert_eq!(config.exposed_ports(), &Some(strings(&["80/tcp", "81/tcp"])));
        assert_eq!(config.cmd(), &Some(strings(&["/bin/sh", "-c", "b"])));
    }
}
