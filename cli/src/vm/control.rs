//! Clients of a machine's control socket: `carve vm pause`, `resume`, `stop`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use vmm::api::Client;

use crate::exit::Exit;

/// How long a machine may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The flag that names the machine.
#[derive(Debug, clap::Args)]
pub(super) struct Control {
    /// The machine's control socket
    #[arg(long, value_name = "PATH")]
    api_sock: PathBuf,
}

impl Control {
    /// The machine's client.
    pub(super) fn client(&self) -> Client {
        Client::new(&self.api_sock)
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carve vm pause --api-sock /tmp/vm.sock\n  carve vm resume --api-sock /tmp/vm.sock"
)]
pub(super) struct Args {
    #[command(flatten)]
    control: Control,
}

/// Has the guest stand still.
pub(super) fn pause(args: &Args) -> anyhow::Result<Exit> {
    args.control.client().patch("/vm", &json!({ "state": "Paused" }))?;
    Ok(Exit::Success)
}

/// Lets it go on.
pub(super) fn resume(args: &Args) -> anyhow::Result<Exit> {
    args.control.client().patch("/vm", &json!({ "state": "Resumed" }))?;
    Ok(Exit::Success)
}

/// Ends it, as pulling the plug does.
pub(super) fn stop(args: &Args) -> anyhow::Result<Exit> {
    let client = args.control.client();
    client.put("/actions", &json!({ "action_type": "SendCtrlAltDel" }))?;
    ensure!(
        client.wait_until_gone(PATIENCE),
        "the machine has not ended within {} seconds; kill its process",
        PATIENCE.as_secs()
    );
    Ok(Exit::Success)
}
