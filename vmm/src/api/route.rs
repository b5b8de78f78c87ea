//! Which request means what: one table, which a test compares with `vmm/api/openapi.yaml`.

use serde::de::DeserializeOwned;

use super::RequestError;
use super::action::{Action, Change, Part};
use super::http::{Method, Request};
use super::model::{ActionInfo, ActionType, ModelError, SnapshotLoad, VmState, VmUpdate};

/// Turns the name in the path, if there is one, and the body into an action.
type Parse = fn(id: &str, body: &[u8]) -> Result<Action, RequestError>;

/// One operation.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// `{…}` stands for the name of a device.
    pub(crate) path: &'static str,
    parse: Parse,
}

/// All of them.
pub(crate) const ROUTES: &[Route] = &[
    get("/", |_, _| Ok(Action::Describe)),
    get("/version", |_, _| Ok(Action::Version)),
    get("/vm/config", |_, _| Ok(Action::ShowConfig)),
    get("/machine-config", |_, _| Ok(Action::ShowMachine)),
    get("/balloon", |_, _| Ok(Action::ShowBalloon)),
    get("/balloon/statistics", |_, _| Ok(Action::ShowBalloonStatistics)),
    get("/metrics", |_, _| Ok(Action::ShowMetrics)),
    put("/actions", |_, body| Ok(action(json(body)?))),
    put("/boot-source", |_, body| configure(Part::BootSource, body)),
    put("/machine-config", |_, body| configure(Part::Machine, body)),
    patch("/machine-config", |_, body| configure(Part::MachineUpdate, body)),
    put("/drives/{drive_id}", |id, body| configure(Part::Drive, named(id, "drive_id", body)?)),
    patch("/drives/{drive_id}", |id, body| change(Change::Drive, named(id, "drive_id", body)?)),
    put("/network-interfaces/{iface_id}", |id, body| configure(Part::Network, named(id, "iface_id", body)?)),
    patch("/network-interfaces/{iface_id}", |id, body| change(Change::Network, named(id, "iface_id", body)?)),
    put("/pmem/{id}", |id, body| configure(Part::Pmem, named(id, "id", body)?)),
    put("/vsock", |_, body| configure(Part::Vsock, body)),
    put("/balloon", |_, body| configure(Part::Balloon, body)),
    patch("/balloon", |_, body| change(Change::Balloon, body)),
    patch("/balloon/statistics", |_, body| change(Change::BalloonStatistics, body)),
    put("/entropy", |_, body| configure(Part::Entropy, body)),
    put("/serial", |_, body| configure(Part::Serial, body)),
    put("/logger", |_, body| configure(Part::Logger, body)),
    put("/metrics", |_, body| configure(Part::Metrics, body)),
    patch("/vm", |_, body| Ok(Action::Change(vm_state(json(body)?)))),
    put("/snapshot/create", |_, body| change(Change::Snapshot, body)),
    put("/snapshot/load", |_, body| load(body)),
    put("/cpu-config", |_, _| Err(absent("CPU templates; the guest sees the host's CPU"))),
    get("/mmds", |_, _| Err(absent(NO_METADATA))),
    put("/mmds", |_, _| Err(absent(NO_METADATA))),
    patch("/mmds", |_, _| Err(absent(NO_METADATA))),
    put("/mmds/config", |_, _| Err(absent(NO_METADATA))),
    get("/hotplug/memory", |_, _| Err(absent(NO_HOTPLUG))),
    put("/hotplug/memory", |_, _| Err(absent(NO_HOTPLUG))),
    patch("/hotplug/memory", |_, _| Err(absent(NO_HOTPLUG))),
    patch("/balloon/hinting/start", |_, _| Err(absent(NO_HINTING))),
    patch("/balloon/hinting/stop", |_, _| Err(absent(NO_HINTING))),
    get("/balloon/hinting/status", |_, _| Err(absent(NO_HINTING))),
];

const NO_METADATA: &str = "a metadata service; give the guest its data by vsock or on a drive";
const NO_HOTPLUG: &str = "memory hotplug; give the machine its memory before it starts, and a balloon";
const NO_HINTING: &str = "free page hinting; let the guest report free pages by free_page_reporting";

const fn get(path: &'static str, parse: Parse) -> Route {
    Route { method: Method::Get, path, parse }
}

const fn put(path: &'static str, parse: Parse) -> Route {
    Route { method: Method::Put, path, parse }
}

const fn patch(path: &'static str, parse: Parse) -> Route {
    Route { method: Method::Patch, path, parse }
}

/// What `request` asks for.
///
/// # Errors
/// There is no such operation, or the body is not what it takes.
pub(crate) fn parse(request: &Request) -> Result<Action, RequestError> {
    let Request { method, path, body, .. } = request;
    let mut found = ROUTES.iter().filter_map(|route| Some((route, name_in(route.path, path)?)));
    let (route, id) = found
        .find(|(route, _)| route.method == *method)
        .ok_or_else(|| RequestError::no_route(*method, path))?;
    if route.path.contains('{') {
        check_id(id)?;
    }
    match method {
        Method::Get if !body.is_empty() => Err(RequestError::BodyOfGet),
        Method::Put | Method::Patch if body.is_empty() => Err(RequestError::NoBody(method.name())),
        _ => (route.parse)(id, body),
    }
}

/// What stands for `{…}` of `pattern` in `path`, or nothing where there is none; `None` if they differ otherwise.
fn name_in<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((prefix, _)) = pattern.split_once('{') else {
        return (path == pattern || path.strip_suffix('/') == Some(pattern)).then_some("");
    };
    let rest = path.strip_prefix(prefix).or_else(|| (path == prefix.trim_end_matches('/')).then_some(""))?;
    let name = rest.strip_suffix('/').unwrap_or(rest);
    (!name.contains('/')).then_some(name)
}

fn check_id(id: &str) -> Result<(), RequestError> {
    if id.is_empty() {
        return Err(RequestError::EmptyId);
    }
    if !id.chars().all(|c| c == '_' || c.is_alphanumeric()) {
        return Err(RequestError::BadId);
    }
    Ok(())
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    Ok(serde_json::from_slice(body)?)
}

/// The body, whose field `field` is to say the same name as the path.
fn named<'a>(id: &str, field: &str, body: &'a [u8]) -> Result<&'a [u8], RequestError> {
    let value: serde_json::Value = json(body)?;
    match value.get(field).and_then(serde_json::Value::as_str) {
        Some(name) if name != id => Err(RequestError::OtherId),
        _ => Ok(body),
    }
}

fn configure<T: DeserializeOwned>(part: fn(T) -> Part, body: &[u8]) -> Result<Action, RequestError> {
    Ok(Action::Configure(part(json(body)?)))
}

fn change<T: DeserializeOwned>(change: fn(T) -> Change, body: &[u8]) -> Result<Action, RequestError> {
    Ok(Action::Change(change(json(body)?)))
}

fn action(info: ActionInfo) -> Action {
    match info.action_type {
        ActionType::InstanceStart => Action::Start,
        ActionType::FlushMetrics => Action::FlushMetrics,
        ActionType::SendCtrlAltDel => Action::Change(Change::Stop),
    }
}

fn vm_state(update: VmUpdate) -> Change {
    match update.state {
        VmState::Paused => Change::Pause,
        VmState::Resumed => Change::Resume,
    }
}

fn load(body: &[u8]) -> Result<Action, RequestError> {
    let load: SnapshotLoad = json(body)?;
    load.memory()?;
    Ok(Action::Load(load))
}

fn absent(what: &'static str) -> RequestError {
    ModelError::NotAvailable(what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, body: &str) -> Result<Action, String> {
        let request = Request { method, path: path.into(), body: body.into(), closes: false };
        parse(&request).map_err(|error| error.to_string())
    }

    #[test]
    fn names_in_paths_are_checked() {
        let body = r#"{"drive_id": "a_1"}"#;
        let patch = |path: &str| ask(Method::Patch, path, body).map(|_| ());
        assert_eq!(patch("/drives/a_1"), Ok(()));
        assert_eq!(patch("/drives/a_1/"), Ok(()));
        for (path, wanted) in [
            ("/drives", "The ID cannot be empty."),
            ("/drives/", "The ID cannot be empty."),
            ("/drives/b", "does not match"),
            ("/drives/a-1", "alphanumeric"),
            ("/drives/a_1/x", "Invalid request method and/or path: PATCH /drives/a_1/x."),
            ("/drivesa_1", "Invalid request method"),
        ] {
            let error = patch(path).unwrap_err();
            assert!(error.contains(wanted), "{path}: {error}");
        }
    }

    #[test]
    fn only_questions_come_without_a_body() {
        assert_eq!(ask(Method::Get, "/", ""), Ok(Action::Describe));
        assert_eq!(ask(Method::Get, "/", "{}").unwrap_err(), "GET request cannot have a body.");
        assert_eq!(ask(Method::Put, "/actions", "").unwrap_err(), "Empty PUT request.");
        assert_eq!(ask(Method::Patch, "/vm", "").unwrap_err(), "Empty PATCH request.");
    }

    #[test]
    fn what_is_not_there_says_so() {
        for (method, path) in
            [(Method::Put, "/cpu-config"), (Method::Put, "/mmds"), (Method::Patch, "/balloon/hinting/start")]
        {
            let error = ask(method, path, "{}").unwrap_err();
            assert!(error.starts_with("this VMM does not have "), "{path}: {error}");
        }
    }

    #[test]
    fn fields_that_are_not_known_are_refused() {
        let error = ask(Method::Put, "/vsock", r#"{"guest_cid": 3, "uds_path": "v", "x": 1}"#).unwrap_err();
        assert!(error.contains("unknown field `x`"), "{error}");
    }
}
