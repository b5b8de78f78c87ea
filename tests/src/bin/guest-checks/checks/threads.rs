//! Threads have their own FS base and wake each other.

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::thread;

use super::{Outcome, expect};

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(0) };
}

/// A variable by the FS base, across many switches between threads.
pub(crate) fn have_variables_of_their_own() -> Outcome {
    let work = |thread: u64| {
        OWN.set(thread << 32);
        for step in 0..500 {
            thread::yield_now();
            if OWN.replace((thread << 32) + step + 1) != (thread << 32) + step {
                return Err(format!("thread {thread}, step {step}: another thread's variable"));
            }
        }
        Ok(())
    };
    let threads: Vec<_> = (1..=4).map(|number| thread::spawn(move || work(number))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
}

/// A token goes round a ring of threads, each asleep until it comes.
pub(crate) fn wait_for_each_other() -> Outcome {
    const ROUNDS: u64 = 200;
    let (first, mut inbox) = channel::<u64>();
    let mut threads = Vec::new();
    for _ in 0..3 {
        let (next, its_inbox) = channel();
        let inbox = std::mem::replace(&mut inbox, its_inbox);
        threads.push(thread::spawn(move || inbox.iter().try_for_each(|token| next.send(token + 1))));
    }
    let mut token = 0;
    for round in 0..ROUNDS {
        token = first.send(token).ok().and_then(|()| inbox.recv().ok()).ok_or("the ring is broken")?;
        expect(token == 3 * (round + 1), || format!("round {round}: the token is {token}"))?;
    }
    drop(first);
    threads.into_iter().try_for_each(|thread| {
        thread.join().map_err(|_| "a thread panicked".to_owned())?.map_err(|error| error.to_string())
    })
}
