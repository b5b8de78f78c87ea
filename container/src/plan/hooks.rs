//! The hooks of the configuration, checked.

use std::time::Duration;

use oci_spec::runtime::{Hook as HookSpec, Hooks as HooksSpec};

use super::{PlanError, invalid};
use crate::hooks::{Hook, Hooks};

/// Reads `hooks`.
pub(super) fn plan(hooks: &HooksSpec) -> Result<Hooks, PlanError> {
    let prestart = list("prestart", hooks.prestart().as_deref())?;
    let create_runtime = list("createRuntime", hooks.create_runtime().as_deref())?;
    Ok(Hooks {
        create_runtime: [prestart, create_runtime].concat(),
        create_container: list("createContainer", hooks.create_container().as_deref())?,
        start_container: list("startContainer", hooks.start_container().as_deref())?,
        poststart: list("poststart", hooks.poststart().as_deref())?,
        poststop: list("poststop", hooks.poststop().as_deref())?,
    })
}

fn list(kind: &str, hooks: Option<&[HookSpec]>) -> Result<Vec<Hook>, PlanError> {
    let hooks = hooks.unwrap_or_default().iter().enumerate();
    hooks.map(|(index, spec)| hook(format!("hooks.{kind}[{index}]"), spec)).collect()
}

fn hook(field: String, spec: &HookSpec) -> Result<Hook, PlanError> {
    let path = spec.path();
    if !path.is_absolute() {
        return Err(invalid(field + ".path", path.display(), "must be an absolute path"));
    }
    let args = spec.args().clone().unwrap_or_default();
    let env = spec.env().iter().flatten();
    let texts = [path.to_string_lossy()].into_iter().chain(args.iter().map(Into::into));
    if texts.chain(env.clone().map(Into::into)).any(|text| text.contains('\0')) {
        return Err(invalid(field, path.display(), "holds a NUL byte"));
    }
    let env = env.map(|entry| match entry.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(invalid(format!("{field}.env"), entry, "must look like NAME=VALUE")),
    });
    let env = env.collect::<Result<_, _>>()?;
    let timeout = match spec.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(invalid(field + ".timeout", seconds, "must be a number of seconds above 0")),
        },
    };
    Ok(Hook { path: path.clone(), field, args, env, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Hooks, PlanError> {
        plan(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn prestart_comes_before_create_runtime() {
        let hooks =
            read(r#"{"createRuntime": [{"path": "/b", "timeout": 5}], "prestart": [{"path": "/a"}]}"#)
                .unwrap();
        let paths: Vec<_> = hooks.create_runtime.iter().map(|hook| hook.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/a", "/b"]);
        assert_eq!(hooks.create_runtime[1].timeout, Some(Duration::from_secs(5)));
        assert!(hooks.are_due_before_pivot());
        assert!(!read(r#"{"poststop": [{"path": "/a"}]}"#).unwrap().are_due_before_pivot());
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        for (json, field) in [
            (r#"{"poststart": [{"path": "/a"}, {"path": "b"}]}"#, "hooks.poststart[1].path"),
            (r#"{"poststop": [{"path": ""}]}"#, "hooks.poststop[0].path"),
            (r#"{"poststop": [{"path": "/a", "timeout": 0}]}"#, "hooks.poststop[0].timeout"),
            (r#"{"poststop": [{"path": "/a", "timeout": -1}]}"#, "hooks.poststop[0].timeout"),
            (r#"{"poststop": [{"path": "/a", "env": ["x"]}]}"#, "hooks.poststop[0].env"),
            (r#"{"startContainer": [{"path": "/a", "args": ["a\u0000"]}]}"#, "hooks.startContainer[0]"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
