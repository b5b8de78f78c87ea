//! `/logger` and `/metrics`: where logs and figures go.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

/// Where figures go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// A file or FIFO that gets a line of JSON each minute.
    pub metrics_path: PathBuf,
}

/// Where logs go, and which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logger {
    /// A file or FIFO; standard error if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_path: Option<PathBuf>,
    /// How much is said.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "level")]
    pub level: Option<LogLevel>,
    /// Say how important a line is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show_level: Option<bool>,
    /// Say where a line comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub show_log_origin: Option<bool>,
    /// Only lines of this module and those in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// And what may.
    Warning,
    /// And what was done.
    Info,
    /// And how.
    Debug,
    /// All.
    Trace,
}

/// A level in any case, as clients write it.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LogLevel>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let level = match name.to_ascii_lowercase().as_str() {
        "off" => LogLevel::Off,
        "error" => LogLevel::Error,
        "warn" | "warning" => LogLevel::Warning,
        "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => {
            let message = format!("no level {name:?}; write Off, Error, Warning, Info, Debug or Trace");
            return Err(serde::de::Error::custom(message));
        }
    };
    Ok(Some(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        let level = |text: &str| serde_json::from_str::<Logger>(text).map(|logger| logger.level);
        assert_eq!(level(r#"{"level": "WARN"}"#).unwrap(), Some(LogLevel::Warning));
        assert_eq!(level(r#"{"level": "Info"}"#).unwrap(), Some(LogLevel::Info));
        assert_eq!(level("{}").unwrap(), None);
        assert!(level(r#"{"level": "loud"}"#).unwrap_err().to_string().contains("no level \"loud\""));
    }
}
