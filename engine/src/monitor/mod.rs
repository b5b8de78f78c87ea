//! The monitor: one process per instance, which lives exactly as long as the instance.
//!
//! It is this binary, executed again by [`crate::launch`] with three descriptors: 0 is the connection to the client
//! that launched it, 1 holds the instance's lock, 2 is its log. It starts the app by its model, carries input, output
//! and signals, answers on the control socket, and records how the app ended. The virtual
//! machine monitor of a virtual machine is a child of it. It has one thread.
//!
//! ```text
//! starting ──► running ──► ended ──► cleaned up ──► last message sent, process ends
//!     └── failed ──────────────────────────▲
//! ```

mod clients;

use std::{os::fd::BorrowedFd, path::Path};

use agent::protocol::{Failure, FromAgent, ToAgent};
use rustix::event::{PollFd, PollFlags, poll};

use self::clients::Clients;
use crate::{
    control,
    engine::Engine,
    error::{EngineError, Result},
    events::Events,
    instance::Instance,
    model::{self, Running, Start},
    network,
};

/// Output that waits for clients before the app has to wait too, in bytes.
const HOLD_AT: usize = 1 << 20;

/// How the app ended.
enum End {
    /// It ran, and exited with this code.
    Exited(i32),
    /// It never ran, or could not go on.
    Failed(Failure),
}

/// Runs the monitor of an instance until the instance has ended. Descriptors 0 and 1 are taken over.
///
/// # Errors
/// When there is no such instance or its control socket cannot be made. What goes wrong later is told to the clients.
pub fn run(root: &Path, id: &str) -> Result<()> {
    // What `ps` shows; executed by way of /proc/self/exe it would be `exe`.
    if let Err(error) = rustix::thread::set_name(c"carve-monitor") {
        tracing::debug!(%error, "the monitor keeps its name");
    }
    let engine = Engine::open_as_is(root)?;
    let instance = engine.find(id)?;
    let (client, _lock) = clients::take_descriptors()?;
    let mut events = Events::open(instance.spec.events.as_deref())?;
    events.record("monitor.start");
    engine.database.set_monitor(&instance.id, std::process::id())?;
    let dir = std::fs::File::open(instance.dir()).map_err(EngineError::file("open", instance.dir()))?;
    let mut clients = Clients::new(&control::short_path(&dir, "control.sock"), client)?;

    let (end, ran) = supervise(&engine, &instance, &mut clients, &mut events);
    if let End::Exited(code) = &end {
        events.record_with("exited", "code", *code);
    }
    let cleaned = clean_up(&engine, &instance, &end, ran);
    if let Err(error) = &cleaned {
        tracing::error!(%error, "cannot clean up");
    }
    clients.finish(&match end {
        End::Exited(code) => FromAgent::Exited(code),
        End::Failed(failure) => FromAgent::Failed(failure),
    });
    cleaned
}

/// Starts the app and stays with it to its end. Also says whether the app ever ran.
fn supervise(
    engine: &Engine,
    instance: &Instance,
    clients: &mut Clients,
    events: &mut Events,
) -> (End, bool) {
    let failed = |error: &EngineError| {
        End::Failed(Failure { exit_code: error.exit_code(), message: error.to_string() })
    };
    let started = engine.images().and_then(|images| {
        let image = instance.image(&images)?;
        events.record("image.resolved");
        model::start(Start { engine, instance, image: &image, events })
    });
    let mut running = match started {
        Ok(running) => running,
        Err(error) => return (failed(&error), false),
    };
    let mut ran = false;
    let end =
        stay(engine, instance, running.as_mut(), clients, events, &mut ran).unwrap_or_else(|e| failed(&e));
    match (running.finish(), end) {
        (Err(error), End::Exited(code)) => {
            tracing::error!(%error, "cannot remove what was carved");
            (End::Exited(code), ran)
        }
        (_, end) => (end, ran),
    }
}

/// The loop: output to clients, input and signals to the app, until it ends.
fn stay(
    engine: &Engine,
    instance: &Instance,
    running: &mut dyn Running,
    clients: &mut Clients,
    events: &mut Events,
    ran: &mut bool,
) -> Result<End> {
    loop {
        let hold = clients.backlog() > HOLD_AT;
        for message in running.advance(hold, events)? {
            match message {
                FromAgent::Started(pid) => {
                    engine.database.set_running(&instance.id, running.init_pid())?;
                    events.record_with("app.started", "pid", running.init_pid().unwrap_or(pid));
                    *ran = true;
                    clients.broadcast(&message);
                }
                FromAgent::Exited(code) => return Ok(End::Exited(code)),
                FromAgent::Failed(failure) => return Ok(End::Failed(failure)),
                other => clients.broadcast(&other),
            }
        }
        wait(running, clients, clients.backlog() > HOLD_AT)?;
        for message in clients.advance() {
            running.tell(message)?;
        }
    }
}

fn wait(running: &dyn Running, clients: &Clients, hold: bool) -> Result<()> {
    let interests: Vec<(BorrowedFd<'_>, PollFlags)> =
        running.interests(hold).into_iter().chain(clients.interests()).collect();
    let mut fds: Vec<_> = interests.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(EngineError::Invalid(format!("cannot wait for the instance: {e}"))),
    }
}

/// Records the end and gives back what the instance had. One whose app never ran leaves nothing.
fn clean_up(engine: &Engine, instance: &Instance, end: &End, ran: bool) -> Result<()> {
    let (code, error) = match end {
        End::Exited(code) => (*code, None),
        End::Failed(failure) => (failure.exit_code, Some(failure.message.as_str())),
    };
    engine.database.set_exited(&instance.id, code, error)?;
    let released = match instance.spec.network {
        crate::NetworkMode::Bridge => network::release(engine),
        crate::NetworkMode::None => Ok(()),
    };
    if instance.spec.auto_remove || !ran {
        engine.destroy(&instance.id)?;
    }
    released
}

/// What a client may say reaches the app as it is, but for what only an engine says to an agent.
fn is_for_the_app(message: &ToAgent) -> bool {
    !matches!(message, ToAgent::Start(_))
}
